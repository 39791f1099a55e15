"""Archives, read in child processes: what a hostile one does there, it does to itself only.

A reader that crashes, hangs or sends nonsense costs what is left of its archive; the walk goes on with the next file.
`members` is the other end, and describes the protocol. What a child says is checked: it can neither send more than the
archive holds and the limits allow, nor ask without end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from clue_cli.evidence.containers import Archive, Member, oddity
from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.sandbox.members import LONGEST, LONGEST_MESSAGE, Fetched, Served, fields
from clue_cli.evidence.sandbox.process import START_SECONDS, WORKER, Child, ChildDied, ChildTimeout, checked, whole
from clue_cli.evidence.streams import Budget, DecodeLimits, ReadFailure, read_some, spool
from clue_cli.records import FailureCode, Finding

_ADDRESS_SPACE = 8 << 30  # bytes: an LZMA dictionary may have 4 GiB
_LARGEST = 1 << 63
_PATIENCE = 64 << 20  # bytes
_LEAST_PIECE = 1 << 16  # bytes; a smaller piece counts as this many


class ArchiveReader:
    """Reads archives in worker processes: one for each level of nesting, started when it is first needed.

    Args:
        worker_module: the module that a worker runs; tests put a bad one here.
    """

    def __init__(self, worker_module: str = WORKER) -> None:
        self._module = worker_module
        self._children: list[Child] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        for child in self._children:
            if not child.busy:  # else another thread still talks to it, and the whole process is about to end
                child.stop()

    def close(self) -> None:
        """Kill all workers. Another thread may be reading; its archives end with a failure."""
        self._closed = True
        for child in self._children:
            child.close()

    def members(self, archive: Archive, budget: Budget, level: int) -> Generator[Member, None, None]:
        """The members of an archive of any type, in its order; a copy that was made of it is gone afterwards.

        Args:
            level: how many archives it is in. The bytes of a member at one level may be an archive of the next.

        Raises:
            ReadFailure: it is damaged, encrypted or beyond its budget, or its reader died.
        """
        while len(self._children) <= level:
            self._children.append(Child(self._module, {"address_space": _ADDRESS_SPACE}))
        child = self._children[level]
        if self._closed:
            child.close()
        with closing(_Reading(child, archive, budget)) as reading:
            yield from reading.members()


class _ReaderDied(ReadFailure):
    """The child crashed, hung or made no sense."""


class _Reading:
    """One archive that a child reads."""

    def __init__(self, child: Child, archive: Archive, budget: Budget) -> None:
        self._child, self._archive, self._budget = child, archive, budget
        self._file, self._stream = archive.file, Served(lambda: cast(BinaryIO, archive.stream))
        self._died: _ReaderDied | None = None
        self._honest = 0
        """How many more bytes a child can send that makes none up: those of the archive, and what it unpacked."""
        self._patience = _PATIENCE
        """How many more bytes of the archive a child may ask for: one in an endless loop never stops asking."""

    def members(self) -> Iterator[Member]:
        """Each member, valid until the next one is asked for."""
        arguments = {
            "type_name": self._archive.type_name,
            "name": self._archive.name,
            "total": None if self._file is None else self._measure(self._file),
            "used": self._budget.used,
            "archive_limits": asdict(self._budget.limits),
        }
        limits = asdict(DecodeLimits(seconds=self._budget.limits.seconds))
        header: dict[str, Any] = {"operation": "members", "arguments": arguments, "limits": limits}
        count = 0
        try:
            with self._mortal():
                self._child.ready(START_SECONDS)
            while (member := self._next(header)) is not None:
                yield member
                count += 1
                self._patience += LONGEST
                header = {"next": True}
        except _ReaderDied as death:
            message = f"{death.message[:-1]} after {count} members; the rest of the archive was not read."
            raise ReadFailure(death.code, message) from death

    def close(self) -> None:
        """Give up what is not read yet."""
        if self._child.busy or self._child.closed:
            self._child.stop()
        if self._file is not None and self._archive.file is None:
            self._file.close()

    def _read(self, size: int, times: int) -> tuple[dict[str, Any], bytes]:
        """Some bytes of the member."""
        with self._mortal():
            reply, data = self._ask({"read": [size, times]})
            self._honest -= len(data)
            if self._honest < 0 or sum(whole(length, 1) for length in reply["pieces"]) != len(data):
                raise ValueError("more than the archive holds")
        return reply, data

    def _next(self, header: dict[str, Any]) -> Member | None:
        with self._mortal():
            reply, data = self._ask(header)
            if "member" not in reply:
                return None
            about, name = reply["member"], data.decode("utf-8", "surrogatepass")
            size = None if about["size"] is None else whole(about["size"], 0, _LARGEST)
            is_link, copied, stray = bool(about["link"]), bool(about["whole"]), bool(about["stray"])
            findings = tuple(map(_finding, about["findings"]))
        stream = cast(BinaryIO, Fetched(self._read))
        if copied:
            stream = spool(stream)
        return Member(name, size, lambda: stream, is_link, findings=findings, stray=stray)

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        """Raises _ReaderDied where the child dies, and if it is dead already."""
        if self._died is not None:
            raise self._died
        try:
            with checked():
                yield
        except ChildDied as error:
            self._child.stop()
            code = FailureCode.DECODER_TIMEOUT if isinstance(error, ChildTimeout) else FailureCode.DECODER_CRASHED
            self._died = _ReaderDied(code, f"The archive's reader {error}.")
            raise self._died from error

    def _ask(self, header: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What the child says to this, after it was given the bytes that it needs for it."""
        self._child.busy = True
        self._say(header)
        while True:
            reply, data = self._hear()
            if "input" in reply:
                self._say(*self._input(*reply["input"]))
            elif "copy" in reply:
                self._say(self._copy())
            elif "failure" in reply:
                if "read" not in header:
                    self._hear()  # that this was all
                raise _failure(reply["failure"])
            else:
                return reply, data

    def _say(self, header: dict[str, Any], data: bytes = b"") -> None:
        header = {**header, "size": len(data), "used": self._budget.used}
        self._child.send(header, data, self._budget.limits.seconds)

    def _hear(self) -> tuple[dict[str, Any], bytes]:
        reply = self._child.receive(self._budget.limits.seconds)
        if reply.get("done"):
            self._child.busy = False
            return reply, b""
        data = bytearray(whole(reply["size"], 0, LONGEST + 1))
        self._child.receive_into(memoryview(data), self._budget.limits.seconds)
        used, most = whole(reply["used"], self._budget.used, _LARGEST), int(self._budget.limits.gib * (1 << 30))
        self._honest += min(used, most) - min(self._budget.used, most)
        self._budget.used = used
        return reply, bytes(data)

    def _input(self, position: int | None, size: int, times: int) -> tuple[dict[str, Any], bytes]:
        header: dict[str, Any] = {}
        if (position is None) != (self._file is None):
            raise ValueError("a position in a stream")
        if self._file is None:
            header, data = self._stream.read(whole(size, 0), whole(times, 0))
            self._honest += len(data)
            self._patience += len(data)
        else:
            try:
                self._file.seek(whole(position, 0, _LARGEST))
                data = read_some(self._file, min(whole(size, 0, _LARGEST), LONGEST))
            except (OSError, ReadFailure) as error:
                header, data = {"failure": fields(error)}, b""
        self._patience -= max(len(data), _LEAST_PIECE)
        if self._patience < 0:
            raise ChildTimeout("went round in circles and was stopped")
        return header, data

    def _copy(self) -> dict[str, Any]:
        if self._file is not None:
            raise ValueError("a copy of a file")
        try:
            self._file = self._archive.seekable()
            return {"total": self._measure(self._file)}
        except Exception as error:  # a full disk, or the reader of the archive that this one is in
            return {"failure": fields(error)}

    def _measure(self, file: BinaryIO) -> int:
        total = file.seek(0, 2)
        self._honest += total
        self._patience += 64 * total
        return total


def _finding(said: dict[str, Any]) -> Finding:
    return oddity(said["kind"], clean_text(said["statement"], LONGEST_MESSAGE) or "")


def _failure(said: dict[str, Any]) -> ReadFailure:
    message, advice = (clean_text(said[key], LONGEST_MESSAGE) if said[key] else None for key in ("message", "advice"))
    return ReadFailure(FailureCode(said["code"]), message or "", advice)
