"""`records.jsonl`: what was found in each image, or why it failed.

Of one locator, the records of the latest run that wrote about it are the current ones, older lines are history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from clue_cli.records import RECORD, FailureRecord, ImageRecord
from clue_cli.results import names
from clue_cli.results.log import IndexedLog

MASKS = "masks"
"""The folder of the masks; every image has one, so that its name tells which output name the image was given."""

_WHOLE_FILE = -1
_BATCH = 1000


class RecordLog(IndexedLog[ImageRecord | FailureRecord]):
    """The log of one scan's results folder; arguments and errors as of `IndexedLog`."""

    tables = """
        CREATE TABLE line (
            locator TEXT, page INTEGER, start INTEGER, length INTEGER, run INTEGER, met INTEGER,
            outdated INTEGER DEFAULT 0, PRIMARY KEY (locator, page)
        ) WITHOUT ROWID;
        CREATE TABLE name (key BLOB PRIMARY KEY, locator TEXT) WITHOUT ROWID;
    """

    def __init__(self, path: Path, torn: Path | None = None, *, read_only: bool = False) -> None:
        self._run, self._run_id = 0, ""
        super().__init__(path, torn, read_only=read_only)
        # Lines written from here on are of a new run.
        self._run += 1
        self._index.execute("UPDATE line SET met = 0")

    @property
    def warnings(self) -> list[str]:
        """What was found wrong with the log when it was opened to be written."""
        found = []
        if self.torn:
            found.append(
                f"The last line of {self._path.name} was torn, as a crash leaves it; it is kept in "
                f"{self._path.with_suffix('.torn').name} and its image is scanned again."
            )
        if self.damaged:
            shown = ", ".join(map(str, self.damaged[:10])) + (", …" if len(self.damaged) > 10 else "")
            found.append(
                f"{len(self.damaged)} lines of {self._path.name} are damaged and were ignored (line {shown}); "
                "what they were about is scanned again if it is still there."
            )
        return found

    def append(self, record: ImageRecord | FailureRecord) -> None:
        """Append one line; afterwards the locator's records of earlier runs are history.

        Raises:
            OSError: the disk is full or gone; the log is as it was before.
        """
        self._append(record, record.model_dump_json().encode())

    def current(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The current records of one locator, by page; those for the whole file come first."""
        with self._lock:
            rows = self._index.execute(
                "SELECT start, length FROM line WHERE locator = ? ORDER BY page", (locator,)
            ).fetchall()
        return [self._at(start, length) for start, length in rows]

    def outdate(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The records of earlier runs that a new record of this locator will replace; each is returned once."""
        with self._lock:
            rows = self._index.execute(
                "UPDATE line SET outdated = 1 WHERE locator = ? AND run <> ? AND NOT outdated RETURNING start, length",
                (locator, self._run),
            ).fetchall()
        return [self._at(start, length) for start, length in rows]

    def keep(self, locator: str) -> None:
        """Note that this run met the locator and takes its records over."""
        with self._lock:
            self._index.execute("UPDATE line SET met = 1 WHERE locator = ?", (locator,))

    def not_met(self) -> int:
        """How many current records belong to evidence that this run did not meet."""
        with self._lock:
            (count,) = self._index.execute("SELECT count(*) FROM line WHERE met = 0").fetchone()
        return int(count)

    def records(self) -> Iterator[tuple[ImageRecord | FailureRecord, bool]]:
        """All current records by locator and page, each with whether this run met it. Memory does not grow."""
        after: tuple[str, int] = ("", _WHOLE_FILE - 1)
        while True:
            with self._lock:
                rows = self._index.execute(
                    "SELECT locator, page, start, length, met FROM line WHERE (locator, page) > (?, ?) "
                    "ORDER BY locator, page LIMIT ?",
                    (*after, _BATCH),
                ).fetchall()
            for _, _, start, length, met in rows:
                yield self._at(start, length), bool(met)
            if not rows:
                return
            after = rows[-1][:2]

    def history(self) -> Iterator[ImageRecord | FailureRecord]:
        """Every readable record that was ever logged, in the order of the log."""
        return filter(None, map(self._parse, self._lines()))

    def take_name(self, name: PurePosixPath, locator: str) -> bool:
        """Reserve an output name for a locator.

        False if another locator has it, or has one that some file system takes for the same.
        """
        hashed = hashlib.sha256(names.caseless(name).encode()).digest()
        with self._lock:
            self._index.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (hashed, locator))
            (owner,) = self._index.execute("SELECT locator FROM name WHERE key = ?", (hashed,)).fetchone()
        return bool(owner == locator)

    def _parse(self, line: bytes) -> ImageRecord | FailureRecord | None:
        try:
            return RECORD.validate_json(line)
        except ValidationError:
            return None

    def _load(self, record: ImageRecord | FailureRecord, start: int, length: int) -> None:
        if record.run_id != self._run_id or not self._run:
            self._run_id = record.run_id
            self._run += 1
        self._enter(record, start, length)
        if isinstance(record, ImageRecord) and not self._read_only:
            self._reserve_name_of(record)

    def _enter(self, record: ImageRecord | FailureRecord, start: int, length: int) -> None:
        page = _WHOLE_FILE if record.page is None else record.page
        self._index.execute("DELETE FROM line WHERE locator = ? AND run <> ?", (record.locator, self._run))
        self._index.execute(
            "INSERT OR REPLACE INTO line (locator, page, start, length, run, met) VALUES (?, ?, ?, ?, ?, 1)",
            (record.locator, page, start, length, self._run),
        )

    def _reserve_name_of(self, record: ImageRecord) -> None:
        """Reserve the output name that an earlier run chose, so that no other locator gets it in this one."""
        for length in (0, *names.HASH_LENGTHS):
            chosen = names.mirrored(record.locator, record.page, record.page_count, ".png", length)
            if record.outputs.mask == f"{MASKS}/{chosen}":
                self.take_name(names.stem(record.locator, hash_length=length), record.locator)
                return
