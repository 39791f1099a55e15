"""What a picture is that clue cannot decode, though it is whole: read from its header, in words."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable

from PIL import PsdImagePlugin, TiffImagePlugin

from clue_cli.evidence.jpeg import FRAMES, header_segments

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 277, 339  # TIFF tags
_FORMATS = {2: "signed ", 3: "float ", 5: "complex integer ", 6: "complex "}
_COLOURS = {
    0: ("grey", 1),
    1: ("grey", 1),
    2: ("RGB", 3),
    3: ("palette", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
    8: ("Lab", 3),
    9: ("ICC Lab", 3),
    10: ("ITU Lab", 3),
    32803: ("colour filter array", 1),
    32844: ("LogL", 1),
    32845: ("LogLuv", 3),
    34892: ("linear raw", 3),
}
_COMPRESSIONS = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34676: "LogLuv",
    34677: "LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of a DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_BMP_METHODS = {4: "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK RLE", 13: "CMYK RLE"}
_ITEM = re.compile(rb"infe\x02.{3}.{4}(.{4})", re.DOTALL)
_ITEM_CODINGS = {
    b"hvc1": "HEVC",
    b"av01": "AV1",
    b"avc1": "H.264",
    b"evc1": "EVC",
    b"vvc1": "VVC",
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"unci": "uncompressed samples",
}
_PSD_MODES = {0: "bitmap", 1: "grey", 2: "palette", 3: "RGB", 4: "CMYK", 7: "multichannel", 8: "duotone", 9: "Lab"}


def described(data: bytes, sniffed_type: str, page: int, refused: bool) -> str | None:
    """The kind of a picture that its decoder has failed at, None if it is one that can be decoded.

    Args:
        page: of a TIFF.
        refused: whether the decoder has said that it does not know this kind; not all say so.

    Raises:
        Exception: anything, if the header is damaged.
    """
    describe = _DESCRIBE.get(sniffed_type)
    return describe(data, page, refused) if describe else None


def _jpeg(data: bytes, page: int, refused: bool) -> str | None:
    for marker, content, _ in header_segments(data):
        if marker == 0xF7:
            return "JPEG-LS"
        if marker in FRAMES:
            return _frame(marker, *struct.unpack_from(">BHHB", data, content))
    return None


def _frame(marker: int, bits: int, height: int, width: int, components: int) -> str | None:
    """By the start of a JPEG's frame; those that follow each other differ in process, those four apart in coding."""
    wide = f"{bits}-bit " if bits != 8 else ""
    if marker % 4 == 3:
        return f"{wide}lossless JPEG (SOF{marker - 0xC0})"
    if marker > 0xC8:
        return f"{wide}arithmetic-coded JPEG (SOF{marker - 0xC0})"
    if marker > 0xC4:
        return f"{wide}hierarchical JPEG (SOF{marker - 0xC0})"
    if wide:
        return f"{wide}JPEG"
    if not height:
        return "JPEG of height 0 (DNL)"
    return f"JPEG of {components} components" if components not in (1, 3, 4) else None


def _tiff(data: bytes, page: int, refused: bool) -> str | None:
    stream = io.BytesIO(data)
    folder = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if data[2:4] in (b"+\0", b"\0+") else 8))
    for _ in range(page + 1):
        stream.seek(folder.next)
        folder.load(stream)
    compression = folder.get(_COMPRESSION, 1)
    known = compression in TiffImagePlugin.COMPRESSION_INFO
    if known and not refused:
        return None
    colour, channels = _COLOURS.get(folder[_PHOTOMETRIC], (f"photometric {folder[_PHOTOMETRIC]}", 1))
    bits = "/".join(dict.fromkeys(map(str, folder.get(_BITS, (1,)))))
    what = f"{bits}-bit {_FORMATS.get(folder.get(_SAMPLE_FORMAT, (1,))[0], '')}{colour} TIFF"
    extra = folder.get(_SAMPLES, 1) - channels
    if extra > 0:
        what += " with alpha" if extra == 1 else f" with {extra} further channels"
    return what if known else f"{what}, compressed with {_COMPRESSIONS.get(compression, f'method {compression}')}"


def _psd(data: bytes, page: int, refused: bool) -> str | None:
    version, channels, _, _, bits, mode = struct.unpack_from(">H6xHIIHH", data, 4)
    colour = _PSD_MODES.get(mode, f"mode {mode}")
    if version == 2:
        return f"{bits}-bit {colour} PSB (large Photoshop document)"
    return None if (mode, bits) in PsdImagePlugin.MODES else f"{bits}-bit {colour} PSD of {channels} channels"


def _bmp(data: bytes, page: int, refused: bool) -> str | None:
    bits, compression = struct.unpack_from("<HI", data, 28)
    if not refused or int.from_bytes(data[14:18], "little") < 40:
        return None
    method = _BMP_METHODS.get(compression)
    return f"{bits}-bit BMP" + (f", compressed with {method}" if method else "")


def _heic(data: bytes, page: int, refused: bool) -> str | None:
    codings = {_ITEM_CODINGS.get(kind) for kind in _ITEM.findall(data, 0, 1 << 20)} - {None}
    return None if "HEVC" in codings or not codings else f"HEIF with {' and '.join(sorted(map(str, codings)))} inside"


_Describe = Callable[[bytes, int, bool], str | None]
_DESCRIBE: dict[str, _Describe] = {"jpeg": _jpeg, "tiff": _tiff, "psd": _psd, "bmp": _bmp, "heic": _heic}
