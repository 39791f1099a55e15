"""Cut and damaged pictures: exactly the rows that the file still holds are examined, and it is said which."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.decode import Page, PageFailure, decode_pages
from clue_cli.evidence.jpeg import structure
from clue_cli.evidence.streams import DecodeLimits
from tests.faults import pictures

LIMITS = DecodeLimits()
PHOTO = pictures.photo(200, 160)
KINDS: dict[str, bytes] = {
    "baseline": pictures.encoded(PHOTO, "JPEG", quality=90),
    "4:4:4": pictures.encoded(PHOTO, "JPEG", quality=90, subsampling=0),
    "optimized": pictures.encoded(PHOTO, "JPEG", quality=90, optimize=True),
    "restarts by row": pictures.encoded(PHOTO, "JPEG", quality=90, restart_marker_rows=1),
    "restarts by MCU": pictures.encoded(PHOTO, "JPEG", quality=90, restart_marker_blocks=5),
    "grey": pictures.encoded(PHOTO.convert("L"), "JPEG", quality=90),
    "CMYK": pictures.encoded(PHOTO.convert("CMYK"), "JPEG", quality=90),
}
PROGRESSIVE = pictures.encoded(PHOTO, "JPEG", quality=90, progressive=True)
CUTS = [3, 6, 12, *(range(5, 95, 13))]  # bytes of the end, then percent that are left


def only(data: bytes, kind: str = "jpeg") -> Page | PageFailure:
    (found,) = decode_pages(data, kind, LIMITS, as_evidence=True)
    return found  # type: ignore[return-value]


def page(data: bytes, kind: str = "jpeg") -> Page:
    found = only(data, kind)
    assert isinstance(found, Page), found
    return found


def pixels(found: Page) -> np.ndarray[Any, Any]:
    return np.asarray(found.image)


def said(found: Page) -> str:
    return " | ".join(finding.statement for finding in found.findings)


def kinds(found: Page) -> list[str]:
    """Of the findings; every JPEG has one about its tables."""
    return [finding.kind for finding in found.findings if finding.kind != "quantization_tables"]


@pytest.mark.parametrize("kind", [*KINDS, "progressive"])
def test_a_whole_jpeg_has_no_findings_and_without_its_end_mark_loses_nothing(kind: str) -> None:
    data = KINDS.get(kind, PROGRESSIVE)
    whole = page(data)
    assert (whole.rows, whole.doubt, kinds(whole)) == (None, None, [])
    for cut in (data[:-2], data[:-1]):
        found = page(cut)
        assert (found.rows, found.doubt) == (None, None)
        assert kinds(found) == ["end_missing"]
        np.testing.assert_array_equal(pixels(found), pixels(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", CUTS)
def test_of_a_cut_jpeg_exactly_the_rows_that_are_there_are_examined(kind: str, cut: int) -> None:
    data = KINDS[kind]
    whole = pixels(page(data))
    left = data[: -cut if cut in CUTS[:3] else len(data) * cut // 100]
    found = only(left)
    if isinstance(found, PageFailure):
        assert "The end of the file is missing" in found.message
        assert len(left) < structure(data).scans[0].start + 1200
        return
    same = (pixels(found) == whole).all((1, 2))
    if found.rows is None:  # padding bits alone were cut, or a restart marker
        assert same.all()
        return
    first, last = found.rows
    assert first == 0
    assert same[: last + 1].all()
    assert cut in CUTS[:3] or not same[last + 1 : last + 17].all()  # of a few bits the decoder may guess right
    assert f"rows {last + 1} to 159 of 160 could not be decoded and were not examined" in said(found)
    assert found.doubt is None


@pytest.mark.parametrize("part", [10, 30, 50, 70, 90, 97])
def test_of_a_cut_progressive_jpeg_it_is_said_what_is_less_precise(part: int) -> None:
    found = page(PROGRESSIVE[: len(PROGRESSIVE) * part // 100])
    assert found.doubt is not None
    assert "scan" in said(found)
    assert "less precisely" in said(found)
    assert (found.rows is not None) == (len(structure(PROGRESSIVE[: len(PROGRESSIVE) * part // 100]).scans) == 1)


def test_a_jpeg_cut_in_its_header_is_a_failure_with_that_reason() -> None:
    found = only(KINDS["baseline"][:200])
    assert isinstance(found, PageFailure)
    assert found.message == "The end of the file is missing: it has 200 bytes, and ends in the header of the JPEG."


@pytest.mark.parametrize("kind", ["baseline", "restarts by row"])
def test_data_that_are_missing_inside_are_found(kind: str) -> None:
    data = KINDS[kind]
    scan = structure(data).scans[-1]
    middle = (scan.start + scan.end) // 2
    found = page(data[:middle] + data[middle + 200 :])
    assert found.doubt is not None or found.rows is not None
    assert "damaged" in said(found)


def test_a_marker_inside_the_data_is_found_with_its_place() -> None:
    data = bytearray(KINDS["baseline"])
    scan = structure(bytes(data)).scans[0]
    middle = (scan.start + scan.end) // 2
    data[middle : middle + 2] = b"\xff\x13"
    found = page(bytes(data))
    assert f"stands at byte {middle}." in said(found)
    assert found.rows is not None


def test_strict_decoding_refuses_what_is_cut() -> None:
    (found,) = decode_pages(KINDS["baseline"][:-500], "jpeg", LIMITS)
    assert isinstance(found, PageFailure)


def _encoded(form: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    return pictures.encoded(image, form, **options)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("png", _encoded("PNG")),
        ("png", _encoded("PNG", PHOTO.quantize(32))),
        ("png", _encoded("PNG", PHOTO.convert("1"))),
        ("png", _encoded("PNG", Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) << 8))),
        ("tiff", _encoded("TIFF")),
        ("tiff", _encoded("TIFF", tiffinfo={274: 6})),
        ("gif", _encoded("GIF", PHOTO.quantize(32), interlace=0)),
        ("bmp", _encoded("BMP")),
    ],
    ids=["png", "palette", "bits", "16 bits", "tiff", "turned tiff", "gif", "bmp"],
)
@pytest.mark.parametrize("part", [30, 60, 95])
def test_other_cut_pictures_are_examined_as_far_as_they_go(kind: str, data: bytes, part: int) -> None:
    whole, found = page(data, kind), page(data[: len(data) * part // 100], kind)
    assert found.rows is not None
    first, last = found.rows
    np.testing.assert_array_equal(pixels(found)[first : last + 1], pixels(whole)[first : last + 1])
    assert "were not examined" in said(found)
    assert (first > 0) == (kind == "bmp")  # its rows are stored from the last one up


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_what_can_only_be_decoded_whole_says_so(kind: str) -> None:
    data = _encoded(kind)
    found = only(data[: len(data) * 7 // 10], kind.lower())
    assert isinstance(found, PageFailure)
    assert "can only be decoded whole" in found.message


def test_a_compressed_tiff_of_which_a_strip_is_damaged_keeps_the_others() -> None:
    data = bytearray(_encoded("TIFF", compression="tiff_deflate", strip_size=200 * 3 * 20))
    with Image.open(io.BytesIO(data)) as image:
        offsets = image.tag_v2[273]  # type: ignore[attr-defined]
    data[offsets[-1] : offsets[-1] + 20] = b"\xff" * 20
    found = page(bytes(data), "tiff")
    assert found.rows is not None
    assert found.rows[0] == 0
    assert found.rows[1] >= 100


def test_a_cut_page_of_a_tiff_is_one_page_only() -> None:
    data = pictures.tiff(3)
    found = list(decode_pages(data[:-1000], "tiff", LIMITS, as_evidence=True))
    assert any(isinstance(each, Page) and each.rows is None for each in found)
