"""Another method's maps in a folder, found by the names of the images they belong to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from clue_cli.errors import NothingToScanError
from clue_cli.evidence.identity import sha256_file
from model.evaluation import Entry, Kind, Problem
from model.evaluation.layouts import files_below, is_file
from model.evaluation.maps import SUFFIXES


class PredictionFolder:
    """The maps of one set.

    A map is named like its image: the whole path below the set's folder with the image's extension, or, where that
    names one image only, without it, or the stem alone (`Tp/a.jpg`: `Tp/a.jpg.npy`, `Tp/a.png`, `a.npy`).

    Args:
        folder: the maps, or a folder that holds one folder for each set.
        name: of the set.
        entries: all images of the set.

    Attributes:
        folder: where the maps were looked for.
        surplus: maps that belong to no image, and folders that are not read.
        missing: images of the set that have no map, or several.

    Raises:
        NothingToScanError: no such folder, or it holds no map.
    """

    def __init__(self, folder: Path, name: str, entries: Iterable[Entry]) -> None:
        if not folder.is_dir():
            raise NothingToScanError(
                f"There is no folder {folder}.",
                "--predictions names a folder of PNG or NPY maps, named like the images.",
            )
        own = folder / Path(os.path.realpath(name)).name  # a set that was given as a path goes by its last part
        self.folder = own if own.is_dir() else folder
        self._maps: dict[str, list[Path]] = {}
        unread: list[Problem] = []
        for path in sorted(files_below(self.folder, unread)):
            if path.suffix.lower() in SUFFIXES and is_file(path):
                inside = path.relative_to(self.folder)
                self._maps.setdefault(inside.with_suffix("").as_posix(), []).append(path)
        if not self._maps:
            raise NothingToScanError(
                f"{self.folder} holds no map.", "Maps are .npy or one-channel .png, named like the images."
            )
        entries = list(entries)
        keys = [PurePosixPath(entry.key) for entry in entries]
        self._shared = _repeated([key.stem for key in keys])
        self._shared_paths = _repeated([key.with_suffix("").as_posix() for key in keys])
        self._of = {entry.key: self._find(entry) for entry in entries}
        used = {path for paths in self._of.values() for path in paths}
        self.surplus = unread + [
            Problem(Kind.MAP_WITHOUT_IMAGE, path.relative_to(self.folder).as_posix())
            for paths in self._maps.values()
            for path in paths
            if path not in used
        ]
        lacking = [entry for entry in entries if len(self._of[entry.key]) != 1]
        self.missing = [Problem(Kind.MAP_MISSING, entry.key, self.find(entry)[1]) for entry in lacking]

    def find(self, entry: Entry) -> tuple[Path | None, str]:
        """The map of an image, or None and why not."""
        paths = self._of[entry.key]
        if len(paths) == 1:
            return paths[0], ""
        return None, f"{len(paths)} maps are named like it" if paths else ""

    def digest(self) -> str:
        """SHA-256, hex, over the names and contents of all maps. A map that cannot be read counts as such."""
        total = hashlib.sha256(b"clue maps 1\n")
        for stem, paths in sorted(self._maps.items()):
            for path in paths:
                try:
                    content = sha256_file(path)
                except OSError:
                    content = "unreadable"
                total.update(f"{stem!a} {path.suffix} {content}\n".encode())
        return total.hexdigest()

    def _find(self, entry: Entry) -> list[Path]:
        key = PurePosixPath(entry.key)
        names, path = [entry.key], key.with_suffix("").as_posix()
        if path not in self._shared_paths:
            names.append(path)
        if key.stem not in self._shared:
            names += [key.name, key.stem]
        return next((self._maps[name] for name in names if name in self._maps), [])


def _repeated(words: list[str]) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()
    for word in words:
        (again if word in seen else seen).add(word)
    return again
