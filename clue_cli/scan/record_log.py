"""`records.jsonl`: the append-only log of a results folder, and an index over it that needs no memory.

A line is appended in one piece; what a crash or a full disk left of a torn line is set aside when the log is opened
the next time. Nothing is ever changed in place: of one locator, the records of the latest run that wrote about it
are the current ones, older lines are history. The index lives in a private, temporary SQLite database, which
spills to disk by itself: ten million records need no more memory than ten.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from clue_cli.errors import OutputError
from clue_cli.scan import names
from clue_cli.scan.records import RECORD, FailureRecord, ImageRecord

SYNC_SECONDS = 2.0
"""How much of the log a power failure may cost. A crash of clue alone costs at most the line being written."""

MASKS = "masks"
"""The folder of the masks; every image has one, so that its name tells which output name the image was given."""

_WHOLE_FILE = -1
_BATCH = 1000

_TABLES = """
CREATE TABLE line (
    locator TEXT, page INTEGER, start INTEGER, length INTEGER, run INTEGER, met INTEGER, outdated INTEGER DEFAULT 0,
    PRIMARY KEY (locator, page)
) WITHOUT ROWID;
CREATE TABLE name (key BLOB PRIMARY KEY, locator TEXT) WITHOUT ROWID;
"""


class RecordLog:
    """The log of one results folder. Thread-safe; one process at a time (the store holds the lock).

    Args:
        path: of `records.jsonl`; made if it does not exist.
        torn: the file to which a torn last line is moved.

    Attributes:
        warnings: what was found wrong with the log when it was opened.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, torn: Path) -> None:
        self.warnings: list[str] = []
        self._path = path
        self._lock = threading.RLock()
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # "": a private database in a temporary file, gone when it is closed.
            self._index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            self._index.executescript(_TABLES)
            self._set_torn_line_aside(torn)
            self._end = 0
            self._run = 0
            self._read_all()
        except BaseException:
            os.close(self._fd)
            raise
        # Lines written from here on are of a new run.
        self._run += 1
        self._index.execute("UPDATE line SET met = 0")
        self._synced = time.monotonic()

    def append(self, record: ImageRecord | FailureRecord) -> None:
        """Append one line; afterwards the locator's records of earlier runs are history.

        Raises:
            OSError: the disk is full or gone; the log is as it was before.
        """
        line = record.model_dump_json().encode() + b"\n"
        with self._lock:
            self._write(line)
            self._enter(record, len(line))
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()

    def current(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The current records of one locator, by page; those for the whole file come first."""
        with self._lock:
            rows = self._index.execute(
                "SELECT start, length FROM line WHERE locator = ? ORDER BY page", (locator,)
            ).fetchall()
        return [self._parse_known(start, length) for start, length in rows]

    def outdate(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The records of earlier runs that a new record of this locator will replace; each is returned once."""
        with self._lock:
            rows = self._index.execute(
                "UPDATE line SET outdated = 1 WHERE locator = ? AND run <> ? AND NOT outdated RETURNING start, length",
                (locator, self._run),
            ).fetchall()
        return [self._parse_known(start, length) for start, length in rows]

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
                yield self._parse_known(start, length), bool(met)
            if not rows:
                return
            after = rows[-1][:2]

    def history(self) -> Iterator[ImageRecord | FailureRecord]:
        """Every readable record that was ever logged, in the order of the log."""
        for _, line in self._lines():
            if (record := _parse(line)) is not None:
                yield record

    def take_name(self, name: PurePosixPath, locator: str) -> bool:
        """Reserve an output name for a locator.

        False if another locator has it, or has one that some file system takes for the same.
        """
        hashed = hashlib.sha256(names.caseless(name).encode()).digest()
        with self._lock:
            self._index.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (hashed, locator))
            (owner,) = self._index.execute("SELECT locator FROM name WHERE key = ?", (hashed,)).fetchone()
        return bool(owner == locator)

    def sync(self) -> None:
        """Force what was written to the disk.

        Raises:
            OSError: the disk is gone.
            OutputError: the log is no longer where it was; what is written now would be lost.
        """
        with self._lock:
            os.fsync(self._fd)
            self._check_in_place()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; harmless when repeated."""
        with self._lock:
            if self._fd < 0:
                return
            descriptor, self._fd = self._fd, -1
            self._index.close()
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            os.ftruncate(self._fd, self._end)
            raise

    def _enter(self, record: ImageRecord | FailureRecord, length: int) -> None:
        page = _WHOLE_FILE if record.page is None else record.page
        self._index.execute("DELETE FROM line WHERE locator = ? AND run <> ?", (record.locator, self._run))
        self._index.execute(
            "INSERT OR REPLACE INTO line (locator, page, start, length, run, met) VALUES (?, ?, ?, ?, ?, 1)",
            (record.locator, page, self._end, length, self._run),
        )
        self._end += length

    def _check_in_place(self) -> None:
        try:
            in_place = os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise OutputError(
                f"{self._path.name} was deleted or moved by another program while clue was using it.",
                "Leave the results folder alone during a scan, and run the command again.",
            )

    def _set_torn_line_aside(self, torn: Path) -> None:
        size = os.fstat(self._fd).st_size
        keep = size
        while keep:
            start = max(0, keep - 65536)
            newline = os.pread(self._fd, keep - start, start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep == size:
            return
        with torn.open("ab") as aside:
            for start in range(keep, size, 1 << 20):
                aside.write(os.pread(self._fd, min(1 << 20, size - start), start))
            aside.write(b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        os.ftruncate(self._fd, keep)
        self.warnings.append(
            f"The last line of {self._path.name} was torn, as a crash leaves it; it is kept in {torn.name} "
            "and its image is scanned again."
        )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as log:
            yield from enumerate(log, start=1)

    def _read_all(self) -> None:
        run_id, damaged = None, []
        self._index.execute("BEGIN")
        for number, line in self._lines():
            record = _parse(line)
            if record is None:
                damaged.append(number)
                self._end += len(line)
                continue
            if record.run_id != run_id:
                run_id = record.run_id
                self._run += 1
            self._enter(record, len(line))
            if isinstance(record, ImageRecord):
                self._reserve_name_of(record)
        self._index.execute("COMMIT")
        if damaged:
            shown = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
            self.warnings.append(
                f"{len(damaged)} lines of {self._path.name} are damaged and were ignored (line {shown}); "
                "what they were about is scanned again if it is still there."
            )

    def _reserve_name_of(self, record: ImageRecord) -> None:
        """Reserve the output name that an earlier run chose, so that no other locator gets it in this one."""
        for length in (0, *names.HASH_LENGTHS):
            chosen = names.mirrored(record.locator, record.page, record.page_count, ".png", length)
            if record.outputs.mask == f"{MASKS}/{chosen}":
                self.take_name(names.stem(record.locator, hash_length=length), record.locator)
                return

    def _parse_known(self, start: int, length: int) -> ImageRecord | FailureRecord:
        record = _parse(os.pread(self._fd, length, start))
        if record is None:
            raise OutputError(
                f"{self._path.name} was changed by another program while clue was using it.",
                "Leave the results folder alone during a scan, and run the command again.",
            )
        return record


def _parse(line: bytes) -> ImageRecord | FailureRecord | None:
    """The record of one line, None if it is none."""
    try:
        return RECORD.validate_json(line)
    except ValidationError:
        return None
