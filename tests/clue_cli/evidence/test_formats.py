"""Types by content and by name."""

from __future__ import annotations

import gzip
import importlib
import lzma
import struct

import pytest

from clue_cli.evidence.formats import (
    CAMERA_RAW,
    FORMATS,
    Format,
    Kind,
    archive_holder,
    camera_raw_type,
    claimed_type,
    extension_of,
    holder_of,
    is_archive,
    is_picture,
    kind_of,
    not_opened,
    sniff,
)
from tests.faults import archives, pictures


@pytest.mark.parametrize(("name", "data"), pictures.one_of_each().items(), ids=list(pictures.one_of_each()))
def test_every_picture_type_is_sniffed(name: str, data: bytes) -> None:
    assert sniff(data[:4096]) == name
    assert kind_of(name) is Kind.PICTURE
    assert is_picture(name)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (archives.zip_of({"a": b"a"}), "zip"),
        (archives.zip_of({}), "zip"),
        (archives.tar_of({"a": b"a"}), "tar"),
        (archives.tar_of({"a": b"a"}).replace(b"ustar\x0000", bytes(8)), "unknown"),
        (gzip.compress(b"a", mtime=0), "gzip"),
        (lzma.compress(b"a"), "xz"),
        (b"BZh91AY&SY...", "bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x28\xb5\x2f\xfd\0", "zstd"),
        (b"Rar!\x1a\x07\x01\0", "rar"),
        (b"%PDF-1.7", "pdf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "ole"),
        (b"From - Mon Jan  1 10:00:00 2024\r\nX-Mozilla-Status: 0001\r\n", "mbox"),
        (b"From here on, at 10:00, it is text.\n\n", "text"),
        (b"Received: from a\n\tby b\nDate: c\nSubject: d\n\n\xff\0", "eml"),
        (b"Date: c\nSubject: d\n\nA note, and no mail.", "text"),
        (bytes(510) + b"\x55\xaaEFI PART", "dd"),
        (b"\xeb\x52\x90NTFS    " + bytes(600), "dd"),
        (bytes(1080) + b"\x53\xef", "dd"),
        (b"KDMV\1", "vmdk"),
        (b"EVF\x09\x0d\x0a\xff\0", "ewf"),
        (b"QFI\xfb", "qcow"),
        (b"8BPS\0\1", "psd"),
        (pictures.raf(), "raf"),
        (b"II*\0\x10\0\0\0CR\x02\0", "cr2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "cr3"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "heic"),
        (b"\0\0\1\0\1\0" + bytes(8) + b"\x09\0\0\0\x16\0\0\0", "ico"),
        (b"\0\0\1\0\1\0" + bytes(8) + b"\x09\0\0\0\x15\0\0\0", "unknown"),
        (b"\0\0\1\xba" + bytes(40), "unknown"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "unknown"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\xff\x4f\xff\x51\0", "jp2"),
        (b"P6\n# a comment\n12 8\n255\n", "pnm"),
        (b"BMX is a sport, not a bitmap. And this is a text.", "text"),
        ("Fußgänger".encode(), "text"),
        ("Fußgänger".encode()[:3], "text"),
        (b"\xff\xfe\xfd binary", "unknown"),
        (b"a\0b", "unknown"),
        (b"<?xml version='1.0'?><svg/>", "svg"),
        (b"", "unknown"),
    ],
)
def test_other_types_are_sniffed(head: bytes, name: str) -> None:
    assert sniff(head[:4096]) == name


def test_a_tar_from_before_the_magic_is_known_by_its_checksum() -> None:
    header = bytearray(512)
    header[0:5] = b"a.jpg"
    header[124:135] = b"00000000000"
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    assert sniff(bytes(header)) == "tar"
    header[0] = ord("b")
    assert sniff(bytes(header)) != "tar"


@pytest.mark.parametrize(
    ("name", "extension", "claim"),
    [
        ("ev/a.JPG", "jpg", "jpeg"),
        ("ev/a.jpeg~2", "jpeg", "jpeg"),
        ("case.zip!/a.tiff", "tiff", "tiff"),
        ("case.zip!/README", "", None),
        ("ev/.jpg", "", None),
        ("ev/a.docx", "docx", "zip"),
        ("ev/a.tar.gz", "gz", "gzip"),
        ("ev.d/file", "", None),
    ],
)
def test_what_a_name_claims(name: str, extension: str, claim: str | None) -> None:
    assert extension_of(name) == extension
    assert claimed_type(name) == claim


def test_the_table_is_consistent() -> None:
    extensions = [extension for entry in FORMATS.values() for extension in entry.extensions]
    assert len(extensions) == len(set(extensions))
    for entry in FORMATS.values():
        assert (entry.pillow is not None) == (entry.kind is Kind.PICTURE)
        assert (entry.advice is not None) == (
            entry.name in CAMERA_RAW or entry.kind in (Kind.FOREIGN_PICTURE, Kind.FOREIGN_ARCHIVE)
        )
    assert is_archive("rar")
    assert not is_archive("jpeg")
    assert kind_of("no such type") is Kind.OTHER


def _tiff(order: str, *entries: tuple[int, int, int]) -> bytes:
    """A TIFF of one folder with entries (tag, type, value); SHORTs are type 3."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(
        struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("HH" if kind == 3 else "I"), *value)
        for tag, kind, value in ((t, k, (v, 0) if k == 3 else (v,)) for t, k, v in entries)
    )
    return mark + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("entries", "claim", "expected"),
    [
        ([(256, 3, 8)], "tiff", None),
        ([(50706, 4, 1)], "tiff", "dng"),
        ([(254, 4, 1), (330, 4, 99)], "tiff", "raw"),
        ([(254, 4, 0), (330, 4, 99)], "tiff", None),
        ([(254, 3, 1), (330, 4, 99)], None, "raw"),
        ([(256, 3, 8)], "raw", "raw"),
        ([(256, 3, 8)], "jpeg", None),
    ],
)
def test_raw_pictures_that_look_like_tiff(
    order: str, entries: list[tuple[int, int, int]], claim: str | None, expected: str | None
) -> None:
    assert camera_raw_type(_tiff(order, *entries), claim) == expected


@pytest.mark.parametrize(
    "data", [b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0+\0\x08\0\0", b"II*\0\x08\0\0\0\xff\xff\x01"]
)
def test_a_cut_tiff_is_no_raw_picture(data: bytes) -> None:
    assert camera_raw_type(data, "tiff") is None


@pytest.mark.parametrize("entry", FORMATS.values(), ids=FORMATS)
def test_an_archive_that_is_opened_has_a_container(entry: Format) -> None:
    assert (entry.container is not None) == (entry.kind is Kind.ARCHIVE)
    if entry.container is not None:
        assert callable(importlib.import_module(f"clue_cli.evidence.containers.{entry.container}").members)


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("claim.pdf", b"%PDF-1.7", "PDF"),
        ("claim", b"\r\n%PDF-1.7", "PDF"),
        ("clip.mp4", b"\0\0\0\x14ftypmp42", "video"),
        ("clip.jpg.bin", b"\0\0\0\x14ftypqt  ", "video"),
        ("song.m4a", b"\0\0\0\x14ftypM4A ", None),
        ("clip.mkv", b"\x1aE\xdf\xa3", "video"),
        ("clip.avi", b"RIFF\1\2\3\4AVI LIST", "video"),
        ("sound.wav", b"RIFF\1\2\3\4WAVE", None),
        ("letter.doc", b"{\\rtf1", "document"),
        ("letter.doc", b"\0\1\2", "document"),
        ("x/thumbcache_256.db", b"CMMM", "thumbnail cache"),
        ("notes.txt", b"text", None),
        ("empty.pdf", b"", None),
        ("a.jpg.lzma", b"]\0\0\x80\0", "archive"),
        ("word/media/image1.emf", b"\1\0\0\0", "metafile"),
    ],
)
def test_holders(name: str, head: bytes, expected: str | None) -> None:
    assert holder_of(name, head) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.rar", "archive"),
        ("a.vmdk", "disk image"),
        ("a.dmg", "disk image"),
        ("a.e01", "disk image"),
        ("a.pst", "mail file"),
        ("a.msg", "mail file"),
        ("a.doc", "document"),
        ("a.pdf", "PDF"),
        ("a.bin", None),
    ],
)
def test_archives_that_are_not_opened_have_a_kind(name: str, expected: str | None) -> None:
    assert archive_holder(name) == expected


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ""),
        ({"PDF": 20, "video": 1}, "20 PDF and 1 video were not opened; they can hold pictures."),
        ({"video": 1}, "1 video was not opened; it can hold pictures."),
        (
            {"mail file": 2, "PDF": 1000, "archive": 2},
            "1,000 PDF, 2 archives and 2 mail files were not opened; they can hold pictures.",
        ),
    ],
)
def test_the_sentence_on_what_was_not_opened(counts: dict[str, int], words: str) -> None:
    assert not_opened(counts) == words
