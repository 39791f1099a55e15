"""The operation `members`: reads an archive in the child, and hands out its members as the parent asks for them.

The child has neither the archive's file nor its path. It asks the parent for the bytes it needs: an archive inside
another one, which comes from another child, is then read like a file on disk. `archives` is the other end.

Every header has the `size` in bytes of what follows it, and the bytes charged to the archive's budget so far, `used`.
The child says, and the parent answers:

    {"member": {"size", "link", …}} and its name          {"next": true} or {"read": [bytes, times]}
    {"pieces": sizes, "end": true} and what was read      the same
    {"input": [position, bytes, times]}                   the archive's bytes; the position is null in a stream
    {"copy": true}                                        {"total": bytes}: a stream was copied and has positions now

A failure is a header with `failure` on either side. The child's last word on an archive is `done`, as always.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member
from clue_cli.evidence.containers import members as members_of
from clue_cli.evidence.formats import HEAD_SIZE
from clue_cli.evidence.streams import (
    ArchiveLimits,
    Budget,
    ByteSource,
    DecodeLimits,
    HeadedStream,
    ReadFailure,
    failure_from,
)
from clue_cli.records import FailureCode

Talk = Callable[[float, dict[str, Any], bytes], tuple[dict[str, Any], bytes]]
"""Says something to the parent, and returns its answer; this process may run for that many seconds afterwards."""

_BUFFER = 1 << 17  # of a file
_AHEAD = 100  # pieces of a stream
LONGEST = 1 << 20
"""Most bytes that follow one header."""

LONGEST_MESSAGE = 10_000
"""Most characters of a failure's message: archive libraries quote names, which may have 64 KiB."""


def members(
    talk: Talk,
    data: bytes,
    limits: DecodeLimits,
    *,
    type_name: str,
    name: str,
    total: int | None,
    used: int,
    archive_limits: dict[str, Any],
) -> Iterator[tuple[dict[str, Any], Iterable[bytes]]]:
    """Hand out the members of an archive through `talk`; the one reply that follows is the archive's failure, if any.

    Args:
        total: size of the archive in bytes if it is a file on disk; None for a stream, which is read forwards.
    """
    budget = Budget(ArchiveLimits(**archive_limits))
    budget.used = used
    parent = _Parent(partial(talk, limits.seconds), budget)
    if total is None:
        archive = Archive(type_name, name, HeadedStream(cast(BinaryIO, Fetched(parent.fetch))), None, parent.copied)
    else:
        archive = Archive(type_name, name, HeadedStream(cast(BinaryIO, _File(parent, total))), parent.seekable(total))
        archive.stream.peek(HEAD_SIZE)  # a decoder that comes upon damage loses its whole piece: the first one is small
    try:
        with closing(members_of(archive, budget)) as found:
            for member in found:
                _hand_out(member, parent)
    except Exception as error:  # an archive reader fed with hostile bytes raises whatever it likes
        yield {"failure": fields(error), "size": 0, "used": budget.used}, ()


def fields(error: Exception) -> dict[str, Any]:
    """A failure as JSON, for either side. An `errno` is kept: a zip whose disk is damaged is searched for members."""
    failure = failure_from(error)
    said = {"code": failure.code, "message": failure.message[:LONGEST_MESSAGE], "advice": failure.advice}
    return {**said, "errno": error.errno, "strerror": error.strerror} if isinstance(error, OSError) else said


class _Parent:
    """The other side, which has the archive and counts what it costs."""

    def __init__(self, talk: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]], budget: Budget) -> None:
        self._talk, self._budget = talk, budget

    def ask(self, header: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """What the parent says to this."""
        answer, content = self._talk({**header, "size": len(data), "used": self._budget.used}, data)
        self._budget.used = answer["used"]
        if (failure := answer.get("failure")) is None:
            return answer, content
        if failure.get("errno") is not None:
            raise OSError(failure["errno"], failure["strerror"])
        raise ReadFailure(FailureCode(failure["code"]), failure["message"], failure["advice"])

    def seekable(self, total: int) -> BinaryIO:
        """The archive as a file of `total` bytes that can be read at any position."""
        return io.BufferedReader(_File(self, total), _BUFFER)

    def fetch(self, size: int, times: int) -> tuple[dict[str, Any], bytes]:
        """The next bytes of an archive that is read forwards."""
        return self.ask({"input": [None, size, times]})

    def copied(self, stream: BinaryIO) -> BinaryIO:
        """A copy of the archive in which one can seek: the child may write no files, so the parent makes it."""
        return self.seekable(self.ask({"copy": True})[0]["total"])


class _File(ByteSource):
    """The archive's bytes, by position."""

    def __init__(self, parent: _Parent, total: int) -> None:
        self._parent, self._total, self._position = parent, total, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        position = offset + (0, self._position, self._total)[whence]
        if position < 0:
            raise OSError(22, "Invalid argument")
        self._position = position
        return position

    def _next(self, size: int) -> bytes:
        if self._position >= self._total:
            return b""
        _, data = self._parent.ask({"input": [self._position, size, 1]})
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._next(LONGEST), b""))


def _hand_out(member: Member, parent: _Parent) -> None:
    """Tell the parent of a member, and read from it until the next one is asked for."""
    name = member.name[: LONGEST // 4].encode("utf-8", "surrogatepass")  # a longer name loses its end, not the member
    findings = [finding.model_dump(mode="json") for finding in member.findings]
    about = {
        "size": member.size,
        "link": member.is_link,
        "whole": member.whole,
        "stray": member.stray,
        "findings": findings,
    }
    content = Served(member.open)
    try:
        answer, _ = parent.ask({"member": about}, name)
        while "read" in answer:
            answer, _ = parent.ask(*content.read(*answer["read"]))
    finally:
        content.close()


class Served:
    """A stream of this side that the other side reads (`Fetched`). A failure comes after all bytes before it."""

    def __init__(self, open_stream: Callable[[], BinaryIO]) -> None:
        self._open, self._stream = open_stream, cast("BinaryIO | None", None)
        self._failure: dict[str, Any] | None = None

    def read(self, size: int, times: int) -> tuple[dict[str, Any], bytes]:
        """Up to `times` pieces of at most `size` bytes: a header with their sizes, and the pieces."""
        pieces: list[bytes] = []
        header: dict[str, Any] = {}
        left, failure = LONGEST, self._failure
        self._failure = None
        try:
            while len(pieces) < times and left and failure is None:
                self._stream = self._stream or self._open()
                if not (data := self._stream.read(min(size, left))):
                    header["end"] = True
                    break
                pieces.append(data)
                left -= len(data)
        except Exception as error:  # as above; or a disk
            failure = fields(error)
        if failure and pieces:
            failure, self._failure = None, failure
        if failure:
            header["failure"] = failure
        return {**header, "pieces": [len(piece) for piece in pieces]}, b"".join(pieces)

    def close(self) -> None:
        """Close the stream if it was opened."""
        if self._stream is not None:
            self._stream.close()


class Fetched(ByteSource):
    """A stream of the other side.

    Several reads are asked for at once, but for the first, which may be all that is wanted. Their pieces come out as
    they are: a decoder that comes upon damage loses its whole piece.

    Args:
        fetch: (bytes of a piece, pieces) → what the other side read, as `Served.read` gives it.
    """

    def __init__(self, fetch: Callable[[int, int], tuple[dict[str, Any], bytes]]) -> None:
        self._fetch, self._times = fetch, 1
        self._pieces: deque[memoryview] = deque()
        self._ended = False

    def _next(self, size: int) -> bytes:
        if not self._pieces and not self._ended:
            header, data = self._fetch(size, self._times)
            view = memoryview(data)
            for length in header["pieces"]:
                self._pieces.append(view[:length])
                view = view[length:]
            self._times, self._ended = _AHEAD, "end" in header
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        return bytes(piece[:size])
