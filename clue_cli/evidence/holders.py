"""Files that are no pictures and are not opened, but can hold some: what they are, in a word, and how many."""

from __future__ import annotations

import re
from collections.abc import Mapping

from clue_cli.evidence.formats import extension_of

# By content. What has no entry is recognized by its name.
_STARTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb".{0,1020}%PDF-", re.DOTALL), "PDF"),
    (re.compile(rb"....ftyp(?!M4A|M4B|M4P|F4A|heic|heix|mif1|msf1|avif|crx )", re.DOTALL), "video"),
    (re.compile(rb"....(moov|mdat|wide|free|skip)", re.DOTALL), "video"),  # QuickTime
    (re.compile(rb"\x1aE\xdf\xa3|FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\0\0\x01[\xba\xb3]"), "video"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "video"),
    (re.compile(rb"G.{187}G.{187}G", re.DOTALL), "video"),  # MPEG transport stream
    (re.compile(rb"!BDN"), "mail file"),  # Outlook
    (re.compile(rb"\{\\rtf|AT&TFORM|%!PS|\xc5\xd0\xd3\xc6"), "document"),
    (re.compile(rb"CMMM|IMMM"), "thumbnail cache"),
    (re.compile(rb"KDMV|QFI\xfb|vhdxfile|conectix|LVF\x09\x0d\x0a\xff"), "disk image"),
)
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of Office until 2003, and of Outlook's messages

_BY_NAME: Mapping[str, str] = {
    extension: kind
    for kind, extensions in {
        "video": "3g2 3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv vob webm wmv",
        "mail file": "eml emlx mbox mbx msf msg oft ost pst",
        "document": "doc dot ppt pps pot xls xlt vsd pub rtf djvu eps ps xps oxps one mobi azw azw3 pages key numbers "
        "fodt fods fodp fodg",
        "metafile": "emf emz wmf wmz",
        "disk image": "001 aff aff4 dd dmg e01 ex01 img iso l01 qcow2 raw vdi vhd vhdx vmdk wim",
        "archive": "ace ar arj br cpio deb lha lzh lzma lzo rar r00 rpm sit sitx xar z zoo",
    }.items()
    for extension in extensions.split()
}
_PLURALS = {"PDF": "PDF"}


def holder_of(name: str, head: bytes) -> str | None:
    """What a file is that can hold pictures, None if it is nothing of that kind, or empty.

    Args:
        name: its name or locator.
        head: its first bytes.
    """
    if not head:
        return None
    extension = extension_of(name)
    if head.startswith(_COMPOUND):
        last = name.rsplit("/", 1)[-1].lower()
        return "thumbnail cache" if last.startswith("thumbs.db") else _BY_NAME.get(extension, "document")
    return next((kind for start, kind in _STARTS if start.match(head)), _BY_NAME.get(extension))


def kind_named(name: str) -> str:
    """What an archive that could not be opened is, by its name: `PDF`, `disk image`, `mail file` or `archive`."""
    extension = extension_of(name)
    return "PDF" if extension == "pdf" else _BY_NAME.get(extension, "archive")


def not_opened(counts: Mapping[str, int]) -> str:
    """`20 disk images and 1 video were not opened; they can hold pictures.`; empty if there are none."""
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
