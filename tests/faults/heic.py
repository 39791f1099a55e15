"""HEIC files, put together from one coded picture: pi-heif only reads."""

from __future__ import annotations

import base64
import struct

_CONFIGURATION = base64.b85decode(
    b"0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00RI30{|YNAb|yz>g1-mx"
    b"Cm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;"
)
_PICTURE = base64.b85decode(
    b"0002hC;_h%fP%T#qs`iS-E>ukHhu!#f9d)3rip{602dFF6c-DeDdPV0>p~F729OTg*&XGSZUR$BBv#b2emN~E@$3f;1DYCx;(l*B4>WS`)Bt"
    b"&H9GykY;Q#ejqLEM%W&__F9#1(zU%y#bjP)4^a(o+M_5nxJ*WHKHZ!?G~LpA{0@UhL8oG{zIn<ZXGv?IYGoXeCL0zP#)dUF&*h(?Z#-g+E;"
    b"CEzk$gYKZ(eR++a^kdFux$p=sXa)95%f+k3TMEDObT?ywn57ITTDg<`eg"
)
"""`pictures.photo()` of 48 × 32 pixels as HEVC at x265's quality 50, in a coded picture of 64 × 64."""

_CLAP = struct.pack(">8i", 48, 1, 32, 1, -16, 2, -32, 2)
_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap\0"


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def heic(pictures: int = 1, main: int = 0, maps: int = 0, tiles: int = 0, described: int = 0) -> bytes:
    """A HEIC.

    Args:
        pictures: on the same level, as in a burst.
        main: which of them is the main one.
        maps: gain maps that belong to the main picture: each is an entry of `iref`.
        tiles: the main picture is a grid of so many tiles in a row, as phones write it.
        described: metadata blocks that belong to the main picture: each is an entry of `iref`.
    """
    images, total = pictures + maps + tiles, pictures + maps + tiles + described
    kinds = [b"hvc1"] * images + [b"Exif"] * described
    contents = [_PICTURE] * images + [b"\0\0\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"] * described
    if tiles:
        kinds[main] = b"grid"
        contents[main] = struct.pack(">BBBBHH", 0, 0, 0, tiles - 1, 64 * tiles, 64)
    infos = [
        _box(b"infe", struct.pack(">IHH4sx", 2 << 24 | (pictures + maps <= n < images), n + 1, 0, kind))
        for n, kind in enumerate(kinds)
    ]
    references = [_box(b"auxl", struct.pack(">HHH", pictures + n + 1, 1, main + 1)) for n in range(maps)]
    references += [_box(b"cdsc", struct.pack(">HHH", images + n + 1, 1, main + 1)) for n in range(described)]
    if tiles:
        parts = range(pictures + maps + 1, images + 1)
        references.append(_box(b"dimg", struct.pack(f">HH{tiles}H", main + 1, tiles, *parts)))
    properties = [
        _box(b"hvcC", _CONFIGURATION),
        _box(b"ispe", struct.pack(">III", 0, 64, 64)),
        _box(b"clap", _CLAP),
        _box(b"auxC", bytes(4), _GAIN_MAP),
        _box(b"ispe", struct.pack(">III", 0, 64 * tiles, 64)),
    ]
    of = [[0x81, 2, 0x83]] * pictures + [[0x81, 2, 4]] * maps + [[0x81, 2]] * tiles
    if tiles:
        of[main] = [5]
    associations = b"".join(struct.pack(">HB", n + 1, len(each)) + bytes(each) for n, each in enumerate(of))

    def meta(start: int) -> bytes:
        at, places = start, b""
        for n, content in enumerate(contents):
            places += struct.pack(">HHHII", n + 1, 0, 1, at, len(content))
            at += len(content)
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", main + 1)),
            _box(b"iinf", bytes(4), struct.pack(">H", total), *infos),
            _box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", total), places),
            _box(b"iprp", _box(b"ipco", *properties), _box(b"ipma", bytes(4), struct.pack(">I", images), associations)),
            *([_box(b"iref", bytes(4), *references)] if references else []),
        )

    brand = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return brand + meta(len(brand) + len(meta(0)) + 8) + _box(b"mdat", *contents)
