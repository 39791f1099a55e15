"""The log of a results folder in an object store, to which nothing can be appended.

What is added to `records.jsonl` is written in segments: objects with whole lines, named by the byte of the log at which
they begin. A segment is made only if there is none of its name, and is never changed: of two processes that both
believe to write alone, one fails. When a run comes to its end the log is written as one object and the segments are
removed; those that a crash left behind begin before the end of that object and are passed over.

A segment holds only records whose pictures the store has confirmed.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from clue_cli.errors import ClueError, OutputError
from clue_cli.results.reader import LOG, SEGMENTS
from clue_cli.results.remote.objects import THREADS, Objects
from clue_cli.results.remote.uploads import Uploads

SECONDS, MOST_SECONDS = 5.0, 60.0
"""Between two segments: at the beginning of a run, and at most, once it has run for long."""

BYTES = 8 << 20
"""About the size at which a segment ends, however soon."""

MOST_ENTRIES = 100_000
"""Most names directly below the prefix that are looked at."""

_NAME = re.compile(r"(\d{16})\.jsonl")
_TRIES = 5
_LOOK = 0.5


def segment(start: int) -> str:
    """The name of the object that begins at a byte of the log."""
    return f"{SEGMENTS}/{start:016d}.jsonl"


def starts(names: Collection[str]) -> list[int]:
    """Where the segments of these names begin, in order."""
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was found with a log.

    Attributes:
        size: bytes of the log, segments included.
        parts: names of the segments that follow `records.jsonl`.
        superseded: names of the segments whose lines are in `records.jsonl`.
        names: what lies directly below the prefix, as of `Objects.names`.
    """

    size: int
    parts: list[str]
    superseded: list[str]
    names: dict[str, int | None]


def fetch_log(objects: Objects, to: Path) -> Fetched:
    """Download the log, segments included.

    Args:
        to: the file to make; none is made if there is no log.

    Raises:
        ClueError: of the class of `objects`: it cannot be read, or segments are missing.
        OSError: the file cannot be written.
    """
    for _ in range(_TRIES):  # a run that ends meanwhile removes segments, after their lines are in the log
        parts = starts(objects.names(SEGMENTS))
        names = objects.names(most=MOST_ENTRIES)
        size = names.get(LOG)
        following = [start for start in parts if start >= (size or 0)]
        try:
            joined = _joined(objects, to, size, following)
        except _Vanished:
            continue
        superseded = [segment(start) for start in parts if start < (size or 0)]
        return Fetched(joined, [*map(segment, following)], superseded, names)
    raise objects.raising(
        f"The log of {objects.url.shown} has gaps: segments of {SEGMENTS} are missing.",
        "Somebody removed them. Choose another --out, or start over with --overwrite.",
    )


class _Vanished(Exception):
    """A segment is not there, or not yet; or the log was replaced."""


def _joined(objects: Objects, to: Path, size: int | None, following: list[int]) -> int:
    to.unlink(missing_ok=True)
    if size is not None:
        try:
            objects.get_file(LOG, to, size)
        except objects.raising:
            if objects.names(most=MOST_ENTRIES).get(LOG) != size:  # a run has come to its end meanwhile
                raise _Vanished from None
            raise
    end = size or 0
    if size is None and not following:
        return 0
    with to.open("ab") as log:
        for first in range(0, len(following), THREADS):
            some = following[first : first + THREADS]
            for start, content in zip(some, objects.each(map(segment, some), objects.get), strict=True):
                if content is None or start != end:
                    raise _Vanished
                log.write(content)
                end += len(content)
    return end


class Segments:
    """Writes what is appended to a log, from a thread of its own.

    Args:
        objects: where to.
        uploads: of the pictures; an error of a segment becomes theirs.
        log: the file.
        end: its size now; the store has as much.

    Attributes:
        written: records that the store has since.
    """

    def __init__(self, objects: Objects, uploads: Uploads, log: Path, end: int) -> None:
        self.written = 0
        self._objects, self._uploads, self._log = objects, uploads, log
        self._begun = self._last = time.monotonic()
        self._end = end
        self._open: deque[tuple[int, frozenset[str]]] = deque()
        self._entries = threading.Lock()
        self._writing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clue-log", daemon=True)
        self._thread.start()

    def appended(self, end: int, pictures: Collection[str]) -> None:
        """A record was appended to the log; to be called in the order of the log, after its pictures were added.

        Raises:
            OutputError: something could not be written.
        """
        self._uploads.check()
        waiting = self._uploads.waiting(pictures)
        with self._entries:
            self._open.append((end, waiting))

    def write(self) -> None:
        """Write what is confirmed.

        Raises:
            OutputError: it cannot be written.
        """
        with self._writing:
            self._last = time.monotonic()
            while (found := self._confirmed()) is not None:
                end, count = found
                with self._log.open("rb") as log:
                    log.seek(self._end)
                    content = log.read(end - self._end)
                if not self._objects.create(segment(self._end), content):
                    raise OutputError(
                        f"Another process writes to the log of {self._objects.url.shown}.",
                        "Let only one scan at a time write there, and run the command again.",
                    )
                with self._entries:
                    for _ in range(count):
                        self._open.popleft()
                self._end, self.written = end, self.written + count

    def close(self) -> None:
        """End the thread; harmless when repeated."""
        self._done.set()
        self._thread.join()

    def _confirmed(self) -> tuple[int, int] | None:
        """Where the next segment ends, and how many records it has; None if there is none."""
        found, count = None, 0
        with self._entries:
            for end, pictures in self._open:
                if pictures and self._uploads.waiting(pictures):
                    break
                count += 1
                found = end, count
                if end - self._end >= BYTES:
                    break
        return found

    def _run(self) -> None:
        while not self._done.wait(_LOOK):
            now = time.monotonic()
            every = min(MOST_SECONDS, max(SECONDS, (now - self._begun) / 100))
            with self._entries:
                bytes_ = self._open[-1][0] - self._end if self._open else 0
            if bytes_ and (now - self._last >= every or bytes_ >= BYTES):
                try:
                    self.write()
                except ClueError as error:
                    self._uploads.fail(OutputError(error.message, error.advice))
                    return
                except OSError as error:
                    self._uploads.fail(OutputError(f"{self._log} cannot be read: {error.strerror or error}."))
                    return
