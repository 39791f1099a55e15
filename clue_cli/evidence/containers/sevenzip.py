"""What is in a 7z archive, through py7zr (the extra `7z`), one `Member` after the other.

py7zr pushes: it wants somewhere to write each member to. It does so in a thread of its own here, one member ahead of
the reader, so that a solid archive is decompressed once, forwards, and never held as a whole. Its own extraction to
paths is not used.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from queue import Queue
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from clue_cli.evidence.containers.member import ENCRYPTED_ADVICE, Archive, Member, link
from clue_cli.evidence.formats import HEAD_SIZE, Kind, claimed_type, is_archive, is_picture, kind_of, sniff
from clue_cli.evidence.streams import SPOOL_IN_MEMORY, Budget, ReadFailure, failure_from
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
        self._copy = tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY)  # noqa: SIM115 - its reader closes it
        self._head = b""
        self._wanted = True

    def write(self, data: bytes) -> int:
        if self._pump.stopping.is_set():
            raise _Stopped
        self._pump.budget.charge_bytes(len(data))
        if len(self._head) < HEAD_SIZE:
            self._head += data[: HEAD_SIZE - len(self._head)]
            self._wanted = len(self._head) < HEAD_SIZE or _is_wanted(self._head, self._file.filename)
        if self._wanted or self._copy.tell() < HEAD_SIZE:
            self._copy.write(data)
        return len(data)

    def close(self) -> None:
        """py7zr calls this once the member is complete and its checksum right."""
        self._copy.seek(0)
        copy = cast(BinaryIO, self._copy)
        self._pump.put(Member(self._file.filename, self._file.uncompressed, lambda: copy))

    def read(self, size: int | None = None) -> bytes:
        return self._copy.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._copy.seek(offset, whence)

    def flush(self) -> None:
        self._copy.flush()

    def size(self) -> int:
        return self._copy.tell()


def _is_wanted(head: bytes, name: str) -> bool:
    claim = claimed_type(name)
    return kind_of(sniff(head)) is not Kind.OTHER or is_picture(claim) or is_archive(claim)


class _Pump:
    """Lets py7zr decompress in a thread, and hands its members out."""

    def __init__(self, archive: py7zr.SevenZipFile, files: list[Any], budget: Budget) -> None:
        self.budget = budget
        self.stopping = threading.Event()
        self._archive = archive
        self._files = files
        self._ready: Queue[Member | ReadFailure | None] = Queue(maxsize=1)
        self._thread = threading.Thread(target=self._decompress, name="clue-7z", daemon=True)

    def members(self) -> Iterator[Member]:
        """Each member as soon as it is complete; raises ReadFailure where the archive is damaged."""
        self._thread.start()
        while (member := self._ready.get()) is not None:
            if isinstance(member, ReadFailure):
                raise member
            yield member

    def put(self, member: Member | ReadFailure | None) -> None:
        """Hand out one member; waits until the one before was taken."""
        self._ready.put(member)

    def _decompress(self) -> None:
        from py7zr.io import MemIO

        worker = self._archive.worker
        for file in self._files:
            worker.register_filelike(file.id, MemIO(file.filename, cast(Any, _SinkFactory(self, file))))
        outcome: ReadFailure | None = None
        try:
            worker.extract(cast(Any, self._archive.fp), None, parallel=False)
        except _Stopped:
            return
        except Exception as error:  # py7zr fed with hostile bytes raises whatever it likes
            outcome = failure_from(error)
        self.put(outcome)

    def close(self) -> None:
        """Stop the thread, wherever it is, and wait for it."""
        self.stopping.set()
        while self._thread.is_alive():
            while not self._ready.empty():
                self._ready.get_nowait()
            self._thread.join(timeout=0.05)


class _SinkFactory:
    """py7zr asks for somewhere to write when it gets to the member."""

    def __init__(self, pump: _Pump, file: Any) -> None:
        self._pump, self._file = pump, file

    def create(self, filename: str) -> _Sink:
        return _Sink(self._pump, self._file)
