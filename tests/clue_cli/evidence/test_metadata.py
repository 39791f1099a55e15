"""EXIF in brief and findings: correct on honest files, unimpressed by hostile ones."""

from __future__ import annotations

import io
import struct
import time

import pytest
from PIL import Image, PngImagePlugin

from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.metadata import file_findings, read_exif
from clue_cli.records import ExifBrief
from tests.faults import broken_pictures, pictures

PHOTO = pictures.jpeg()


def exif_of(tags: dict[int, object], sub: dict[int, dict[int, object]] | None = None) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    for ifd, entries in (sub or {}).items():
        exif.get_ifd(ifd).update(entries)
    return exif.tobytes()


def test_the_brief_says_what_the_file_says() -> None:
    block = exif_of(
        {0x010F: "Canon", 0x0110: "EOS 5D", 0x0131: "Adobe Photoshop 25.0", 0x0132: "2024:02:03 04:05:06"},
        {
            0x8769: {0x9003: "2023:01:02 03:04:05", 0x9004: "2023:01:02 03:04:06"},
            0x8825: {1: "N", 2: (52.0, 31.0, 0.0)},
        },
    )
    brief, findings = read_exif(block)
    assert brief == ExifBrief(
        camera_make="Canon",
        camera_model="EOS 5D",
        software="Adobe Photoshop 25.0",
        date_time_original="2023:01:02 03:04:05",
        date_time_digitized="2023:01:02 03:04:06",
        date_time_modified="2024:02:03 04:05:06",
        gps_present=True,
    )
    assert findings == []


def test_an_embedded_thumbnail_is_noticed() -> None:
    entries = struct.pack("<HHII", 0x0201, 4, 1, 8) + struct.pack("<HHII", 0x0202, 4, 1, 4)
    block = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 2) + entries + bytes(4)
    assert read_exif(block)[0].thumbnail_present
    assert not read_exif(exif_of({0x010F: "Canon"}))[0].thumbnail_present


def test_the_exif_of_a_tiff_is_the_file_itself() -> None:
    assert read_exif(pictures.tiff(software="GIMP 2.10"))[0].software == "GIMP 2.10"


def test_hostile_strings_are_made_fit_to_show() -> None:
    with Image.open(io.BytesIO(broken_pictures.jpeg_with_hostile_exif())) as image:
        brief, _ = read_exif(image.info["exif"])
    assert brief.camera_make == broken_pictures.MARKUP  # text; whoever shows it escapes it
    assert brief.camera_model == "Evil\ufffd[2J\ufffdgpj.exe\ufffd\ufffdforged log line"
    assert brief.software == "A" * 200


@pytest.mark.parametrize(
    ("block", "damaged"),
    [
        (b"", False),
        (bytes(64), False),
        (b"garbage", True),
        (b"II*\0", False),
        (broken_pictures.looping_exif(), False),
        (broken_pictures.endless_exif(), True),
    ],
)
def test_a_damaged_exif_block_is_a_finding_and_ends_soon(block: bytes, damaged: bool) -> None:
    started = time.process_time()
    brief, findings = read_exif(block)
    assert bool(findings) == damaged
    assert isinstance(brief, ExifBrief)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Canon", "Canon"),
        ("  Canon\0\0", "Canon"),
        (b"caf\xe9", "caf\ufffd"),
        ("NIKON\u00a0Z 6", "NIKON\u00a0Z 6"),
        ("写真", "写真"),
        ("\0 ", None),
        ("", None),
        (12, "12"),
    ],
)
def test_text_is_cleaned(value: object, text: str | None) -> None:
    assert clean_text(value) == text


def findings_of(data: bytes, kind: str = "jpeg", software: str | None = None, xmp: bytes = b"") -> str:
    return " | ".join(finding.statement for finding in file_findings(data, kind, ExifBrief(software=software), xmp))


def test_an_honest_file_has_no_findings() -> None:
    assert findings_of(PHOTO, software="Ver.1.02") == ""
    assert findings_of(pictures.jpeg(progressive=True)) == ""
    assert findings_of(pictures.encoded(pictures.photo(), "PNG"), "png") == ""


@pytest.mark.parametrize(
    ("software", "xmp", "finding"),
    [
        ("Adobe Photoshop CC", b"", "EXIF says it was last saved by Adobe Photoshop CC."),
        (None, b'<x xmp:CreatorTool="GIMP 2.10"/>', "XMP says it was made with GIMP 2.10."),
        (None, b"<xmp:CreatorTool>Snapseed</xmp:CreatorTool>", "XMP says it was made with Snapseed."),
        ("GIMP 2.10", b'<x xmp:CreatorTool="GIMP 2.10"/>', "EXIF says it was last saved by GIMP 2.10."),
        (None, b'<x xmp:CreatorTool="NIKON Z 6"/>', ""),
    ],
)
def test_programs_named_in_the_file_are_findings(software: str | None, xmp: bytes, finding: str) -> None:
    said = findings_of(PHOTO, software=software, xmp=xmp)
    assert finding in said
    assert said.count("|") == 0
    assert bool(said) == bool(finding)


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def with_segment(marker: int, content: bytes) -> bytes:
    return PHOTO[:2] + segment(marker, content) + PHOTO[2:]


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (with_segment(0xED, b"Photoshop 3.0\0 8BIM"), "Photoshop resource block"),
        (with_segment(0xE1, b"\xff\xd9 an end inside a segment"), ""),
        (PHOTO[:-2], ""),
    ],
)
def test_what_a_jpeg_carries_is_told(data: bytes, finding: str) -> None:
    said = findings_of(data)
    assert finding in said
    assert bool(said) == bool(finding)


def test_a_jpeg_of_nothing_but_segments_ends() -> None:
    assert findings_of(b"\xff\xd8" + b"\xff\xc0\0\2" * 1_000_000 + b"\xff\xd9 hidden") == ""


def test_a_gif_without_its_end_mark_is_told() -> None:
    data = pictures.gif(3)
    assert findings_of(data, "gif") == ""
    assert findings_of(data + bytes(3), "gif") == ""
    assert "end mark" in findings_of(broken_pictures.truncated(data, 0.6), "gif")


def test_what_follows_the_end_of_a_png_is_told() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("IEND", "a chunk that says IEND")
    data = pictures.encoded(pictures.photo(), "PNG", pnginfo=info)
    assert findings_of(data, "png") == ""
    assert (
        findings_of(data + b"secret" + data, "png")
        == f"{6 + len(data):,} bytes of other data follow the end of the PNG."
    )
    assert findings_of(data + b"secret", "png") == "6 bytes of other data follow the end of the PNG."


def test_a_png_without_its_end_or_with_a_wrong_checksum_is_told() -> None:
    data = pictures.encoded(pictures.photo(), "PNG")
    assert findings_of(data[:-12], "png") == "The PNG lacks its end mark (IEND): it may have been cut."
    at = data.index(b"IEND") - 4
    assert "The checksum of a chunk of the PNG is wrong (IDAT)" in findings_of(
        data[:at].replace(data[at - 4 : at], bytes(4)) + data[at:], "png"
    )
