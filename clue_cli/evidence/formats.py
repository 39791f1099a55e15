"""File types: how they start, what their names end in, and what can be done with them.

The table is the one place that knows a type; `sniff` reads the first bytes, `claimed_type` the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

HEAD_SIZE = 4096
"""How many bytes from the start `sniff` wants to see: a tar is recognised by bytes 257 to 262, an SVG by its text."""


class Kind(StrEnum):
    """What clue does with a type."""

    PICTURE = "picture"
    """Decoded and judged."""
    FOREIGN_PICTURE = "foreign_picture"
    """Recognised as a picture, but not decoded: reported, with advice."""
    ARCHIVE = "archive"
    """Opened, its members are looked at."""
    FOREIGN_ARCHIVE = "foreign_archive"
    """Recognised as an archive, but not opened: reported, with advice."""
    OTHER = "other"
    """No picture: counted."""


@dataclass(frozen=True, slots=True)
class Format:
    """One file type.

    Attributes:
        name: as it stands in a record, e.g. `jpeg`.
        kind: what clue does with it.
        extensions: endings of names that claim it, lower case, without the dot.
        pillow: Pillow's name of the only decoder that may touch it.
        advice: what a user can do about a type clue does not read.
        container: of an archive, the module of `containers` that opens it.
        found_by_end: whether an archive can be opened when its start is damaged or something was put before it.
    """

    name: str
    kind: Kind
    extensions: tuple[str, ...] = ()
    pillow: str | None = None
    advice: str | None = None
    container: str | None = None
    found_by_end: bool = False


_EXPORT = "Export it as TIFF or PNG with a program that reads the format, and scan that."
_DEVELOP = "Develop the raw picture, or extract its embedded JPEG, and scan that."
_MOUNT = "Mount the disk image read-only and scan the mount point."
_UNPACK = "Unpack it to a folder and scan the folder."

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("jpeg", Kind.PICTURE, ("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
        Format("png", Kind.PICTURE, ("png", "apng"), "PNG"),
        Format("tiff", Kind.PICTURE, ("tif", "tiff"), "TIFF"),
        Format("webp", Kind.PICTURE, ("webp",), "WEBP"),
        Format("avif", Kind.PICTURE, ("avif", "avifs"), "AVIF"),
        Format("bmp", Kind.PICTURE, ("bmp", "dib"), "BMP"),
        Format("gif", Kind.PICTURE, ("gif",), "GIF"),
        Format("heic", Kind.PICTURE, ("heic", "heif", "hif"), "HEIF"),
        Format("jxl", Kind.FOREIGN_PICTURE, ("jxl",), advice=_EXPORT),
        Format("jp2", Kind.FOREIGN_PICTURE, ("jp2", "j2k", "jpf", "jpx", "j2c"), advice=_EXPORT),
        Format("psd", Kind.FOREIGN_PICTURE, ("psd", "psb"), advice=_EXPORT),
        Format("xcf", Kind.FOREIGN_PICTURE, ("xcf",), advice=_EXPORT),
        Format("exr", Kind.FOREIGN_PICTURE, ("exr",), advice=_EXPORT),
        Format("jxr", Kind.FOREIGN_PICTURE, ("jxr", "wdp"), advice=_EXPORT),
        Format("pnm", Kind.FOREIGN_PICTURE, ("pnm", "ppm", "pgm", "pbm"), advice=_EXPORT),
        Format("cr2", Kind.FOREIGN_PICTURE, ("cr2",), advice=_DEVELOP),
        Format("cr3", Kind.FOREIGN_PICTURE, ("cr3",), advice=_DEVELOP),
        Format("dng", Kind.FOREIGN_PICTURE, ("dng",), advice=_DEVELOP),
        Format("raf", Kind.FOREIGN_PICTURE, ("raf",), advice=_DEVELOP),
        Format("orf", Kind.FOREIGN_PICTURE, ("orf",), advice=_DEVELOP),
        Format("rw2", Kind.FOREIGN_PICTURE, ("rw2",), advice=_DEVELOP),
        Format("raw", Kind.FOREIGN_PICTURE, ("nef", "nrw", "arw", "sr2", "srw", "pef", "3fr", "iiq"), advice=_DEVELOP),
        Format("zip", Kind.ARCHIVE, ("zip",), container="zip", found_by_end=True),
        Format("tar", Kind.ARCHIVE, ("tar",), container="tar"),
        Format("gzip", Kind.ARCHIVE, ("gz", "tgz"), container="compressed"),
        Format("bzip2", Kind.ARCHIVE, ("bz2", "tbz", "tbz2"), container="compressed"),
        Format("xz", Kind.ARCHIVE, ("xz", "txz"), container="compressed"),
        Format("zstd", Kind.ARCHIVE, ("zst", "tzst"), container="compressed"),
        Format("7z", Kind.ARCHIVE, ("7z",), container="sevenzip"),
        Format("pdf", Kind.ARCHIVE, ("pdf",), container="pdf", found_by_end=True),
        Format("rar", Kind.FOREIGN_ARCHIVE, ("rar",), advice=_UNPACK),
        Format("cab", Kind.FOREIGN_ARCHIVE, ("cab",), advice=_UNPACK),
        Format("lz4", Kind.FOREIGN_ARCHIVE, ("lz4",), advice=_UNPACK),
        Format("ewf", Kind.FOREIGN_ARCHIVE, ("e01",), advice=_MOUNT),
        Format("svg", Kind.OTHER, ("svg",)),
        Format("text", Kind.OTHER, ("txt", "md", "csv", "json", "xml", "html", "htm", "log")),
        Format("unknown", Kind.OTHER),
    )
}

UNKNOWN = "unknown"

_BY_EXTENSION = {extension: entry.name for entry in FORMATS.values() for extension in entry.extensions}

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0\x10\0\0\0CR", "cr2"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"IIRO", "orf"),
    (b"IIRS", "orf"),
    (b"MMOR", "orf"),
    (b"IIU\0", "rw2"),
    (b"FUJIFILMCCD-RAW", "raf"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"8BPS", "psd"),
    (b"gimp xcf ", "xcf"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"II\xbc\x01", "jxr"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (b"PK\x07\x08PK\x03\x04", "zip"),  # written as a single volume of a split archive
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"Rar!\x1a\x07", "rar"),
    (b"MSCF\0\0\0\0", "cab"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"EVF\x09\x0d\x0a\xff\0", "ewf"),
    (b"%PDF-", "pdf"),
)

_PNM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def kind_of(type_name: str | None) -> Kind:
    """What clue does with the type; `OTHER` for a type that is not in the table or for None."""
    entry = FORMATS.get(type_name or UNKNOWN)
    return entry.kind if entry else Kind.OTHER


def is_picture(type_name: str | None) -> bool:
    """Whether the type is a picture, decoded by clue or not."""
    return kind_of(type_name) in (Kind.PICTURE, Kind.FOREIGN_PICTURE)


def is_archive(type_name: str | None) -> bool:
    """Whether the type is an archive, opened by clue or not."""
    return kind_of(type_name) in (Kind.ARCHIVE, Kind.FOREIGN_ARCHIVE)


def extension_of(name: str) -> str:
    """The ending of a file name or locator, lower case, without the dot; empty if there is none.

    The `~2` that tells two files of one name apart does not count as part of it.
    """
    last = re.sub(r"~\d+\Z", "", name.rsplit("/", 1)[-1])
    stem, dot, extension = last.rpartition(".")
    return extension.lower() if dot and stem else ""


def claimed_type(name: str) -> str | None:
    """The type a name claims by its ending, None if the ending says nothing."""
    return _BY_EXTENSION.get(extension_of(name))


def sniff(head: bytes) -> str:
    """The type by content, from the first `HEAD_SIZE` bytes; `unknown` if nothing is recognised."""
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _sniff_isobmff(head)
    if head[:2] == b"BM" and len(head) >= 26 and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "bmp"
    if _BZIP2.match(head):
        return "bzip2"
    if _is_tar(head):
        return "tar"
    if _PNM.match(head):
        return "pnm"
    return _sniff_text(head)


# Sizes of the headers that follow the 14 bytes of a BMP's own, from BITMAPCOREHEADER to BITMAPV5HEADER.
_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))


def _sniff_isobmff(head: bytes) -> str:
    length = int.from_bytes(head[:4], "big")
    box = head[8 : max(16, min(length, len(head)))]
    brands = {box[:4]} | {box[index : index + 4] for index in range(8, len(box), 4)}
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    return "cr3" if b"crx " in brands else UNKNOWN


def _is_tar(head: bytes) -> bool:
    """By magic, or, as the oldest tars have none, by the checksum of the first header."""
    if len(head) < 512:
        return False
    if head[257:262] == b"ustar":
        return True
    digits = head[148:156].strip(b" \0")
    if not head[0] or not re.fullmatch(rb"[0-7]{1,7}", digits):
        return False
    return int(digits, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])


def _sniff_text(head: bytes) -> str:
    if not head or _CONTROL.search(head):
        return UNKNOWN
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or error.reason != "unexpected end of data":
            return UNKNOWN
    return "svg" if b"<svg" in head else "text"
