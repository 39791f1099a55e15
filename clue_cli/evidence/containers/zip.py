"""What is in a zip: what its directory lists, and what only its bytes show.

A zip that has lost its directory (a cut download, a broken stick) is searched for its members, and so are the gaps
between those that are listed. The names are those of the directory, as unzip prints them.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from clue_cli.evidence.containers import ENCRYPTED_ADVICE, Archive, Member, link, oddity, refused, stray
from clue_cli.evidence.containers.compressed import XZ_MEMORY, Decoder, Decompressed, Inflater, zstd_decoder
from clue_cli.evidence.formats import HEAD_SIZE, claimed_type, is_archive, is_picture, sniff
from clue_cli.evidence.streams import (
    CHUNK,
    UNPACK_ADVICE,
    Budget,
    ByteSource,
    HeadedStream,
    Metered,
    ReadFailure,
    Slice,
    rfind,
)
from clue_cli.records import FailureCode, Finding

_CENTRAL_ENTRY = 256
"""Bytes of a zip's directory that one member is granted on average; real ones take 80 to 150."""

# APPNOTE.TXT, 4.3.7 local file header, 4.3.12 central directory, 4.3.14 zip64 end record, 4.3.16 end record
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END = struct.Struct("<4s4H2LH")
_LOCATOR_SIZE = 20
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075  # extra fields
_FAT = 0  # the system whose names are in the code page of DOS
_NEWEST_VERSION = 63  # of the format: a larger one is no header but chance
_GAP = 512
"""Fewer bytes than this between two members are not searched: alignment, descriptors."""

_DOCUMENTS = ("[Content_Types].xml", "mimetype")  # of Office, of OpenDocument and EPUB
_NAMES_SHOWN = 10
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class _End:
    """The end record: where the directory lies, and what lies around the zip, in bytes from the start of the file."""

    directory: int
    size: int
    shift: int
    """What is to be added to the offsets of the members: the size of what was put before the zip."""
    end: int
    comment: int
    volumes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member as the directory lists it; `start` is where its local header lies."""

    name: str
    raw: bytes
    start: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    is_link: bool
    findings: tuple[Finding, ...] = ()


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a zip; if its directory is lost, those that can be found without it, then a ReadFailure."""
    with archive.seekable() as stream:
        total = stream.seek(0, 2)
        end = _find_end(stream, total)
        if end is None or end.volumes:
            found = 0
            for member in _recovered(stream, budget, 0, total):
                found += 1
                yield member
            reason = "its directory is not there" if end is None else "it is the last volume of a split archive"
            raise ReadFailure(
                FailureCode.ARCHIVE_CORRUPT,
                f"The archive is damaged or cut ({reason}); {found} members were found without its directory.",
                None if end is None else "Join the volumes (zip -s 0 NAME.zip --out WHOLE.zip) and scan that.",
            )
        yield from _listed(stream, end, budget)
        where = f"at byte {end.end:,} of the file, after the end of the zip"
        yield from stray(
            _slice(stream, end.end - end.comment, end.end), "(comment)", "in the zip's comment", quiet=True
        )
        yield from stray(_slice(stream, end.end, total), "(after the end)", where)


def _listed(stream: BinaryIO, end: _End, budget: Budget) -> Iterator[Member]:
    """What the directory lists, and what lies before, between and behind that."""
    if end.size > budget.limits.members * _CENTRAL_ENTRY:
        raise ReadFailure(
            FailureCode.ARCHIVE_LIMIT,
            f"The archive's directory is too large for {budget.limits.members} members; it was not read.",
            UNPACK_ADVICE,
        )
    entries, damage = _directory(stream, end)
    entries = _without_duplicates(entries)
    overlapping, gaps = _layout(stream, entries, end.directory)
    document = any(entry.name in _DOCUMENTS for entry in entries)
    for entry in entries:
        if not entry.size and entry.name.endswith(("/", "\\")):
            continue  # a folder; one with content hides a file
        member = _member(stream, entry, budget, overlaps=entry.start in overlapping)
        if not (document and _is_markup(member)):
            yield member
    for start, stop in gaps:
        if start < stop:
            yield from _gap(stream, start, stop, budget)
    if damage:
        raise ReadFailure(
            FailureCode.ARCHIVE_CORRUPT, f"The archive's directory is damaged after {len(entries)} members."
        )


def _find_end(stream: BinaryIO, total: int) -> _End | None:
    """The last end record that makes sense, wherever it lies; None if there is none."""
    at = total
    while (at := rfind(stream, b"PK\x05\x06", at)) >= 0:
        if (found := _end_at(stream, at, total)) is not None:
            return found
    return None


def _end_at(stream: BinaryIO, at: int, total: int) -> _End | None:
    stream.seek(at)
    record = stream.read(_END.size)
    if len(record) < _END.size:
        return None
    _, disk, _, _, count, size, offset, comment = _END.unpack(record)
    behind = at  # of the directory
    if 0xFFFFFFFF in (size, offset) or 0xFFFF in (disk, count):
        stream.seek(max(0, at - _LOCATOR_SIZE - _END64.size))
        record64 = stream.read(_END64.size)
        if len(record64) == _END64.size and record64.startswith(b"PK\x06\x06"):
            _, _, _, _, disk, _, _, count, size, offset = _END64.unpack(record64)
            behind = at - _LOCATOR_SIZE - _END64.size
    if at + _END.size + comment > total or size > behind:
        return None
    for directory in dict.fromkeys((behind - size, offset)):
        stream.seek(directory)
        if (not count and not size) or stream.read(4) == b"PK\x01\x02":
            end = at + _END.size + comment
            return _End(directory, size, directory - offset, end, comment, disk)
    return None


def _directory(stream: BinaryIO, end: _End) -> tuple[list[_Entry], bool]:
    """What the directory lists, and whether it is damaged after that."""
    stream.seek(end.directory)
    data, at = stream.read(end.size), 0
    entries: list[_Entry] = []
    while at < len(data):
        if not data.startswith(b"PK\x01\x02", at) or at + _CENTRAL.size > len(data):
            return entries, not data.startswith((b"PK\x05\x05", b"PK\x06\x08"), at)  # a signature, other records
        fields = _CENTRAL.unpack_from(data, at)
        _, made, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length = fields[:13]
        attributes, offset = fields[15:]
        at += _CENTRAL.size
        raw, extra = data[at : at + name_length], _extra(data[at + name_length : at + name_length + extra_length])
        at += name_length + extra_length + comment_length
        wide = extra.get(_ZIP64, b"")
        large = iter(struct.unpack_from(f"<{len(wide) // 8}Q", wide))
        size, packed, offset = (
            next(large, value) if value == 0xFFFFFFFF else value for value in (size, packed, offset)
        )
        name, findings = _name(raw, flags, made >> 8, extra.get(_UNICODE_PATH))
        is_link = stat.S_ISLNK(attributes >> 16)
        entries.append(_Entry(name, raw, offset + end.shift, flags, method, crc, packed, size, is_link, findings))
    return entries, False


def _extra(data: bytes) -> dict[int, bytes]:
    """The extra fields of a header, by their numbers."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        number, length = struct.unpack_from("<2H", data, at)
        fields.setdefault(number, data[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def _name(raw: bytes, flags: int, system: int, unicode_path: bytes | None) -> tuple[str, tuple[Finding, ...]]:
    """The name as unzip prints it: UTF-8 if it says so or is, else DOS's code page or, from other systems, bytes."""
    if unicode_path is not None and unicode_path[:5] == b"\1" + zlib.crc32(raw).to_bytes(4, "little"):
        raw, flags = unicode_path[5:], flags | _UTF8
    name = raw.decode("utf-8", "surrogateescape")
    if not flags & _UTF8 and system == _FAT and any("\udc80" <= character <= "\udcff" for character in name):
        name = raw.decode("cp437")
    shown, nul, _ = name.partition("\0")
    if not nul:
        return name, ()
    return shown, (oddity("odd_member_path", f"The name in the archive continues after a zero byte: {name!r}."),)


def _without_duplicates(entries: list[_Entry]) -> list[_Entry]:
    """The entries, those that list the same bytes as one, under the first name that is not hidden, with a finding."""
    same: dict[tuple[object, ...], list[_Entry]] = {}
    for entry in entries:
        key = entry.start, entry.flags & _ENCRYPTED, entry.method, entry.packed, entry.size, entry.crc, entry.is_link
        same.setdefault(key, []).append(entry)
    kept = []
    for group in same.values():
        first = next((entry for entry in group if not f"/{entry.name}".count("/.")), group[0])
        if len(group) > 1:
            others = [name for name in dict.fromkeys(entry.name for entry in group) if name != first.name]
            shown = [name[:200] for name in others[:_NAMES_SHOWN]] + ["…"] * bool(others[_NAMES_SHOWN:])
            also = f", also as {', '.join(shown)}" if shown else ""
            statement = f"The directory of the archive lists it {len(group)} times{also}: it is judged once."
            first = replace(first, findings=(*first.findings, oddity("duplicate_member", statement)))
        kept.append(first)
    return kept


def _layout(stream: BinaryIO, entries: list[_Entry], directory: int) -> tuple[set[int], list[tuple[int, int]]]:
    """Where the members start that reach into another one, and the gaps before, between and behind all of them."""
    overlapping, gaps = set(), []
    reach = last = 0
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start < reach:
            overlapping |= {entry.start, last}
        elif entry.start - reach > (_GAP if reach else 0):
            gaps.append((_end_of(stream, last, reach), entry.start))
        # at least: the local header's name need not be as long as the directory's
        if (stop := entry.start + _LOCAL.size + entry.packed) > reach:
            reach, last = stop, entry.start
    if directory - reach > (_GAP if reach else 0):
        gaps.append((_end_of(stream, last, reach), directory))
    return overlapping, gaps


def _end_of(stream: BinaryIO, start: int, least: int) -> int:
    """Where the member ends that starts there: behind its name and its data descriptor, which the directory leaves out.

    Args:
        least: its end if there were no name; 0 if there is no member.
    """
    if not least or (local := _local(stream, start)) is None:
        return least
    end = least + local[2] - start - _LOCAL.size
    stream.seek(end)
    descriptor = stream.read(24)
    if not descriptor.startswith(b"PK\x07\x08"):
        return end
    wide = any(descriptor[8:12]) and not any(descriptor[12:16])  # sizes of 8 bytes
    return end + (24 if wide else 16)


def _gap(stream: BinaryIO, start: int, stop: int, budget: Budget) -> Iterator[Member]:
    """What the directory does not list: members with a local header, else what is a picture or an archive."""
    if not start:
        stream.seek(0)
        if stream.read(min(4, stop)) not in (b"PK\x07\x08", b"PK00"):  # how a split archive begins
            yield from stray(_slice(stream, 0, stop), "(before the start)", "before the start of the zip")
        return
    note = oddity("unlisted_member", "The directory of the archive does not list it: an unpacker does not show it.")
    found = False
    for member in _recovered(stream, budget, start, stop):
        found = True
        yield replace(member, findings=(*member.findings, note))
    if not found:
        place = f"at byte {start:,} of the file, between the members of the zip"
        yield from stray(_slice(stream, start, stop), "(between members)", place, quiet=True)


def _is_markup(member: Member) -> bool:
    """Whether it is one of the texts that a document is made of: no file that a person put into it."""
    claim = claimed_type(member.name)
    if is_picture(claim) or is_archive(claim):
        return False
    try:
        with HeadedStream(member.open()) as content:
            return sniff(content.peek(HEAD_SIZE)) == "text"
    except ReadFailure:
        return False


def _member(stream: BinaryIO, entry: _Entry, budget: Budget, *, overlaps: bool) -> Member:
    if entry.is_link:
        return link(entry.name)
    local = None if entry.flags & _ENCRYPTED or overlaps else _local(stream, entry.start)
    if local is None:
        refusal = refused(FailureCode.ARCHIVE_CORRUPT, "The archive is damaged: the member is not where it should be.")
        if entry.flags & _ENCRYPTED:
            refusal = refused(FailureCode.ARCHIVE_ENCRYPTED, "The member is encrypted.", ENCRYPTED_ADVICE)
        elif overlaps:
            refusal = refused(FailureCode.ARCHIVE_LIMIT, "The member overlaps another one: it looks like a zip bomb.")
        return Member(entry.name, entry.size, refusal, findings=entry.findings)
    raw, flags, start = local
    findings = entry.findings
    if raw != entry.raw and (own := _name(raw, flags, _FAT, None)[0]) != entry.name:
        names = f"{own[:1000]} in its own header, {entry.name[:1000]} in the directory of the archive"
        statement = f"It has two names: {names}."
        findings = (*findings, oddity("two_names", statement))
    opener = _opener(stream, start, entry.method, (entry.packed, entry.size, entry.crc), budget)
    return Member(entry.name, entry.size, opener, findings=findings)


def _local(stream: BinaryIO, start: int) -> tuple[bytes, int, int] | None:
    """Name and flags of the local header there, and where the content starts; None if there is none."""
    if start < 0:
        return None
    stream.seek(start)
    header = stream.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        return None
    _, _, flags, *_, name_length, extra_length = _LOCAL.unpack(header)
    return stream.read(name_length), flags, start + _LOCAL.size + name_length + extra_length


def _recovered(stream: BinaryIO, budget: Budget, position: int, stop: int) -> Iterator[Member]:
    """Each stored or deflated member that a local header announces, found without the directory.

    Encrypted members are passed over: without the directory they look like random bytes. A member whose bytes
    are cut fails when it is read.
    """
    while 0 <= (position := _find(stream, position)) < stop:
        stream.seek(position)
        header = stream.read(_LOCAL.size)
        if len(header) < _LOCAL.size:
            return
        _, version, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        raw_name = stream.read(name_length)
        start = position + _LOCAL.size + name_length + extra_length
        if (
            (version & 0xFF) > _NEWEST_VERSION
            or method not in (_STORED, _DEFLATED)
            or flags & _ENCRYPTED
            or not raw_name
            or (method == _STORED and flags & _SIZES_FOLLOW)
        ):
            position += len(b"PK\x03\x04")
            continue
        name, findings = _name(raw_name, flags, _FAT, None)
        known = not flags & _SIZES_FOLLOW
        position = start + (packed if known else 0)
        if size or not name.endswith("/"):
            sizes = (packed, size, crc) if known else None
            opener = _opener(stream, start, method, sizes, budget)
            yield Member(name, size if known else None, opener, findings=findings)


def _find(stream: BinaryIO, position: int) -> int:
    """Where the next signature of a local header is, -1 if there is none."""
    overlap = b""
    while True:
        stream.seek(position)
        data = stream.read(CHUNK)
        if not data:
            return -1
        if (at := (overlap + data).find(b"PK\x03\x04")) >= 0:
            return position - len(overlap) + at
        overlap = (overlap + data)[-3:]
        position += len(data)


def _slice(stream: BinaryIO, start: int, stop: int) -> BinaryIO:
    return cast(BinaryIO, Slice(stream, start, stop - start))


def _opener(
    stream: BinaryIO, start: int, method: int, sizes: tuple[int, int, int] | None, budget: Budget
) -> Callable[[], BinaryIO]:
    """Opens a member; `sizes` are its packed and unpacked size and its CRC-32, None if they are not known."""

    def open_member() -> BinaryIO:
        packed = None if sizes is None else sizes[0]
        source = cast(BinaryIO, Slice(stream, start, packed))
        if method != _STORED:
            source = cast(BinaryIO, Decompressed(source, _decoder(method, source)))
        checked = source if sizes is None else cast(BinaryIO, _Checked(source, sizes[1], sizes[2]))
        # how much was taken cannot be asked of a deflated member of unknown size: its share is at most the archive
        limit = packed if packed is not None else stream.seek(0, 2) - start
        return cast(BinaryIO, Metered(checked, budget, lambda: limit))

    return open_member


def _decoder(method: int, source: BinaryIO) -> Callable[[], Decoder]:
    """Makes the decoder of a compression method; for LZMA it takes the properties from the source."""
    if method == _DEFLATED:
        return lambda: Inflater(wbits=-15)
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor
    if method == zipfile.ZIP_LZMA:
        length = int.from_bytes(source.read(4)[2:], "little")
        properties = source.read(length)
        if len(properties) != 5 or properties[0] >= 225:
            raise lzma.LZMAError("invalid properties")
        rest, lc = divmod(properties[0], 9)
        size = int.from_bytes(properties[1:], "little")
        if size > XZ_MEMORY:
            raise MemoryError
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": rest % 5, "pb": rest // 5}]
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    if method == 93:
        return zstd_decoder()
    if method == 95:
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
    name = {9: "Deflate64", 99: "AES"}.get(method, f"number {method}")
    raise NotImplementedError(f"compression method {name}")


class _Checked(ByteSource):
    """Ends after `size` bytes and compares their CRC-32; raises BadZipFile if it differs."""

    def __init__(self, source: BinaryIO, size: int, crc: int) -> None:
        self._source, self._left, self._expected, self._crc = source, size, crc, 0

    def _next(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if not data and (self._left or self._crc != self._expected):
            raise zipfile.BadZipFile("the checksum differs")
        return data
