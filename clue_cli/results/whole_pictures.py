"""Whether a picture in a results folder is whole, as far as the file itself states it; nothing is decoded.

Nothing in a results folder states a hash of its pictures. A PNG states the CRC-32 of each of its chunks and where it
ends; a JPEG where it begins and ends.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PIECE = 1 << 20


def is_whole_jpeg(file: Path) -> bool:
    """Whether a file begins and ends as a JPEG does.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        start, end = stream.read(len(_JPEG)), stream.seek(0, 2)
        stream.seek(max(0, end - len(_JPEG_END)))
        return start == _JPEG and stream.read() == _JPEG_END


def whole_png_size(file: Path) -> tuple[int, int] | None:
    """Width and height of a PNG; None if it is none, is cut, or has a wrong checksum.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        if stream.read(len(_PNG)) != _PNG:
            return None
        size: tuple[int, int] | None = None
        while (kind := stream.read(8)) and len(kind) == 8:
            length, name = struct.unpack(">I4s", kind)
            if (size is None) != (name == b"IHDR") or (size is None and length != 13):
                return None
            head = _checked(stream, name, length)
            if head is None:
                return None
            if size is None:
                size = struct.unpack(">II", head[:8])
            if name == b"IEND":
                return size if not stream.read(1) else None
        return None


def _checked(stream: BinaryIO, name: bytes, length: int) -> bytes | None:
    """The first bytes of a chunk whose CRC is right; else None."""
    head, crc = b"", zlib.crc32(name)
    while length:
        piece = stream.read(min(length, _PIECE))
        if not piece:
            return None
        crc, length, head = zlib.crc32(piece, crc), length - len(piece), head or piece
    return (head or b"\0") if stream.read(4) == struct.pack(">I", crc) else None
