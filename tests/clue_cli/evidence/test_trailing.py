"""What follows a JPEG is told apart, and full-size views are pages."""

from __future__ import annotations

import struct
import time

import pytest

from clue_cli.evidence.decode import Page, PageCount, PageFailure, decode_pages
from clue_cli.evidence.jpeg import structure
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.trailing import after_jpeg
from tests.faults import pictures

PHOTO = pictures.jpeg(200, 160)
OTHER = pictures.encoded(pictures.photo(200, 160, seed=3), "JPEG")
SMALL = pictures.encoded(pictures.photo(60, 48, "L"), "JPEG")
MP4 = struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"mp42") + struct.pack(">I4s", 5008, b"mdat") + b"\x37" * 5000


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + segment(marker, content) + jpeg[2:]


def xmp(jpeg: bytes, text: bytes) -> bytes:
    return with_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text)


def mpf(main: bytes, *others: tuple[int, bytes]) -> bytes:
    """The main picture with an MPF directory, and the others, of these types, behind it."""
    size = 4 + 8 + 2 + 12 + 4 + 16 * (1 + len(others))
    end = len(main) + 4 + size  # the segment has 4 bytes of its own
    entries, position = struct.pack("<IIIHH", 0x030000, end, 0, 0, 0), end - (2 + 4 + 4)
    for kind, data in others:
        entries += struct.pack("<IIIHH", kind, len(data), position, 0, 0)
        position += len(data)
    directory = struct.pack("<HHHIII", 1, 0xB002, 7, len(entries), 26, 0)
    block = b"MPF\0" + b"II*\0" + struct.pack("<I", 8) + directory + entries
    return with_segment(main, 0xE2, block) + b"".join(data for _, data in others)


def samsung(name: bytes, data: bytes) -> bytes:
    block = struct.pack("<HHI", 0, 0x0A30, len(name)) + name + data
    directory = b"SEFH" + struct.pack("<II", 107, 1) + struct.pack("<HHII", 0, 0x0A30, len(block), len(block))
    return block + directory + struct.pack("<I", len(directory)) + b"SEFT"


def said(data: bytes) -> str:
    return " | ".join(finding.statement for finding in after_jpeg(data, structure(data)).findings)


GAIN = xmp(SMALL, b'<rdf hdrgm:Version="1.0"/>')


@pytest.mark.parametrize(
    ("data", "statement"),
    [
        (PHOTO, ""),
        (PHOTO + MP4, "A video (MP4, 5,028 bytes) follows, as in a motion photo."),
        (PHOTO[:-2] + MP4, "A video (MP4, 5,028 bytes) follows, as in a motion photo."),
        (PHOTO + MP4[:-9], "A video (MP4, without its end, 5,019 bytes) follows, as in a motion photo."),
        (PHOTO + GAIN[:-9], f"60 × 48 pixels, {len(GAIN) - 9:,} bytes, without its end)."),
        (PHOTO + GAIN, f"An HDR gain map follows, as phones write (JPEG, 60 × 48 pixels, {len(GAIN):,} bytes)."),
        (mpf(PHOTO, (0, GAIN)), "An HDR gain map follows, as phones write"),
        (PHOTO + SMALL, "A smaller picture follows, as cameras write for previews"),
        (PHOTO + OTHER, "A further picture follows (further view;"),
        (mpf(PHOTO, (0x020003, OTHER)), "A further picture follows (view from another angle;"),
        (PHOTO + b"PK\x03\x04 hidden", "11 bytes of other data follow the end of the JPEG."),
        (PHOTO + bytes(16), "16 zero bytes follow the end of the JPEG."),
        (PHOTO + b"\xff\xd8\xff" + bytes(9), "12 bytes of other data follow the end of the JPEG."),
        (mpf(PHOTO, (0, OTHER))[: -len(OTHER)], "names a picture beyond its end."),
        (PHOTO + samsung(b"MotionPhoto_Data", MP4), "Samsung's trailer follows"),
        (PHOTO + samsung(b"MotionPhoto_Data", MP4), "A video (MP4, 5,028 bytes) follows, as in a motion photo."),
    ],
)
def test_what_follows_is_told_apart(data: bytes, statement: str) -> None:
    assert statement in said(data)
    assert bool(said(data)) == bool(statement)


def test_a_depth_map_is_named_by_the_directory_of_the_container() -> None:
    items = (
        b'<Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary"/>'
        b'<Container:Item Item:Mime="image/jpeg" Item:Semantic="Depth" Item:Length="9"/>'
    )
    assert "A depth map follows" in said(xmp(PHOTO, items) + OTHER)


def test_thumbnails_inside_further_pictures_are_not_counted() -> None:
    inside = with_segment(OTHER, 0xE1, b"Exif\0\0" + SMALL)
    assert said(PHOTO + inside).count("follows") == 1


def test_a_full_size_view_is_a_page_with_its_own_pixels() -> None:
    data = mpf(PHOTO, (0x020003, OTHER))
    count, first, second = decode_pages(data, "jpeg", DecodeLimits(), as_evidence=True)
    assert count == PageCount(2)
    assert isinstance(first, Page)
    assert isinstance(second, Page)
    assert (second.page, second.page_count) == (1, 2)
    (alone,) = decode_pages(OTHER, "jpeg", DecodeLimits())
    assert isinstance(alone, Page)
    assert second.image.tobytes() == alone.image.tobytes()
    assert "behind its main picture, as a view from another angle" in second.findings[0].statement
    assert len(list(decode_pages(data, "jpeg", DecodeLimits()))) == 1


def test_views_beyond_the_limit_and_damaged_views_are_told() -> None:
    found = list(decode_pages(PHOTO + OTHER + OTHER, "jpeg", DecodeLimits(max_pages=2), as_evidence=True))
    assert [type(each) for each in found] == [PageCount, Page, Page, PageFailure]
    *_, last = decode_pages(PHOTO + OTHER[:-900], "jpeg", DecodeLimits(), as_evidence=True)
    assert isinstance(last, Page)
    assert last.rows is not None


@pytest.mark.parametrize("tail", [b"\xff\xd8\xff\xc0" * 50_000, (b"\0\0\0\x14ftypmp42" + bytes(4)) * 20_000, b"SEFT"])
def test_hostile_tails_end(tail: bytes) -> None:
    started = time.process_time()
    findings = said(PHOTO + tail)
    assert time.process_time() - started < 5
    assert "follow" in str(findings), "what stands there is named or counted"
