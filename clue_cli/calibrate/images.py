"""Which pictures below the given paths count: of lists and of what `clue forge` wrote, the images of one class."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from clue_cli.errors import UsageError
from model.config import ConfigError
from model.datasets.own import find_list
from model.datasets.sample import Sample
from model.images.folders import FORGE_LOG, is_file, is_forge_output
from model.images.lists import LIST_SUFFIXES


def expanded(paths: Iterable[Path], *, forged: bool) -> list[Path]:
    """The paths; in place of each list, its images of one class.

    Raises:
        UsageError: a list cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix.lower() in LIST_SUFFIXES and is_file(path):
            found += [sample.image for sample in _samples(path) if sample.forged == forged]
        else:
            found.append(path)
    return found


class ForgeOutputs:
    """Tells the images that count from the others in the folders that `clue forge` wrote.

    Args:
        forged: whether its forgeries count, or its authentic pictures. Its masks never do.

    Attributes:
        notes: what was left out of each such folder, in words.
    """

    def __init__(self, *, forged: bool) -> None:
        self._forged = forged
        self.notes: list[str] = []
        self._home, self._wanted = cache(self._find_home), cache(self._find_wanted)

    def counts(self, path: Path) -> bool:
        """Whether a file counts; all do that lie elsewhere.

        Raises:
            UsageError: the list of such a folder cannot be read.
        """
        home = self._home(Path(os.path.realpath(path.parent)))
        return home is None or os.path.realpath(path) in self._wanted(home)

    def _find_home(self, folder: Path) -> Path | None:
        if is_forge_output(folder) and is_file(folder / FORGE_LOG):
            return folder
        return None if folder == folder.parent else self._home(folder.parent)

    def _find_wanted(self, home: Path) -> frozenset[str]:
        samples = _samples(home / FORGE_LOG)
        wanted = [sample for sample in samples if sample.forged == self._forged]
        kind, other = ("forged", "authentic") if self._forged else ("authentic", "forged")
        self.notes.append(
            f"{home}: made by `clue forge`; of its images the {len(wanted):,} {kind} ones count, neither its masks nor "
            f"the {len(samples) - len(wanted):,} {other} ones."
        )
        return frozenset(os.path.realpath(sample.image) for sample in wanted)


def _samples(path: Path) -> list[Sample]:
    try:
        return find_list(path).samples
    except ConfigError as error:
        raise UsageError(f"{error}.", "`clue calibrate` takes the lists that `clue eval` takes.") from error
