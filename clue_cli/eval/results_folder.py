"""The results folder: one measurement at a time writes there, and only where nothing of others lies.

measurements.jsonl   what was measured, append-only (`measurements`)
per_image.csv        the same for a spreadsheet
results.json         all figures (`results`), written last
index.html           all of it on one page; plots/ and contact/ hold its pictures as files
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from clue_cli.errors import OutputError
from clue_cli.eval.results import LOG, RESULTS
from clue_cli.scan.folder import OutputFolder, output_errors

LOCK = ".clue-eval.lock"
PER_IMAGE, PAGE = "per_image.csv", "index.html"
PLOTS, CONTACT = "plots", "contact"
_PICTURES = {PLOTS: ".svg", CONTACT: ".jpg"}
_OURS = {LOG, RESULTS, PER_IMAGE, PAGE, *_PICTURES, LOCK, ".tmp", ".DS_Store", "Thumbs.db", "desktop.ini"}


class ResultsFolder:
    """Where a measurement is written.

    Args:
        path: the folder; it is made when it is used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = OutputFolder(path)

    @property
    def log(self) -> Path:
        """Of what was measured."""
        return self.path / LOG

    @contextmanager
    def in_use(self, *, overwrite: bool = False) -> Iterator[None]:
        """Make and lock it.

        Args:
            overwrite: remove what earlier measurements wrote there.

        Raises:
            OutputError: it cannot be written, is in use, or holds something else.
        """
        with output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = sorted(path.name for path in self.path.iterdir() if path.name not in _OURS)
        if foreign:
            raise OutputError(
                f"{self.path} holds something else than results of clue eval: {foreign[0]}.",
                "Nothing was changed there. Choose a new or an empty folder with --out.",
            )
        lock = FileLock(self.path / LOCK, thread_local=False)
        with output_errors(self.path):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise OutputError(
                    f"Another measurement is writing to {self.path}.", "Wait until it is done, or choose another --out."
                ) from error
        try:
            self._files.clear_temporary()
            if overwrite:
                self._clear()
            yield
            self._files.clear_temporary()
        finally:
            lock.release()

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file that appears in its place, whole, when the block ends without an exception."""
        return self._files.create(name)

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        with self._files.create(name) as stream:
            stream.write(content)

    def replace_pictures(self, folder: str, files: dict[str, bytes]) -> None:
        """Write the files of `PLOTS` or `CONTACT`, and remove those of an earlier measurement."""
        self._clear_pictures(folder, keep=set(files))
        for name, content in files.items():
            self.write(f"{folder}/{name}", content)

    def _clear_pictures(self, folder: str, keep: set[str]) -> None:
        where = self.path / folder
        with output_errors(where):
            stale = sorted(path.name for path in where.glob(f"*{_PICTURES[folder]}")) if where.is_dir() else []
        for name in stale:
            if name not in keep:
                self._files.remove(f"{folder}/{name}", below=(folder,))

    def _clear(self) -> None:
        """What earlier measurements wrote here, and only that."""
        for folder in _PICTURES:
            self._clear_pictures(folder, set())
        for name in (RESULTS, PAGE, PER_IMAGE, LOG):
            self._files.remove(name)
