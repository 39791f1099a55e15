"""Streams over hostile bytes: read piece by piece, counted against a budget, failing with a reason."""

from __future__ import annotations

import io
import lzma
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from clue_cli.records import FailureCode

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 16
_PIECE = 1 << 20  # most that is unpacked before the budget is asked again, bytes
SPOOL_IN_MEMORY = 16 << 20
"""Spooled members up to this many bytes stay in memory; larger ones go to an unnamed temporary file."""

UNPACK_ADVICE = "If you trust the archive, unpack it yourself and scan the folder."


class ReadFailure(Exception):
    """Bytes could not be read: why, as a stable name and in words."""

    def __init__(self, code: FailureCode, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What one archive, with all that is nested in it, may cost.

    Attributes:
        members: members altogether.
        gib: uncompressed size altogether, GiB.
        ratio: uncompressed / compressed size of one member.
        ratio_floor_mib: a member is not measured by its ratio below this uncompressed size, MiB.
        seconds: wall-clock time between two signs of life of the process that reads it.
        video_step: seconds between the keyframes that are handed out of a video; None: videos are not opened.
    """

    members: int = 200_000
    gib: float = 100.0
    ratio: float = 250.0
    ratio_floor_mib: float = 128.0
    seconds: float = 60.0
    video_step: float | None = None


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one picture may cost.

    Attributes:
        max_megapixels: width × height of a page, millions of pixels.
        max_pages: pages (frames) of one file.
        seconds: wall-clock time of one page.
        memory_mib: address space of a decoder's process, MiB; None: generous for `max_megapixels`.
    """

    max_megapixels: float = 250.0
    max_pages: int = 1000
    seconds: float = 60.0
    memory_mib: int | None = None

    def address_space(self) -> int:
        """Bytes of address space a decoder may use.

        Pillow keeps 4 bytes a pixel; with alpha or a turn there are three such copies, beside the file's bytes.
        """
        if self.memory_mib is not None:
            return self.memory_mib << 20
        return (4 << 30) + int(self.max_megapixels * 1e6 * 16)


def read_some(stream: BinaryIO, size: int) -> bytes:
    """At most `size` bytes; none at the end. Raises OSError, and ReadFailure where a read would wait without end."""
    data: bytes | None = stream.read(size)
    if data is None:  # what a raw stream says that does not block
        raise ReadFailure(
            FailureCode.UNREADABLE,
            "Reading it would block: it has no bytes to give now.",
            "Copy the file to a local disk, and scan the copy.",
        )
    return data


class Budget:
    """What is left of the limits for one top-level archive.

    Attributes:
        members: members so far.
        used: bytes unpacked so far.
    """

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self.members = 0
        self.used = 0

    def charge_member(self) -> None:
        """Count one more member; raises ReadFailure if that is one too many."""
        self.members += 1
        if self.members > self.limits.members:
            raise ReadFailure(
                FailureCode.ARCHIVE_LIMIT,
                f"The archive holds more than {self.limits.members} members; the rest was not read.",
                UNPACK_ADVICE,
            )

    def charge_bytes(self, count: int) -> None:
        """Count uncompressed bytes; raises ReadFailure if the archive is larger than allowed."""
        self.used += count
        if self.used > self.limits.gib * (1 << 30):
            raise ReadFailure(
                FailureCode.ARCHIVE_LIMIT,
                f"The archive is larger than {self.limits.gib:g} GiB when unpacked; the rest was not read.",
                UNPACK_ADVICE,
            )

    def check_ratio(self, unpacked: int, packed: int) -> None:
        """Raises ReadFailure if so much came out of so little that it must be a bomb."""
        if unpacked > self.limits.ratio_floor_mib * (1 << 20) and unpacked > self.limits.ratio * max(packed, 1):
            raise ReadFailure(
                FailureCode.ARCHIVE_LIMIT,
                f"It expands to more than {self.limits.ratio:g} times its size: it looks like a zip bomb.",
                UNPACK_ADVICE,
            )


class ByteSource(io.RawIOBase):
    """A readable stream that is made of one method, `_next`."""

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next piece of at most `size` bytes, without the copies that the base class makes; or all of them."""
        if size is None or size < 0:
            return self.readall()
        if self.closed:
            raise ValueError("read of a closed stream")
        return self._next(size) if size else b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as the next piece goes."""
        view = memoryview(buffer).cast("B")
        data = self._next(len(view)) if len(view) else b""
        view[: len(data)] = data
        return len(data)

    @abstractmethod
    def _next(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""


class Metered(ByteSource):
    """A decompressing stream whose output is charged to the budget.

    Args:
        source: the uncompressed bytes.
        packed: how many compressed bytes were consumed so far (or, if it is known, belong to the member).
    """

    def __init__(self, source: BinaryIO, budget: Budget, packed: Callable[[], int]) -> None:
        self._source, self._budget, self._packed = source, budget, packed
        self._unpacked = 0

    def _next(self, size: int) -> bytes:
        data = self._source.read(min(size, _PIECE))
        self._unpacked += len(data)
        self._budget.charge_bytes(len(data))
        self._budget.check_ratio(self._unpacked, self._packed())
        return data

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()


class Borrowed(ByteSource):
    """A stream that stays open when this one is closed."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def _next(self, size: int) -> bytes:
        return self._source.read(size)


class Slice(ByteSource):
    """Bytes `start` to `start + size` of a seekable stream; to its end if size is None."""

    def __init__(self, source: BinaryIO, start: int, size: int | None = None) -> None:
        self._source, self._position = source, start
        self._end = None if size is None else start + size

    def _next(self, size: int) -> bytes:
        wanted = size if self._end is None else min(size, self._end - self._position)
        self._source.seek(self._position)
        data = self._source.read(wanted)
        if wanted and not data and self._end is not None:
            raise EOFError("the archive ends inside this member")
        self._position += len(data)
        return data


def rfind(stream: BinaryIO, pattern: bytes, stop: int) -> int:
    """Where the pattern last stands in the bytes before `stop` of a seekable stream, -1 if nowhere."""
    overlap = b""
    while stop > 0:
        start = max(0, stop - CHUNK)
        stream.seek(start)
        data = stream.read(stop - start) + overlap
        if (at := data.rfind(pattern)) >= 0:
            return start + at
        stop, overlap = start, data[: len(pattern) - 1]
    return -1


class Unpadded(ByteSource):
    """A stream without the zeros at its end."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._body = source, b""
        self._zeros = self._behind = 0  # before the body, and behind it

    def _next(self, size: int) -> bytes:
        if not self._body:
            self._zeros += self._behind
            while (data := self._source.read(CHUNK)) and not data.strip(b"\0"):
                self._zeros += len(data)
            self._body = data.rstrip(b"\0")
            self._behind = len(data) - len(self._body)
        if self._body and self._zeros:
            out = bytes(min(size, self._zeros))
            self._zeros -= len(out)
        else:
            out, self._body = self._body[:size], self._body[size:]
        return out


def failure_from(error: Exception) -> ReadFailure:
    """What a decoder's or an archive reader's exception means to a user."""
    if isinstance(error, ReadFailure):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, lzma.LZMAError) and "Memory usage" in str(error)):
        return ReadFailure(
            FailureCode.ARCHIVE_LIMIT,
            "Unpacking needs more memory than allowed.",
            UNPACK_ADVICE,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return ReadFailure(FailureCode.UNREADABLE, f"Reading failed: {error.strerror}.")
    if isinstance(error, NotImplementedError):  # how zipfile says that it lacks a compression method
        return ReadFailure(
            FailureCode.UNSUPPORTED_FORMAT,
            f"The archive uses a method that clue cannot unpack: {error}.",
            "Unpack it yourself and scan the folder.",
        )
    if isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError | AssertionError):
        words = "its structure makes no sense"  # as the programmer's words about it do to a user
    else:
        words = str(error).removeprefix("Error -3 while decompressing data: ") or "it ends early"
    return ReadFailure(FailureCode.ARCHIVE_CORRUPT, f"The archive is damaged ({words.rstrip('.')}).")


class HeadedStream(ByteSource):
    """A stream whose first bytes can be looked at, and whose failures are ReadFailures. It is read once.

    Args:
        head: bytes that were taken from the source already.
    """

    def __init__(self, source: BinaryIO, head: bytes = b"") -> None:
        self._source, self._head = source, head
        self.consumed = 0
        """How many bytes were taken from the source."""

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, fewer only if there are no more. To be called before anything is read."""
        while len(self._head) < size and (data := self._pull(size - len(self._head))):
            self._head += data
        return self._head

    def _pull(self, size: int) -> bytes:
        try:
            data = read_some(self._source, size)
        except Exception as error:  # an archive reader fed with hostile bytes raises whatever it likes
            raise failure_from(error) from error
        self.consumed += len(data)
        return data

    def _next(self, size: int) -> bytes:
        if not self._head:
            return self._pull(size)
        data, self._head = self._head[:size], self._head[size:]
        return data

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()


def spool(source: BinaryIO) -> BinaryIO:
    """A seekable copy of a stream: in memory, or, if it is large, in an unnamed file of the temporary folder.

    Such a file has no name from the start (or loses it at once), so nothing of it stays behind, whatever happens.
    Raises ReadFailure if it does not fit.
    """
    copy = tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        while data := source.read(CHUNK):
            copy.write(data)
        copy.seek(0)
    except OSError as error:
        copy.close()
        raise ReadFailure(
            FailureCode.UNREADABLE,
            f"The member could not be copied to the temporary folder: {error.strerror}.",
            "Let TMPDIR point to a folder with more room.",
        ) from error
    except BaseException:
        copy.close()
        raise
    return cast(BinaryIO, copy)
