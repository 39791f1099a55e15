"""Raw files of cameras: which they are, and the JPEG that the camera put inside.

Most look like TIFF. Decoded as TIFF they would show their thumbnail, not the picture.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from clue_cli.evidence.formats import CAMERA_RAW

_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706
_REDUCED = 0x1  # NewSubfileType: the picture is a smaller version of another one in the file

_THUMBNAIL = 500  # pixels; a JPEG with no longer side is no preview
_SEGMENTS = 1000  # of a JPEG before its first scan, and after it
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START = b"\xff\xd8\xff"
_SOFS, _SOS, _EOI = (0xC0, 0xC1, 0xC2), 0xDA, 0xD9


def camera_raw_type(data: bytes, claim: str | None) -> str | None:
    """The raw type of bytes that start like a TIFF, None if they are a plain one.

    A DNG says what it is. Others (NEF, ARW, …) are known by their name, or because their first picture is a reduced
    one and the real ones are in sub-folders of it, which no plain TIFF does.
    """
    tags = _first_ifd(data)
    if _DNG_VERSION in tags:
        return "dng"
    if claim in CAMERA_RAW:
        return claim
    return "raw" if _SUB_IFDS in tags and tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED else None


@dataclass(frozen=True, slots=True)
class Preview:
    """A JPEG inside a raw file: from byte `start` to byte `end`, pixels, and the EXIF block of the raw file."""

    start: int
    end: int
    width: int
    height: int
    exif: bytes | None


def largest_preview(data: bytes) -> Preview | None:
    """The largest JPEG in a raw file that any viewer shows, None if all are thumbnails.

    It is found by its own markers and not by the tags that lead to it, which each maker puts elsewhere. The lossless
    JPEGs that hold a camera's raw data do not count.
    """
    best = None
    start = data.find(_START)
    while start >= 0:
        end, width, height = _jpeg_at(data, start)
        if max(width, height) > _THUMBNAIL and (best is None or width * height > best[2] * best[3]):
            best = start, end, width, height
        start = data.find(_START, end)
    return None if best is None else Preview(*best, _exif(data))


def _jpeg_at(data: bytes, start: int) -> tuple[int, int, int]:
    """Where a JPEG ends, its width and height; where to look on and zeros, if it is none that is looked for."""
    none = start + len(_START), 0, 0
    width = height = 0
    position = start + 2
    for _ in range(_SEGMENTS):
        if data[position : position + 1] != b"\xff" or position + 4 > len(data):
            return none
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _SOFS and data[position + 4] == 8 and position + 9 <= len(data):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
        position += 2 + max(length, 2)
        if marker == _SOS:
            break
    if not width * height:
        return none
    for _ in range(_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            break
        if found[0][1] == _EOI:
            return found.end(), width, height
        position = found.end() + max(int.from_bytes(data[found.end() : found.end() + 2], "big"), 2)
    return len(data), width, height


def _exif(data: bytes) -> bytes | None:
    """The raw file's EXIF block: nearly the whole file, or in Canon's CR3 a box of its own."""
    if data[:2] in (b"II", b"MM"):  # the two bytes after are a maker's own mark in some
        return data[:2] + (b"*\0" if data[:2] == b"II" else b"\0*") + data[4:]
    box = data.find(b"CMT1", 0, 1 << 20)
    if box < 4:
        return None
    return data[box + 4 : box - 4 + int.from_bytes(data[box - 4 : box], "big")]


def _first_ifd(data: bytes) -> dict[int, int]:
    """Tags of the first folder of a classic TIFF with the first 4 bytes of their value, as a number."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or struct.unpack(order + "H", data[2:4])[0] != 42:
        return {}
    start = struct.unpack(order + "I", data[4:8])[0]
    if start + 2 > len(data):
        return {}
    count = struct.unpack(order + "H", data[start : start + 2])[0]
    entries = data[start + 2 : start + 2 + 12 * count]
    usable = len(entries) - len(entries) % 12
    return {
        tag: value >> 16 if kind == 3 and order == ">" else value  # a SHORT stands in the upper half there
        for tag, kind, _, value in struct.iter_unpack(order + "HHII", entries[:usable])
    }
