"""Append-only logs of JSON lines, with an index that needs no memory.

A line is appended in one piece; what a crash or a full disk left of a torn line is cut off when the log is opened the
next time. Nothing is ever changed in place. The index lives in a private, temporary SQLite database, which spills to
disk by itself: ten million lines need no more memory than ten.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

from clue_cli.errors import OutputError

SYNC_SECONDS = 2.0
"""How much of the log a power failure may cost. A crash of clue alone costs at most the line being written."""

LONGEST_LINE = 16 << 20
"""Bytes. A longer line is damage, or an attack on the memory of whoever reads it: clue's own are far shorter."""

DAMAGED_NAMED = 100
"""Damaged lines whose numbers are kept: a log may be an attacker's, and hold nothing else."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""A results folder may be somebody else's: nothing is appended to, or cut off, what a link in it leads to."""

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Nor is the other end of a pipe waited for."""

Entry = TypeVar("Entry")


def _regular(path: str | Path, flags: int) -> int:
    """A descriptor of a regular file; raises OSError where there is something else."""
    descriptor = os.open(path, flags | _NO_WAIT, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def lines(path: Path, start: int, end: int) -> Iterator[tuple[bytes | None, int]]:
    """The lines of a log between two places where lines begin, with their lengths in bytes; one without its newline
    at the end is left out.

    None stands for a line longer than `LONGEST_LINE`, which is not held in memory.
    """
    with path.open("rb") as log:
        log.seek(start)
        length = 0  # of the pieces of a line that is too long
        while (line := log.readline(LONGEST_LINE)) and start + length + len(line) <= end:
            length += len(line)
            if line.endswith(b"\n"):
                yield (line if length == len(line) else None), length
                start, length = start + length, 0


class IndexedLog(ABC, Generic[Entry]):
    """A log and its index. Thread-safe; one process writes at a time (the folder's lock), any number may read.

    Args:
        path: of the log; made if it does not exist.
        torn: the file to which a torn last line is moved; None: it is dropped.
        read_only: write nothing, and pass over a torn last line; the log must exist.

    Attributes:
        tables: the statements that make the index.
        damaged: how many lines could not be understood.
        damaged_lines: numbers, from 1, of the first DAMAGED_NAMED of them.
        torn: whether the last line was torn.

    Raises:
        OSError: it cannot be read or written.
    """

    tables: ClassVar[str]

    def __init__(self, path: Path, torn: Path | None = None, *, read_only: bool = False) -> None:
        self.damaged, self.damaged_lines = 0, list[int]()
        self._path, self._read_only = path, read_only
        self._lock = threading.RLock()
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_APPEND | os.O_CREAT | _NO_LINK
        # On Windows a file is text unless it is said to be binary.
        self._fd = _regular(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        try:
            # "": a private database in a temporary file, gone when it is closed.
            self._index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            self._index.executescript(self.tables)
            size = os.fstat(self._fd).st_size
            self._whole = self._whole_lines(size)
            self.torn = self._whole < size
            if self.torn and not read_only:
                self._cut_off(size, torn)
            self._end = 0
            self._read_all()
        except BaseException:
            os.close(self._fd)
            raise
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def end(self) -> int:
        """The bytes of the log."""
        return self._end

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
                if not self._read_only:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @abstractmethod
    def _parse(self, line: bytes) -> Entry | None:
        """The entry of one line, None if it is none."""

    @abstractmethod
    def _enter(self, entry: Entry, start: int, length: int) -> None:
        """Enter into the index where an entry's line is."""

    def _load(self, entry: Entry, start: int, length: int) -> None:
        """`_enter` for what an earlier process wrote."""
        self._enter(entry, start, length)

    def _loaded(self) -> None:
        """All that an earlier process wrote was given to `_load`."""

    def _append(self, entry: Entry, line: bytes) -> None:
        """Append one line; if that fails the log is as it was before.

        Raises:
            OSError: the disk is full or gone.
        """
        line += b"\n"
        with self._lock:
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except BaseException:
                os.ftruncate(self._fd, self._end)
                raise
            self._enter(entry, self._end, len(line))
            self._end += len(line)
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()

    def _at(self, start: int, length: int) -> Entry:
        """The entry of a line that is in the index."""
        entry = self._parse(self._pread(length, start))
        if entry is None:
            raise OutputError(
                f"{self._path.name} was changed by another program while clue was using it.",
                "Leave the results folder alone meanwhile, and run the command again.",
            )
        return entry

    def _pread(self, length: int, start: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._fd, length, start)
        with self._lock:  # Windows; what is written is appended wherever this leaves the position
            os.lseek(self._fd, start, os.SEEK_SET)
            return os.read(self._fd, length)

    def _entries(self) -> Iterator[Entry]:
        """Every readable entry that was ever logged, in the order of the log."""
        for line, _ in lines(self._path, 0, max(self._whole, self._end)):
            if line is not None and (entry := self._parse(line)) is not None:
                yield entry

    def _read_all(self) -> None:
        self._index.execute("BEGIN")
        self._load_all()
        self._loaded()
        self._index.execute("COMMIT")

    def _load_all(self) -> None:
        """Give each line to `_load`, and count the damaged ones and the bytes."""
        for number, (line, length) in enumerate(lines(self._path, 0, self._whole), 1):
            entry = None if line is None else self._parse(line)
            if entry is None:
                self._note_damaged(1, [number])
            else:
                self._load(entry, self._end, length)
            self._end += length

    def _note_damaged(self, count: int, numbers: Iterable[int]) -> None:
        self.damaged += count
        self.damaged_lines += islice(numbers, DAMAGED_NAMED - len(self.damaged_lines))

    def _check_in_place(self) -> None:
        try:
            in_place = os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise OutputError(
                f"{self._path.name} was deleted or moved by another program while clue was using it.",
                "Leave the results folder alone meanwhile, and run the command again.",
            )

    def _whole_lines(self, size: int) -> int:
        """How many bytes end in the last newline."""
        end = size
        while end:
            start = max(0, end - 65536)
            newline = self._pread(end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _cut_off(self, size: int, torn: Path | None) -> None:
        if torn is not None:
            with open(torn, "ab", opener=lambda path, flags: _regular(path, flags | _NO_LINK)) as aside:
                for start in range(self._whole, size, 1 << 20):
                    aside.write(self._pread(min(1 << 20, size - start), start))
                aside.write(b"\n")
                aside.flush()
                os.fsync(aside.fileno())
        os.ftruncate(self._fd, self._whole)
