"""What is in a 7z archive, through py7zr (the extra `7z`), one `Member` after the other.

py7zr pushes: it wants somewhere to write each member to. It does so in a thread of its own here, one piece at a time as
the reader asks for it, so that a solid archive is decompressed once, forwards, and no member is held as a whole. Its
own extraction to paths is not used.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from clue_cli.evidence.containers import ENCRYPTED_ADVICE, Archive, Member, link, stray
from clue_cli.evidence.formats import HEAD_SIZE, Kind, claimed_type, holder_of, is_archive, is_picture, kind_of, sniff
from clue_cli.evidence.streams import Budget, ByteSource, ReadFailure, Slice, failure_from
from clue_cli.records import FailureCode

if TYPE_CHECKING:
    import py7zr


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a 7z archive; raises ReadFailure if py7zr is missing, or the archive damaged or encrypted."""
    with archive.seekable() as stream:
        yield from _members(stream, budget)


def _members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    archive = _open(stream)
    files = [file for file in archive.files if not (file.is_directory and file.emptystream)]
    unpacked = sum(file.uncompressed or 0 for file in files)
    budget.check_ratio(unpacked, stream.seek(0, 2))
    regular = []
    for file in files:
        if file.is_symlink or file.is_junction:
            yield link(file.filename)
        else:
            regular.append(file)
    pump = _Pump(archive, regular, budget)
    try:
        yield from pump.members()
    finally:
        pump.close()
    stream.seek(12)
    end = 32 + sum(struct.unpack("<QQ", stream.read(16)))  # where the index begins, and its size
    yield from stray(
        cast(BinaryIO, Slice(stream, end)), "(after the end)", f"at byte {end:,} of the file, after the archive"
    )


def _open(stream: BinaryIO) -> py7zr.SevenZipFile:
    try:
        import py7zr
    except ImportError as error:
        raise ReadFailure(
            FailureCode.MISSING_EXTRA,
            "7z archives need the extra `7z`, which is not installed.",
            "pip install 'clue-forensics[7z]'",
        ) from error
    stream.seek(0)
    encrypted = ReadFailure(FailureCode.ARCHIVE_ENCRYPTED, "The archive is encrypted.", ENCRYPTED_ADVICE)
    try:
        archive = py7zr.SevenZipFile(stream)
    except py7zr.PasswordRequired as error:
        raise encrypted from error
    if archive.needs_password():
        raise encrypted
    return archive


class _Stopped(Exception):
    """Raised inside py7zr when nobody reads any more."""


class _Sink:
    """What py7zr writes one member to. A member that cannot be a picture or an archive keeps only its head."""

    def __init__(self, pump: _Pump, file: Any) -> None:
        self._pump, self._file = pump, file
        self._head, self._kept = b"", 0
        self._wanted = True
        pump.put(file)

    def write(self, data: bytes) -> int:
        self._pump.budget.charge_bytes(len(data))
        if len(self._head) < HEAD_SIZE:
            self._head += data[: HEAD_SIZE - len(self._head)]
            self._wanted = len(self._head) < HEAD_SIZE or self._is_wanted()
        if data and (self._wanted or self._kept < HEAD_SIZE):
            self._pump.put(data)
            self._kept += len(data)
        return len(data)

    def _is_wanted(self) -> bool:
        claim = claimed_type(self._file.filename)
        if kind_of(sniff(self._head)) is not Kind.OTHER or is_picture(claim) or is_archive(claim):
            return True
        return self._pump.budget.limits.video_step is not None and holder_of("", self._head) == "video"

    def close(self) -> None:
        """py7zr calls this once the member is complete and its checksum right."""
        self._pump.put(b"")

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        return None

    def size(self) -> int:
        return self._kept


def _member(file: Any, content: BinaryIO) -> Member:
    return Member(file.filename, file.uncompressed, lambda: content, whole=True)


class _Pump:
    """Lets py7zr decompress in a thread, and hands out what it writes. Only one of the two threads runs at a time."""

    def __init__(self, archive: py7zr.SevenZipFile, files: list[Any], budget: Budget) -> None:
        self.budget = budget
        self._archive, self._files = archive, files
        self._ready: SimpleQueue[Any] = SimpleQueue()
        self._turn = threading.Semaphore(0)
        self._stopping = False
        self._thread = threading.Thread(target=self._decompress, name="clue-7z", daemon=True)

    def members(self) -> Iterator[Member]:
        """Each member as py7zr comes to it; raises ReadFailure where the archive is damaged."""
        self._thread.start()
        while (file := self.get()) is not None:
            pieces = _Pieces(self)
            yield _member(file, cast(BinaryIO, pieces))
            while not pieces.ended:
                pieces.fetch()

    def get(self) -> Any:
        """What py7zr writes next: a file, pieces of it, an empty piece at its end; None at the end of all."""
        self._turn.release()
        thing = self._ready.get()
        if isinstance(thing, ReadFailure):
            self._ready.put(thing)
            raise thing
        return thing

    def put(self, thing: Any) -> None:
        """Hand out one thing, and wait until the next one is asked for."""
        self._ready.put(thing)
        self.wait()

    def wait(self) -> None:
        """Wait until something is asked for; raises _Stopped if nothing will be."""
        self._turn.acquire()
        if self._stopping:
            raise _Stopped

    def _decompress(self) -> None:
        from py7zr.io import MemIO

        worker, outcome = self._archive.worker, None
        try:
            for file in self._files:
                worker.register_filelike(file.id, MemIO(file.filename, cast(Any, _SinkFactory(self, file))))
            self.wait()
            worker.extract(cast(Any, self._archive.fp), None, parallel=False)
        except _Stopped:
            return
        except Exception as error:  # py7zr fed with hostile bytes raises whatever it likes
            outcome = failure_from(error)
            if type(error).__name__ == "CrcError":  # of the two checksums and the name
                message = f"The archive is damaged: the checksum of {error.args[-1]} is wrong."
                outcome = ReadFailure(FailureCode.ARCHIVE_CORRUPT, message)
        self._ready.put(outcome)

    def close(self) -> None:
        """Stop the thread, wherever it is, and wait for it."""
        self._stopping = True
        self._turn.release()
        self._thread.join()


class _Pieces(ByteSource):
    """The bytes of the file that py7zr is at."""

    def __init__(self, pump: _Pump) -> None:
        self._pump, self._piece = pump, memoryview(b"")
        self.ended = False

    def fetch(self) -> None:
        """Let py7zr go on to the next piece, and forget what is left of this one."""
        self._piece = memoryview(self._pump.get())
        self.ended = not self._piece

    def _next(self, size: int) -> bytes:
        if not self._piece and not self.ended:
            self.fetch()
        data, self._piece = self._piece[:size], self._piece[size:]
        return bytes(data)


class _SinkFactory:
    """py7zr asks for somewhere to write when it gets to the member."""

    def __init__(self, pump: _Pump, file: Any) -> None:
        self._pump, self._file = pump, file

    def create(self, filename: str) -> _Sink:
        return _Sink(self._pump, self._file)
