"""What is in a zip, a tar or a single compressed file: one `Member` after the other, in the order of the archive.

The archive libraries are told to read, never to extract: no path from an archive is ever written to.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, cast

from clue_cli.evidence.formats import FORMATS, extension_of
from clue_cli.evidence.streams import UNPACK_ADVICE, Budget, HeadedStream, Metered, ReadFailure
from clue_cli.evidence.zip_recovery import recovered_members
from clue_cli.scan.records import FailureCode

ENCRYPTED_ADVICE = "Unpack it with its password and scan the folder."

_CENTRAL_ENTRY = 256
"""Bytes of a zip's directory that one member is granted on average; real ones take 80 to 150."""

_TAR_HEADER_LIMIT = 1 << 20
"""Long names and pax headers of a tar are read into memory; none that is honest has more bytes than this."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive.

    Attributes:
        name: its path in the archive, as written there.
        size: uncompressed size in bytes as the archive claims it, None if it does not.
        open: opens it, or raises ReadFailure. Valid until the next member is asked for.
        is_link: a symbolic or hard link: it has no bytes of its own.
    """

    name: str
    size: int | None
    open: Callable[[], BinaryIO]
    is_link: bool = False


def refused(code: FailureCode, message: str, advice: str | None = None) -> Callable[[], BinaryIO]:
    """The opener of a member that cannot be read."""

    def open_member() -> BinaryIO:
        raise ReadFailure(code, message, advice)

    return open_member


def link(name: str) -> Member:
    """A link in an archive."""
    return Member(name, None, refused(FailureCode.UNREADABLE, "A link in an archive has no content."), is_link=True)


def zip_members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The members of a zip; if its directory is lost, those that can be found without it, then a ReadFailure."""
    if _directory_size(stream) > budget.limits.members * _CENTRAL_ENTRY:
        raise ReadFailure(
            FailureCode.ARCHIVE_LIMIT,
            f"The archive's directory is too large for {budget.limits.members} members; it was not read.",
            UNPACK_ADVICE,
        )
    try:
        archive = zipfile.ZipFile(stream)
    # NotImplementedError: a directory that asks for a version of the format that zipfile does not know, as damaged
    # bytes do. Members with a compression method that it lacks fail one by one, when they are opened.
    except (zipfile.BadZipFile, ValueError, OSError, LookupError, NotImplementedError) as error:
        found = 0
        for name, size, open_member in recovered_members(stream, budget):
            found += 1
            yield Member(name, size, open_member)
        raise ReadFailure(
            FailureCode.ARCHIVE_CORRUPT,
            f"The archive is damaged or cut ({error}); {found} members were found without its directory.",
        ) from error
    with archive:
        infos = archive.infolist()
        overlapping = _overlapping(infos)
        for info in infos:
            if info.file_size or not info.is_dir():  # a "folder" with content hides a file
                yield _zip_member(archive, info, budget, overlaps=info.header_offset in overlapping)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget, *, overlaps: bool) -> Member:
    if stat.S_ISLNK(info.external_attr >> 16):
        return link(info.filename)
    if info.flag_bits & 0x1:
        refusal = refused(FailureCode.ARCHIVE_ENCRYPTED, "The member is encrypted.", ENCRYPTED_ADVICE)
        return Member(info.filename, info.file_size, refusal)
    if overlaps:
        refusal = refused(FailureCode.ARCHIVE_LIMIT, "The member overlaps another one: it looks like a zip bomb.")
        return Member(info.filename, info.file_size, refusal)

    def open_member() -> BinaryIO:
        return cast(BinaryIO, Metered(cast(BinaryIO, archive.open(info)), budget, lambda: info.compress_size))

    return Member(info.filename, info.file_size, open_member)


def _directory_size(stream: BinaryIO) -> int:
    """Size of a zip's central directory in bytes as its end record claims it, 0 if there is none."""
    end = stream.seek(0, 2)
    stream.seek(max(0, end - (1 << 16) - 22))
    tail = stream.read()
    stream.seek(0)
    sizes = [0]
    if (at := tail.rfind(b"PK\x05\x06")) >= 0:
        sizes.append(int.from_bytes(tail[at + 12 : at + 16], "little") % 0xFFFFFFFF)
    if (at := tail.rfind(b"PK\x06\x06")) >= 0:  # zip64
        sizes.append(int.from_bytes(tail[at + 40 : at + 48], "little"))
    return max(sizes)


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Header offsets of members whose bytes reach into the next member's."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    overlapping = set()
    for info, following in pairwise(ordered):
        # 30 bytes of local header, at least as many of name as characters
        if info.header_offset + 30 + len(info.orig_filename) + info.compress_size > following.header_offset:
            overlapping |= {info.header_offset, following.header_offset}
    return overlapping


class _TarInfo(tarfile.TarInfo):
    """A tar header that is checked before it is believed, and that remembers how the archive ended."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _TarInfo:
        archive = cast(_TarFile, tarfile)
        try:
            return super().fromtarfile(archive)
        except _TAR_ENDS as error:
            archive.damage = str(error)
            raise

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        # tarfile reads these headers into memory whole, and a negative size would lead it backwards for ever.
        if self.size < 0 or (self.type in _TAR_HEADERS and self.size > _TAR_HEADER_LIMIT):
            raise tarfile.ReadError(f"a header claims {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _TarFile(tarfile.TarFile):
    damage: str | None = None


_TAR_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# tarfile ends its iteration silently on these; only EOFHeaderError, the end mark, is a good end.
_TAR_ENDS = (
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
)


def tar_members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The members of a tar, read forwards; a ReadFailure at the end if the archive was cut or is damaged."""
    mode = "r:" if stream.seekable() else "r|"
    archive = _TarFile.open(
        fileobj=stream, mode=cast(Any, mode), tarinfo=_TarInfo, encoding="utf-8", errors="surrogateescape"
    )
    with archive:
        while (info := archive.next()) is not None:
            cast(Any, archive).members.clear()  # tarfile would keep every header it has seen
            if not info.isdir():
                yield _tar_member(archive, info, budget)
        damage = archive.damage
        if damage is not None:
            raise ReadFailure(
                FailureCode.ARCHIVE_CORRUPT, f"The archive ends without its end mark ({damage}): it may have been cut."
            )


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget) -> Member:
    if info.issym() or info.islnk():
        return link(info.name)
    if not info.isreg():
        return Member(info.name, None, refused(FailureCode.UNREADABLE, "The member is a device or a pipe, not a file."))

    def open_member() -> BinaryIO:
        stream = cast(BinaryIO, archive.extractfile(info))
        if not info.issparse():
            return stream
        packed = sum(size for _, size in cast(Any, info).sparse)
        return cast(BinaryIO, Metered(stream, budget, lambda: packed))

    return Member(info.name, info.size, open_member)


def single_member(stream: HeadedStream, archive_name: str) -> Iterator[Member]:
    """The one member of `photo.jpg.gz`: `photo.jpg`."""
    extension = extension_of(archive_name)
    compressed = any(extension in FORMATS[name].extensions for name in ("gzip", "bzip2", "xz", "zstd"))
    name = archive_name[: -len(extension) - 1] if compressed else archive_name
    yield Member(name, None, lambda: cast(BinaryIO, stream))
