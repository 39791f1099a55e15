"""Raw pictures that look like TIFF. Decoded as TIFF they would show their thumbnail, not the picture."""

from __future__ import annotations

import struct

from clue_cli.evidence.formats import Kind, kind_of

_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706
_REDUCED = 0x1  # NewSubfileType: the picture is a smaller version of another one in the file


def camera_raw_type(data: bytes, claim: str | None) -> str | None:
    """The raw type of bytes that start like a TIFF, None if they are a plain one.

    A DNG says what it is. Others (NEF, ARW, …) are known by their name, or because their first picture is a reduced
    one and the real ones are in sub-folders of it, which no plain TIFF does.
    """
    tags = _first_ifd(data)
    if _DNG_VERSION in tags:
        return "dng"
    if claim is not None and claim != "tiff" and kind_of(claim) is Kind.FOREIGN_PICTURE:
        return claim
    return "raw" if _SUB_IFDS in tags and tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED else None


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
