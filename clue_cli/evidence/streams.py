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
    """

    members: int = 200_000
    gib: float = 100.0
    ratio: float = 250.0
    ratio_floor_mib: float = 128.0
    seconds: float = 60.0


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
    return ReadFailure(
        FailureCode.ARCHIVE_CORRUPT, f"The archive is damaged ({type(error).__name__}: {error}).".replace(": )", ")")
    )


class HeadedStream(ByteSource):
    """A stream whose first bytes can be looked at, and whose failures are ReadFailures. It is read once."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._head = source, b""
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
