"""What is in a tar, read forwards."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from clue_cli.evidence.containers.member import Archive, Member, link, refused
from clue_cli.evidence.streams import Budget, Metered, ReadFailure
from clue_cli.records import FailureCode

_TAR_HEADER_LIMIT = 1 << 20
"""Long names and pax headers of a tar are read into memory; none that is honest has more bytes than this."""


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


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a tar; a ReadFailure at the end if it was cut or is damaged."""
    if archive.file is not None:
        archive.file.seek(0)
    yield from tar_members(archive.file or cast(BinaryIO, archive.stream), budget)


def tar_members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The members of a tar in a stream, which need not be seekable; fails as `members` does."""
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
