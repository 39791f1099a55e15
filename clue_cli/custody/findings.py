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


class Findings:
    """All findings of a verification. A context manager."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.executescript("CREATE TABLE found (area, kind, path, detail); BEGIN")
        self.counts: Counter[Kind] = Counter()

    def __enter__(self) -> Findings:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    @property
    def differences(self) -> int:
        """How many findings are differences."""
        return sum(number for kind, number in self.counts.items() if kind not in NO_DIFFERENCE)

    def add(self, area: str, kind: Kind, path: str, detail: str) -> None:
        """Add a finding."""
        self.counts[kind] += 1
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self._rows.execute("INSERT INTO found VALUES (?, ?, ?, ?)", (area, kind.value, shown, detail))

    def all(self, kind: Kind | None = None, most: int | None = None) -> Iterator[Found]:
        """The findings in the order in which they were made; of one kind, and the first of them alone."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind.value,))
        limit = "" if most is None else f" LIMIT {most}"
        for area, value, path, detail in self._rows.execute(
            f"SELECT * FROM found{where} ORDER BY rowid{limit}", values
        ):
            yield Found(area, Kind(value), path, detail)
