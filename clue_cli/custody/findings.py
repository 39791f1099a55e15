"""What a verification found: differences, and what was noticed beside them. Spilled to disk, so that memory is flat."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is the matter with a file."""

    CHANGED = "changed"
    """Its content is another one than recorded."""
    MISSING = "missing"
    ADDED = "added"
    """It is there, and nothing that clue recorded says so."""
    MOVED = "moved"
    """Evidence is under another name, with the same content."""
    UNREADABLE = "unreadable"
    """It could not be compared."""
    CONTRADICTION = "contradiction"
    """Two files of the results say different things about it."""
    SIGNATURE = "signature"
    """The signature, or the time stamp, is not one of this manifest."""
    AFTERWARDS = "afterwards"
    """Clue wrote it after the manifest, by its own account: no difference."""
    SYSTEM = "system"
    """A desktop leaves such files in every folder: no difference."""


NO_DIFFERENCE = frozenset({Kind.AFTERWARDS, Kind.SYSTEM})


@dataclass(frozen=True, slots=True)
class Found:
    """One finding.

    Attributes:
        area: `manifest`, `results` or `evidence`.
        path: relative to the results folder, or the locator of evidence; may be hostile.
        detail: what it is, in words.
    """

    area: str
    kind: Kind
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Move:
    """What files under another name have in common.

    Attributes:
        source: folder in which they were recorded, a part of their locators; empty: above them all.
        target: folder in which they are now, with the rest of their names as it was.
        files: how many they are.
    """

    source: str
    target: str
    files: int


_COMMON = "FROM found WHERE target IS NOT NULL GROUP BY source, target HAVING count(*) > 1"


class Findings:
    """All findings of a verification. A context manager."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.executescript("CREATE TABLE found (area, kind, path, detail, source, target); BEGIN")
        self.counts: Counter[Kind] = Counter()

    def __enter__(self) -> Findings:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    @property
    def differences(self) -> int:
        """How many findings are differences."""
        return sum(number for kind, number in self.counts.items() if kind not in NO_DIFFERENCE)

    def add(self, area: str, kind: Kind, path: str, detail: str, move: tuple[str, str] | None = None) -> None:
        """Add a finding.

        Args:
            move: of evidence under another name: what its name began with and begins with now, as of `places.move`.
        """
        self.counts[kind] += 1
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        row = (area, kind.value, shown, detail, *(move or (None, None)))
        self._rows.execute("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?)", row)

    def all(self, kind: Kind | None = None, most: int | None = None) -> Iterator[Found]:
        """The findings in the order in which they were made; of one kind, and the first of them alone."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind.value,))
        return self._found(where, values, most)

    def moves(self, most: int) -> Iterator[Move]:
        """The moves that two files or more have in common, those of most files first."""
        query = f"SELECT source, target, count(*) {_COMMON} ORDER BY count(*) DESC, source, target LIMIT ?"
        for source, target, count in self._rows.execute(query, (most,)):
            yield Move(source, target, count)

    def moved_alone(self, most: int) -> Iterator[Found]:
        """The first of the files under another name whose move no other file shares, in their order."""
        alone = f"target IS NULL OR (source, target) NOT IN (SELECT source, target {_COMMON})"
        return self._found(f" WHERE kind = ? AND ({alone})", (Kind.MOVED.value,), most)

    def _found(self, where: str, values: tuple[str, ...], most: int | None) -> Iterator[Found]:
        limit = "" if most is None else f" LIMIT {most}"
        query = f"SELECT area, kind, path, detail FROM found{where} ORDER BY rowid{limit}"
        for area, value, path, detail in self._rows.execute(query, values):
            yield Found(area, Kind(value), path, detail)
