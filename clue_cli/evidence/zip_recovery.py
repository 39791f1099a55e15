"""Members of a zip that has lost its directory (a cut download, a broken stick), found by their own headers."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from clue_cli.evidence.streams import CHUNK, Budget, ByteSource, Decompressed, Inflater, Metered, Slice

_SIGNATURE = b"PK\x03\x04"
_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7: local file header
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_NEWEST_VERSION = 63  # of the format: a larger one is no header but chance

Recovered = tuple[str, int | None, Callable[[], BinaryIO]]


def recovered_members(stream: BinaryIO, budget: Budget) -> Iterator[Recovered]:
    """Name, size (None if unknown) and opener of each stored or deflated member that a local header announces.

    Encrypted members are passed over: without the directory they cannot be told from chance. A member whose bytes
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
            yield name, size if known else None, _opener(stream, start, method, sizes, budget)
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
        source = cast(BinaryIO, Slice(stream, start, packed))
        if method == zipfile.ZIP_DEFLATED:
            source = cast(BinaryIO, Decompressed(source, lambda: Inflater(wbits=-15)))
        checked = source if crc is None else cast(BinaryIO, _Checked(source, crc))
        # how much was taken cannot be asked of a deflated member of unknown size: its share is at most the archive
        limit = packed if packed is not None else stream.seek(0, 2) - start
        return cast(BinaryIO, Metered(checked, budget, lambda: limit))

    return open_member


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
