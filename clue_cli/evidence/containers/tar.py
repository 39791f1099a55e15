"""What is in a tar, read forwards: also in tars that follow its end mark, and behind a damaged header."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member, link, oddity, refused, stray
from clue_cli.evidence.formats import is_picture, sniff
from clue_cli.evidence.streams import CHUNK, Budget, ByteSource, HeadedStream, Metered, ReadFailure
from clue_cli.records import FailureCode

_TAR_HEADER_LIMIT = 16 << 20
"""Long names and pax headers of a tar are read into memory up to this many bytes; one with more is passed over."""

_BLOCK = tarfile.BLOCKSIZE
_LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_DUMPDIR, _MULTIVOLUME, _LABEL = b"D", b"M", b"V"  # of GNU tar: a folder's list of names, the rest of a file, a title
_CHECKSUM = re.compile(rb"[ 0]*[0-7]+[ \0]*")
_END_MARK = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_END = (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]
_BAD_HEADER = (tarfile.TarError, ValueError, LookupError, ArithmeticError)  # as hostile numbers in headers raise


class _TarInfo(tarfile.TarInfo):
    """A tar header that is checked before it is believed, and has its name as GNU tar prints it."""

    passed_over = 0
    """Size in bytes of a header before it that was too large to read."""

    behind_end = False
    """Whether an end mark of the tar comes before it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarInfo:
        info = super().frombuf(buf, encoding, errors)
        if bytes(buf[257:263]) != b"ustar\0":  # GNU tar has times where ustar has the start of a long name
            info.name = cast(str, cast(Any, tarfile).nts(buf[:100], encoding, errors))
            if info.isdir():
                info.name = info.name.rstrip("/")
        return info

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        # tarfile reads these headers into memory whole, and a negative size would lead it backwards for ever.
        if self.size < 0:
            raise tarfile.ReadError(f"a header claims {self.size} bytes")
        if self.type not in _LONG_HEADERS or self.size <= _TAR_HEADER_LIMIT:
            return super()._proc_member(archive)  # type: ignore[misc]
        tape = cast(_Tape, archive.fileobj)
        tape.seek(tape.tell() + -(-self.size // _BLOCK) * _BLOCK)
        info = self.fromtarfile(archive)
        info.passed_over = self.size
        return info


class _TarFile(tarfile.TarFile):
    def next(self) -> None:
        """Nothing: `_Reading` reads the headers. tarfile ends silently where one is damaged."""


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a tar; a ReadFailure at the end if it was cut or is damaged."""
    file = archive.file

    def opened() -> BinaryIO:
        cast(BinaryIO, file).seek(0)
        return cast(BinaryIO, file)

    if file is None:
        yield from tar_members(cast(BinaryIO, archive.stream), budget, None)
    else:
        yield from tar_members(opened(), budget, opened)


def tar_members(stream: BinaryIO, budget: Budget, again: Callable[[], BinaryIO] | None) -> Iterator[Member]:
    """The members of a tar in a stream, which need not be seekable; fails as `members` does.

    A hard link to a member that nobody read (a hidden one) stands for its content, which is read a second time.

    Args:
        again: opens the stream once more, from its start; None if that is not possible.
    """
    reading = _Reading(stream, budget)
    yield from reading.members()
    if reading.missed and again is None:
        for name in (name for names in reading.missed.values() for name in names):
            message = "It is a hard link to a member of the archive that was skipped."
            advice = "Unpack the archive that the tar is in, and scan the tar."
            yield Member(name, None, refused(FailureCode.UNREADABLE, message, advice))
    elif reading.missed and again is not None:
        yield from _Reading(again(), budget).links(reading.missed)
    if reading.damage is not None:
        raise ReadFailure(FailureCode.ARCHIVE_CORRUPT, reading.damage)


class _Reading:
    """One pass through a tar.

    Attributes:
        damage: what is wrong with it, a sentence.
        missed: names of hard links, by the position of the content that they stand for, which nobody read.
    """

    def __init__(self, stream: BinaryIO, budget: Budget) -> None:
        self._tape, self._budget = _Tape(stream), budget
        self._archive = _TarFile(
            fileobj=cast(Any, self._tape), tarinfo=_TarInfo, encoding="utf-8", errors="surrogateescape"
        )
        self._unread: dict[str, int] = {}
        self.damage: str | None = None
        self.missed: dict[int, list[str]] = {}

    def members(self) -> Iterator[Member]:
        """Each member, in the order of the archive, and what lies between and behind them."""
        for info in self._infos():
            if isinstance(info, Member):
                yield info
            elif not (info.isdir() or info.type in (_DUMPDIR, _LABEL)):
                yield from self._member(info)

    def links(self, missed: dict[int, list[str]]) -> Iterator[Member]:
        """The content of the first of the links to each member that was not read, and its other links."""
        for info in self._infos():
            if isinstance(info, Member):
                continue
            for number, name in enumerate(missed.pop(info.offset_data, ())):
                yield link(name) if number else Member(name, info.size, self._opener(info), findings=_oddities(info))
            if not missed:
                return

    def _infos(self) -> Iterator[_TarInfo | Member]:
        tape, ended, behind_end = self._tape, False, False
        while True:
            tape.seek(self._archive.offset)
            at = tape.tell()
            tape.unread(block := tape.read(_BLOCK))
            try:
                info = _TarInfo.fromtarfile(self._archive)
                if self._archive.offset <= at:
                    raise tarfile.ReadError("a header leads backwards")
            except _END_MARK:
                ended = behind_end = True
                self._archive.offset = tape.skip_zeros()
                continue
            except _END as error:
                if not ended:
                    self._damaged(f"The archive ends without its end mark ({error}): it may have been cut.")
                if not ended or not block:
                    return
            except _BAD_HEADER as error:
                if not ended:
                    self._damaged(
                        f"The archive is damaged: no header is at byte {at:,}, where one should be ({error})."
                    )
            else:
                ended, info.behind_end = False, behind_end
                yield info
                continue
            if ended or is_picture(sniff(block)):  # else it was the header
                tape.seek_back(block, at)
            place = (
                f"at byte {tape.tell():,} of the tar, {'after its end mark' if ended else 'behind a damaged header'}"
            )
            rest = _UpToHeader(tape)
            yield from stray(cast(BinaryIO, rest), "(after the end)" if ended else "(behind the damage)", place)
            while rest.read(CHUNK):
                pass
            self._archive.offset = tape.tell()

    def _damaged(self, sentence: str) -> None:
        self.damage = self.damage or sentence

    def _member(self, info: _TarInfo) -> Iterator[Member]:
        if info.islnk() and (at := self._unread.get(posixpath.normpath(info.linkname))) is not None:
            self.missed.setdefault(at, []).append(info.name)
        elif info.issym() or info.islnk():
            yield link(info.name)
        elif info.ischr() or info.isblk() or info.isfifo():
            message = "The member is a device or a pipe, not a file."
            yield Member(info.name, None, refused(FailureCode.UNREADABLE, message))
        elif info.type == _MULTIVOLUME:
            message = "Only the end of the file is here; it began on the volume before this one."
            advice = "Unpack all volumes together (tar --multi-volume -xf) and scan the folder."
            yield Member(info.name, None, refused(FailureCode.ARCHIVE_CORRUPT, message, advice))
        else:
            read = False

            def open_member() -> BinaryIO:
                nonlocal read
                read = True
                return opener()

            opener = self._opener(info)
            yield Member(info.name, info.size, open_member, findings=_oddities(info))
            name = posixpath.normpath(info.name)
            self._unread.pop(name, None)
            if not read:
                self._unread[name] = info.offset_data

    def _opener(self, info: _TarInfo) -> Callable[[], BinaryIO]:
        def open_member() -> BinaryIO:
            stream = cast(BinaryIO, self._archive.fileobject(cast(Any, self._archive), cast(Any, info)))
            if not info.issparse():
                return stream
            packed = sum(size for _, size in cast(Any, info).sparse)
            return cast(BinaryIO, Metered(stream, self._budget, lambda: packed))

        return open_member


def _oddities(info: _TarInfo) -> tuple[Any, ...]:
    found = []
    if info.issparse():
        stored = sum(size for _, size in cast(Any, info).sparse)
        statement = (
            f"The archive holds {stored:,} of the file's {info.size:,} bytes; the others are zeros (a sparse file)."
        )
        found.append(oddity("sparse_member", statement))
    if info.behind_end:
        statement = "It stands behind the end mark of the tar, where tar does not look without --ignore-zeros."
        found.append(oddity("outside_archive", statement))
    if info.passed_over:
        statement = (
            f"A header of {info.passed_over:,} bytes before it was not read; its name may be longer than it seems."
        )
        found.append(oddity("header_too_large", statement))
    return tuple(found)


class _Tape(ByteSource):
    """A tar's bytes with positions that go forwards, whatever the source can do; a piece can be put back."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._position = HeadedStream(source), 0
        self._seekable = source if source.seekable() else None
        self._back = b""

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0, /) -> int:
        if position < self._position:
            self._rewind(position)
        elif self._seekable is not None and position - self._position > CHUNK:
            self._back = b""
            self._position = self._seekable.seek(position)
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass
        return self._position

    def _rewind(self, position: int) -> None:
        if self._seekable is None:
            raise tarfile.ReadError("a header leads backwards")
        self._back = b""
        self._position = self._seekable.seek(position)

    def seek_back(self, block: bytes, at: int) -> None:
        """Return to the block at this position, if no more than it was read since."""
        if self._position == at + len(block):
            self.unread(block)

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._back = data + self._back
        self._position -= len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, fewer only at the end."""
        if size is None or size < 0:
            return self.readall()
        pieces, left = [], size
        while left and (piece := self._next(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _next(self, size: int) -> bytes:
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
        else:
            data = self._source.read(size)
        self._position += len(data)
        return data

    def skip_zeros(self) -> int:
        """Go to the next block that is not zeros only; its position."""
        while data := self.read(CHUNK):
            if body := data.lstrip(b"\0"):
                self.unread(data[(len(data) - len(body)) // _BLOCK * _BLOCK :])
                break
        return self._position


class _UpToHeader(ByteSource):
    """What comes before the next header of a member."""

    def __init__(self, tape: _Tape) -> None:
        self._tape, self._ready, self._ended = tape, b"", False

    def _next(self, size: int) -> bytes:
        if not self._ready and not self._ended:
            data = self._tape.read(CHUNK)
            for at in range(0, len(data), _BLOCK):
                if _is_header(data[at : at + _BLOCK]):
                    self._tape.unread(data[at:])
                    data, self._ended = data[:at], True
                    break
            self._ready = data
        out, self._ready = self._ready[:size], self._ready[size:]
        return out


def _is_header(block: bytes) -> bool:
    if not _CHECKSUM.fullmatch(block[148:156]):
        return False
    try:
        return bool(_TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    except tarfile.TarError:
        return False
