"""What is in a zip. One that has lost its directory (a cut download, a broken stick) is searched for its members."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO, cast

from clue_cli.evidence.containers.compressed import Decompressed, Inflater
from clue_cli.evidence.containers.member import ENCRYPTED_ADVICE, Archive, Member, link, refused
from clue_cli.evidence.streams import CHUNK, UNPACK_ADVICE, Budget, ByteSource, Metered, ReadFailure
from clue_cli.records import FailureCode

_CENTRAL_ENTRY = 256
"""Bytes of a zip's directory that one member is granted on average; real ones take 80 to 150."""

_SIGNATURE = b"PK\x03\x04"
_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7: local file header
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_NEWEST_VERSION = 63  # of the format: a larger one is no header but chance


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a zip; if its directory is lost, those that can be found without it, then a ReadFailure."""
    with archive.seekable() as stream:
        yield from _members(stream, budget)


def _members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
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
        for member in _recovered(stream, budget):
            found += 1
            yield member
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


def _recovered(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """Each stored or deflated member that a local header announces, found without the directory.

    Encrypted members are passed over: without the directory they look like random bytes. A member whose bytes
    are cut fails when it is read.
    """
    position = 0
    while (position := _find(stream, position)) >= 0:
        stream.seek(position)
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        _, version, flags, method, _, _, crc, packed, size, name_length, extra_length = _HEADER.unpack(header)
        raw_name = stream.read(name_length)
        start = position + _HEADER.size + name_length + extra_length
        if (
            (version & 0xFF) > _NEWEST_VERSION
            or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            or flags & _ENCRYPTED
            or not raw_name
            or (method == zipfile.ZIP_STORED and flags & _SIZES_FOLLOW)
        ):
            position += len(_SIGNATURE)
            continue
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        known = not flags & _SIZES_FOLLOW
        if size or not name.endswith("/"):
            sizes: tuple[int | None, int | None] = (packed, crc) if known else (None, None)
            yield Member(name, size if known else None, _opener(stream, start, method, sizes, budget))
        position = start + (packed if known else 0)


def _find(stream: BinaryIO, position: int) -> int:
    """Where the next signature is, -1 if there is none."""
    overlap = b""
    while True:
        stream.seek(position)
        data = stream.read(CHUNK)
        if not data:
            return -1
        if (at := (overlap + data).find(_SIGNATURE)) >= 0:
            return position - len(overlap) + at
        overlap = (overlap + data)[1 - len(_SIGNATURE) :]
        position += len(data)


def _opener(
    stream: BinaryIO, start: int, method: int, sizes: tuple[int | None, int | None], budget: Budget
) -> Callable[[], BinaryIO]:
    packed, crc = sizes

    def open_member() -> BinaryIO:
        source = cast(BinaryIO, _Slice(stream, start, packed))
        if method == zipfile.ZIP_DEFLATED:
            source = cast(BinaryIO, Decompressed(source, lambda: Inflater(wbits=-15)))
        checked = source if crc is None else cast(BinaryIO, _Checked(source, crc))
        # how much was taken cannot be asked of a deflated member of unknown size: its share is at most the archive
        limit = packed if packed is not None else stream.seek(0, 2) - start
        return cast(BinaryIO, Metered(checked, budget, lambda: limit))

    return open_member


class _Slice(ByteSource):
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


class _Checked(ByteSource):
    """Compares the CRC-32 at the end; raises BadZipFile if it differs."""

    def __init__(self, source: BinaryIO, crc: int) -> None:
        self._source, self._expected, self._crc = source, crc, 0

    def _next(self, size: int) -> bytes:
        data = self._source.read(size)
        self._crc = zlib.crc32(data, self._crc)
        if not data and self._crc != self._expected:
            raise zipfile.BadZipFile("the checksum differs")
        return data
