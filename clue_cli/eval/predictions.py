"""Another method's maps in a folder, found by the names of the images they belong to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.evidence.identity import sha256_file
from model.datasets.registry import DATASETS
from model.datasets.sample import Kind, Problem, Sample
from model.images.folders import files_below, is_file
from model.images.maps import SUFFIXES
from model.images.pairing import Index


class PredictionFolder:
    """The maps of one set.

    A map is named like its image: by the whole path below the set's folder with the image's extension, or without it,
    or by the last part alone with it, or without (`Tp/a.jpg`: `Tp/a.jpg.npy`, `Tp/a.png`, `a.jpg.npy`, `a.png`). Where
    a name could mean several images, it means the one that it says most of; if that are several, none.

    Args:
        folder: the maps, or a folder that holds one folder for each set.
        name: of the set, or its path.
        entries: all images of the set.

    Attributes:
        folder: where the maps were looked for.
        surplus: maps that belong to no image, and folders that are not read.
        missing: images of the set that have no map, or several.

    Raises:
        NothingToScanError: no such folder, or it holds no map.
        UsageError: a map is a mask of the set.
    """

    def __init__(self, folder: Path, name: str, entries: Iterable[Sample]) -> None:
        if not folder.is_dir():
            raise NothingToScanError(
                f"There is no folder {folder}.",
                "--predictions names a folder of PNG or NPY maps, named like the images.",
            )
        # A set that was given as a path goes by its last part
        own = folder / (name if name in DATASETS else Path(os.path.realpath(name)).name)
        self.folder = own if own.is_dir() else folder
        unread: list[Problem] = []

        def failed(path: Path, why: str) -> None:
            name = path.relative_to(self.folder.parent).as_posix()
            unread.append(Problem(Kind.FOLDER_UNREADABLE, name, why))

        kinds: dict[bool, list[tuple[str, Path]]] = {True: [], False: []}
        for path in sorted(files_below(self.folder, failed)):
            named = path.relative_to(self.folder).with_suffix("").as_posix()
            kinds[path.suffix.lower() in SUFFIXES and is_file(path)].append((named, path))
        self._maps, self._others = Index(kinds[True]), Index(kinds[False])
        if not kinds[True]:
            raise NothingToScanError(
                f"{self.folder} holds no map.", "Maps are .npy or one-channel .png, named like the images."
            )
        entries = list(entries)
        self._owners = _owners(entries)
        self._of = {entry.key: self._find(entry) for entry in entries}
        _check_no_mask({path for paths in self._of.values() for path in paths}, entries)
        self.surplus = unread + [
            Problem(Kind.MAP_WITHOUT_IMAGE, path.relative_to(self.folder).as_posix()) for path in self._maps.unused()
        ]
        lacking = [entry for entry in entries if len(self._of[entry.key]) != 1]
        self.missing = [Problem(Kind.MAP_MISSING, entry.key, self.find(entry)[1]) for entry in lacking]

    def find(self, entry: Sample) -> tuple[Path | None, str]:
        """The map of an image, or None and why not."""
        paths = self._of[entry.key]
        if len(paths) == 1:
            return paths[0], ""
        if paths:
            return None, f"{len(paths)} maps are named like it"
        others = self._others.find(self._names(entry))
        return None, f"{others[0].name} is no .npy or .png file" if others else ""

    def digest(self) -> str:
        """SHA-256, hex, over the names and contents of all maps. A map that cannot be read counts as such."""
        total = hashlib.sha256(b"clue maps 1\n")
        for stem, paths in sorted(self._maps.by_name.items()):
            for path in paths:
                try:
                    content = sha256_file(path)
                except OSError:
                    content = "unreadable"
                total.update(f"{stem!a} {path.suffix} {content}\n".encode())
        return total.hexdigest()

    def _find(self, entry: Sample) -> list[Path]:
        return self._maps.find(self._names(entry))

    def _names(self, entry: Sample) -> list[str]:
        """Those that mean this image alone, the one that says most first."""
        return [name for name in _names_of(entry) if self._owners[name] == entry.key]


def _names_of(entry: Sample) -> list[str]:
    key = PurePosixPath(entry.key)
    return list(dict.fromkeys([entry.key, key.with_suffix("").as_posix(), key.name, key.stem]))


def _owners(entries: list[Sample]) -> dict[str, str | None]:
    """Which image each name means; None: several."""
    owners: dict[str, str | None] = {}
    fewest_dropped: dict[str, int] = {}
    for entry in entries:
        for dropped, name in enumerate(_names_of(entry)):
            if dropped < fewest_dropped.get(name, dropped + 1):
                owners[name], fewest_dropped[name] = entry.key, dropped
            elif dropped == fewest_dropped[name]:
                owners[name] = None
    return owners


def _check_no_mask(maps: set[Path], entries: list[Sample]) -> None:
    masks = {os.path.realpath(mask) for entry in entries for mask in entry.masks}
    wrong = next((path for path in sorted(maps) if os.path.realpath(path) in masks), None)
    if wrong is not None:
        raise UsageError(
            f"{wrong} is ground truth of the set, not a prediction.", "Name the folder of the method's own maps."
        )
