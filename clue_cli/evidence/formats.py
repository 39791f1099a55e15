"""File types: how they start, what their names end in, and what can be done with them.

The table is the one place that knows a type; `sniff` reads the first bytes, `claimed_type` the name. What has no type
but can hold pictures is named by `holder_of`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
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
        pillow: Pillow's name of the only decoder that may touch it; for JPEG XL no name of Pillow's own.
        advice: what a user can do about a type clue does not read.
        container: of an archive, the module of `containers` that opens it.
        by_name: whether what is named like this archive is taken for one although its start does not look like it: a
            zip with something before it, a mail, a disk image without a signature.
        title: what a person calls a type that clue does not open, if its name says too little.
    """

    name: str
    kind: Kind
    extensions: tuple[str, ...] = ()
    pillow: str | None = None
    advice: str | None = None
    container: str | None = None
    by_name: bool = False
    title: str | None = None

    @property
    def short(self) -> str:
        """As it stands in a sentence."""
        return self.name.upper()


_EXPORT = "Export it as TIFF or PNG with a program that reads the format, and scan that."
_DEVELOP = "Develop it with a raw converter and scan that, or install the extra: pip install 'clue-forensics[raw]'."
_MOUNT = "Mount the disk image read-only and scan the mount point."
_UNPACK = "Unpack it to a folder and scan the folder."

_SAVE = "Save it as .docx, .xlsx, .pptx or PDF without a password, and scan that."
_EXTRACT_MAIL = "Save the message as .eml, or extract it (for instance with tnef), and scan that."
_EXTRACT = "Export its mails as .eml or .mbox (for instance with readpst) and scan those."
_OLE = "older or password-protected Office documents"
_IMAGES = "disk images"
_OFFICE = ("docx", "docm", "dotx", "pptx", "pptm", "ppsx", "xlsx", "xlsm", "odt", "odp", "ods", "odg", "ott", "epub")

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
        Format("jxl", Kind.PICTURE, ("jxl",), "JXL"),
        Format("jp2", Kind.PICTURE, ("jp2", "j2k", "jpf", "jpx", "j2c", "jph"), "JPEG2000"),
        Format("psd", Kind.PICTURE, ("psd", "psb"), "PSD"),
        Format("ico", Kind.PICTURE, ("ico",), "ICO"),
        Format("tga", Kind.PICTURE, ("tga", "icb", "vda", "vst"), "TGA"),
        Format("xcf", Kind.FOREIGN_PICTURE, ("xcf",), advice=_EXPORT),
        Format("exr", Kind.FOREIGN_PICTURE, ("exr",), advice=_EXPORT),
        Format("jxr", Kind.FOREIGN_PICTURE, ("jxr", "wdp"), advice=_EXPORT),
        Format("pnm", Kind.FOREIGN_PICTURE, ("pnm", "ppm", "pgm", "pbm"), advice=_EXPORT),
        Format("cr2", Kind.PICTURE, ("cr2",), "JPEG", _DEVELOP),
        Format("cr3", Kind.PICTURE, ("cr3",), "JPEG", _DEVELOP),
        Format("dng", Kind.PICTURE, ("dng",), "JPEG", _DEVELOP),
        Format("raf", Kind.PICTURE, ("raf",), "JPEG", _DEVELOP),
        Format("orf", Kind.PICTURE, ("orf",), "JPEG", _DEVELOP),
        Format("rw2", Kind.PICTURE, ("rw2",), "JPEG", _DEVELOP),
        Format("raw", Kind.PICTURE, ("nef", "nrw", "arw", "sr2", "srw", "pef", "3fr", "iiq"), "JPEG", _DEVELOP),
        Format("zip", Kind.ARCHIVE, ("zip", "cbz", *_OFFICE), container="zip", by_name=True),
        Format("tar", Kind.ARCHIVE, ("tar",), container="tar"),
        Format("gzip", Kind.ARCHIVE, ("gz", "tgz"), container="compressed"),
        Format("bzip2", Kind.ARCHIVE, ("bz2", "tbz", "tbz2"), container="compressed"),
        Format("xz", Kind.ARCHIVE, ("xz", "txz"), container="compressed"),
        Format("zstd", Kind.ARCHIVE, ("zst", "tzst"), container="compressed"),
        Format("7z", Kind.ARCHIVE, ("7z",), container="sevenzip"),
        Format("video", Kind.ARCHIVE, (), container="video"),  # `sniff` finds none: they are opened on request
        Format("pdf", Kind.ARCHIVE, ("pdf",), container="pdf", by_name=True),
        Format("eml", Kind.ARCHIVE, ("eml", "emlx"), container="mail", by_name=True),
        Format("mbox", Kind.ARCHIVE, ("mbox", "mbx"), container="mail", by_name=True),
        Format("rar", Kind.FOREIGN_ARCHIVE, ("rar", "cbr"), advice=_UNPACK),
        Format("cab", Kind.FOREIGN_ARCHIVE, ("cab",), advice=_UNPACK),
        Format("lz4", Kind.FOREIGN_ARCHIVE, ("lz4",), advice=_UNPACK),
        Format("lzip", Kind.FOREIGN_ARCHIVE, ("lz", "tlz"), advice=_UNPACK),
        Format("compress", Kind.FOREIGN_ARCHIVE, ("z",), advice=_UNPACK, title="files of Unix compress"),
        Format("msg", Kind.ARCHIVE, ("msg", "oft"), container="msg"),
        Format("ole", Kind.FOREIGN_ARCHIVE, (), advice=_SAVE, title=_OLE),
        Format("tnef", Kind.FOREIGN_ARCHIVE, ("tnef",), advice=_EXTRACT_MAIL, title="Outlook's winmail.dat"),
        Format("pst", Kind.FOREIGN_ARCHIVE, ("pst", "ost"), advice=_EXTRACT, title="Outlook mailboxes"),
        Format("ewf", Kind.FOREIGN_ARCHIVE, ("e01", "ex01", "s01"), advice=_MOUNT, title=f"EnCase {_IMAGES}"),
        Format("l01", Kind.FOREIGN_ARCHIVE, ("l01", "lx01"), advice=_MOUNT, title="EnCase logical evidence files"),
        Format("ad1", Kind.FOREIGN_ARCHIVE, ("ad1",), advice=_MOUNT, title="AD1 (FTK) images"),
        Format("aff", Kind.FOREIGN_ARCHIVE, ("aff",), advice=_MOUNT, title=f"AFF {_IMAGES}"),
        Format("vmdk", Kind.FOREIGN_ARCHIVE, ("vmdk",), advice=_MOUNT, title=f"VMware {_IMAGES}"),
        Format("vhd", Kind.FOREIGN_ARCHIVE, ("vhd", "vhdx"), advice=_MOUNT, title=f"Hyper-V {_IMAGES}", by_name=True),
        Format("vdi", Kind.FOREIGN_ARCHIVE, ("vdi",), advice=_MOUNT, title=f"VirtualBox {_IMAGES}", by_name=True),
        Format("qcow", Kind.FOREIGN_ARCHIVE, ("qcow", "qcow2"), advice=_MOUNT, title=f"QEMU {_IMAGES}"),
        Format("dmg", Kind.FOREIGN_ARCHIVE, ("dmg",), advice=_MOUNT, title=f"Apple {_IMAGES}", by_name=True),
        Format("iso", Kind.FOREIGN_ARCHIVE, ("iso",), advice=_MOUNT, title="CD and DVD images", by_name=True),
        Format("dd", Kind.FOREIGN_ARCHIVE, ("dd", "img", "001"), advice=_MOUNT, title=f"raw {_IMAGES}", by_name=True),
        Format("svg", Kind.OTHER, ("svg",)),
        Format("text", Kind.OTHER, ("txt", "md", "csv", "json", "xml", "html", "htm", "log")),
        Format("unknown", Kind.OTHER),
    )
}

UNKNOWN = "unknown"

CAMERA_RAW = frozenset(name for name, entry in FORMATS.items() if entry.advice == _DEVELOP)
"""Types of raw files of cameras: the JPEG inside is decoded, not the raw data."""

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
    (b"LZIP\x01", "lzip"),
    (b"\x1f\x9d", "compress"),
    (b"\x50\x2a\x4d\x18", "zstd"),  # a skippable frame, as pzstd writes first
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\x78\x9f\x3e\x22", "tnef"),
    (b"!BDN", "pst"),
    (b"EVF\x09\x0d\x0a\xff\0", "ewf"),
    (b"EVF2\x0d\x0a\x81\0", "ewf"),
    (b"LVF\x09\x0d\x0a\xff\0", "l01"),
    (b"LEF2\x0d\x0a\x81\0", "l01"),
    (b"ADSEGMENTEDFILE", "ad1"),
    (b"AFF10\r\n\0", "aff"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"conectix", "vhd"),
    (b"vhdxfile", "vhd"),
    (b"QFI\xfb", "qcow"),
    (b"%PDF-", "pdf"),
)

_PNM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"mif1", b"msf1", b"mif2"})  # of any coding


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
    if _is_icon(head):
        return "ico"
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
    if _is_disk(head):
        return "dd"
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
    if b"crx " in brands:
        return "cr3"
    return "heic" if brands & _HEIF_BRANDS else UNKNOWN


def _is_icon(head: bytes) -> bool:
    """By its start and the first entry of its folder: the start alone is that of other files, too."""
    if head[:4] != b"\0\0\1\0" or len(head) < 22:
        return False
    count, size, offset = (int.from_bytes(head[at:end], "little") for at, end in ((4, 6), (14, 18), (18, 22)))
    return head[9] == 0 and count > 0 and size > 0 and offset >= 6 + 16 * count


def is_targa(data: bytes) -> bool:
    """Whether the bytes can be a TGA. Most begin with nothing that says so: ask only where the name does."""
    if len(data) < 18:
        return False
    width, height = (int.from_bytes(data[at : at + 2], "little") for at in (12, 14))
    return data[1] in (0, 1) and data[2] in (1, 2, 3, 9, 10, 11) and data[16] in (8, 16, 24, 32) and width * height > 0


_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706
_REDUCED = 0x1  # NewSubfileType: the picture is a smaller version of another one in the file


def camera_raw_type(data: bytes, claim: str | None) -> str | None:
    """The raw type of bytes that start like a TIFF, None if they are a plain one.

    A DNG says what it is. Others (NEF, ARW, …) are known by their name, or because their first picture is a reduced
    one and the real ones are in sub-folders of it, which no plain TIFF does.
    """
    tags = next(tiff_directories(data), {})
    if _DNG_VERSION in tags:
        return "dng"
    if claim in CAMERA_RAW:
        return claim
    return "raw" if _SUB_IFDS in tags and tags.get(_NEW_SUBFILE_TYPE, (0, 0))[1] & _REDUCED else None


def tiff_directories(block: bytes) -> Iterator[dict[int, tuple[int, int]]]:
    """Tags of the first two directories of a classic TIFF, or of a block that is built like one.

    Of each tag the number of its values, and the one value as a number, or the offset of all.
    """
    order, place = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4]), 4
    for _ in range(2):
        if order is None or place + 4 > len(block):
            return
        (start,) = struct.unpack_from(order + "I", block, place)
        if not 8 <= start <= len(block) - 2:
            return
        place = start + 2 + 12 * struct.unpack_from(order + "H", block, start)[0]
        entries = block[start + 2 : place]
        yield {
            tag: (count, value >> 16 if kind == 3 and order == ">" else value)  # a SHORT stands in the upper half there
            for tag, kind, count, value in struct.iter_unpack(order + "HHII", entries[: len(entries) // 12 * 12])
        }


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


def _is_disk(head: bytes) -> bool:
    """Whether a file system or a table of partitions starts here."""
    return (
        head[3:11] in (b"NTFS    ", b"EXFAT   ")
        or (head[510:512] == b"\x55\xaa" and (head[512:520] == b"EFI PART" or head[54:59] == b"FAT16"))
        or (head[510:512] == b"\x55\xaa" and (head[82:87] == b"FAT32" or head[:1] in b"\x33\xfa\xeb\0"))
        or head[32:36] == b"NXSB"
        or head[1024:1026] in (b"H+", b"HX")
        or (head[1080:1082] == b"\x53\xef" and not head[:512].strip(b"\0"))
    )


_MBOX = re.compile(rb"From (?:\S[^\r\n]*\b\d\d:\d\d[^\r\n]*)?\r?\n[!-9;-~]+:")
_HEADERS = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+")
_MAIL_HEADERS = re.compile(rb"^(from|date|message-id|mime-version|received|return-path|subject):", re.M | re.I)


def _is_mail(head: bytes) -> bool:
    """Whether it starts with the headers of a mail, three of the usual ones among them."""
    start = _HEADERS.match(head)
    return start is not None and len({name.lower() for name in _MAIL_HEADERS.findall(start[0])}) >= 3


def _sniff_text(head: bytes) -> str:
    if _MBOX.match(head):
        return "mbox"
    if _is_mail(head):
        return "eml"
    if not head or _CONTROL.search(head):
        return UNKNOWN
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or error.reason != "unexpected end of data":
            return UNKNOWN
    return "svg" if b"<svg" in head else "text"


# Of no type above, in the words of a report: by content, else by name.
_HOLDER_STARTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb".{0,1020}%PDF-", re.DOTALL), "PDF"),
    (re.compile(rb"....ftyp(?!M4A|M4B|M4P|F4A|heic|heix|mif1|msf1|avif|crx )", re.DOTALL), "video"),
    (re.compile(rb"....(moov|mdat|wide|free|skip)", re.DOTALL), "video"),  # QuickTime
    (re.compile(rb"\x1aE\xdf\xa3|FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\0\0\x01[\xba\xb3]"), "video"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "video"),
    (re.compile(rb"G.{187}G.{187}G", re.DOTALL), "video"),  # MPEG transport stream
    (re.compile(rb"\{\\rtf|AT&TFORM|%!PS|\xc5\xd0\xd3\xc6"), "document"),
    (re.compile(rb"CMMM|IMMM"), "thumbnail cache"),
)
_HOLDER_NAMES = {
    extension: kind
    for kind, extensions in {
        "video": "3g2 3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv vob webm wmv",
        "mail file": "msf",
        "document": "doc dot ppt pps pot xls xlt vsd pub rtf djvu eps ps xps oxps one mobi azw azw3 pages key numbers "
        "fodt fods fodp fodg",
        "metafile": "emf emz wmf wmz",
        "disk image": "aff4 raw wim",
        "archive": "ace ar arj br cpio deb lha lzh lzma lzo r00 rpm sit sitx xar zoo",
    }.items()
    for extension in extensions.split()
}
_PLURALS = {"PDF": "PDF"}


def holder_of(name: str, head: bytes) -> str | None:
    """What a file is that can hold pictures, None if it is nothing of that kind, or empty.

    Args:
        name: its name or locator.
        head: its first bytes, of kind `OTHER`.
    """
    if not head:
        return None
    found = (kind for start, kind in _HOLDER_STARTS if start.match(head))
    return next(found, _HOLDER_NAMES.get(extension_of(name)))


def archive_holder(name: str) -> str | None:
    """The same for what was taken for an archive and is not opened, by its name; None if the name claims nothing."""
    claim = claimed_type(name)
    if not is_archive(claim):
        return _HOLDER_NAMES.get(extension_of(name))
    if claim in ("pdf", "eml", "mbox", "msg"):
        return "PDF" if claim == "pdf" else "mail file"
    advice = FORMATS[claim or UNKNOWN].advice
    return {_MOUNT: "disk image", _EXTRACT: "mail file", _EXTRACT_MAIL: "mail file"}.get(advice or "", "archive")


def not_opened(counts: Mapping[str, int]) -> str:
    """`20 PDF and 1 video were not opened; they can hold pictures.`; empty if there are none."""
    words = [
        f"{number:,} {kind if number == 1 else _PLURALS.get(kind, kind + 's')}"
        for kind, number in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if number
    ]
    if not words:
        return ""
    if len(words) == 1 and max(counts.values()) == 1:
        return f"{words[0]} was not opened; it can hold pictures."
    shown = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"{shown} were not opened; they can hold pictures."
