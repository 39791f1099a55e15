"""The folder that `clue eval` writes to: one measurement at a time, and only where nothing foreign lies.

measurements.jsonl   what was measured, append-only (`measurements`)
per_image.csv        the same for a spreadsheet
results.json         all figures (`results`), written last
index.html           all of it on one page; plots/ and contact/ hold its pictures as files
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clue_cli.errors import OutputError
from clue_cli.eval.results import LOG, RESULTS
from clue_cli.results.folder import ResultsFolder, output_errors

LOCK = ".clue-eval.lock"
PER_IMAGE, PAGE = "per_image.csv", "index.html"
PLOTS, CONTACT = "plots", "contact"
_PICTURES = {PLOTS: ".svg", CONTACT: ".jpg"}
_OURS = {LOG, RESULTS, PER_IMAGE, PAGE, *_PICTURES, LOCK}


class EvalFolder(ResultsFolder):
    """Where a measurement is written; `in_use` makes it."""

    @property
    def log(self) -> Path:
        """Of what was measured."""
        return self.root / LOG

    @contextmanager
    def in_use(self, *, overwrite: bool = False) -> Iterator[None]:
        """Make and lock it.

        Args:
            overwrite: remove what earlier measurements wrote there.

        Raises:
            OutputError: it cannot be written, is in use, or holds something else.
        """
        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = self.foreign(_OURS)
        if foreign is not None:
            raise OutputError(
                f"{self.root} holds something else than results of clue eval: {foreign}.",
                "Nothing was changed there. Choose a new or an empty folder with --out.",
            )
        self.lock(LOCK, f"Another measurement is writing to {self.root}.")
        try:
            if overwrite:
                self._clear()
            yield
        finally:
            self.release()

    def replace_pictures(self, folder: str, files: dict[str, bytes]) -> None:
        """Write the files of `PLOTS` or `CONTACT`, and remove those of an earlier measurement."""
        self._clear_pictures(folder, keep=set(files))
        for name, content in files.items():
            self.write(f"{folder}/{name}", content)

    def _clear_pictures(self, folder: str, keep: set[str]) -> None:
        where = self.root / folder
        with output_errors(where):
            stale = sorted(path.name for path in where.glob(f"*{_PICTURES[folder]}")) if where.is_dir() else []
        for name in stale:
            if name not in keep:
                self.remove(f"{folder}/{name}", below=(folder,))

    def _clear(self) -> None:
        """What earlier measurements wrote here, and only that."""
        for folder in _PICTURES:
            self._clear_pictures(folder, set())
        for name in (RESULTS, PAGE, PER_IMAGE, LOG):
            self.remove(name)
