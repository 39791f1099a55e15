"""Formats that need more than Pillow, and the true reason where a picture is not decoded."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clue_cli.evidence.decode import Page, PageCount, PageFailure, decode_pages
from clue_cli.evidence.formats import FORMATS, Kind
from clue_cli.evidence.item import Photo
from clue_cli.evidence.reader import identify
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.records import FailureCode
from tests.faults import broken_pictures, pictures
from tests.faults.heic import heic

SOURCE = np.asarray(pictures.photo())


def pages(data: bytes, name: str = "", limits: DecodeLimits | None = None) -> list[Page | PageFailure]:
    decoded = decode_pages(data, identify(data, name).sniffed_type, limits or DecodeLimits())
    return [
        replace(page, image=page.image.copy()) if isinstance(page, Page) else page
        for page in decoded
        if not isinstance(page, PageCount)
    ]


def page(data: bytes, name: str = "") -> Page:
    (only,) = pages(data, name)
    assert isinstance(only, Page), only
    return only


def failure(data: bytes, name: str = "") -> PageFailure:
    (only,) = pages(data, name)
    assert isinstance(only, PageFailure), only
    return only


def statements(decoded: Page) -> list[str]:
    return [finding.statement for finding in decoded.findings]


def difference(decoded: Page, expected: np.ndarray[Any, Any] = SOURCE) -> float:
    found = np.asarray(decoded.image)
    assert found.shape == expected.shape
    return float(np.abs(found.astype(float) - expected).mean())


# ------------------------------------------------------------------------------------------- texts and profiles

LONG = "<x>" + "a" * 1_500_000 + "</x>"


def _png(*texts: tuple[str, str, str], **options: Any) -> bytes:
    info = PngInfo()
    for kind, name, text in texts:
        if kind == "iTXt":
            info.add_itxt(name, text, zip=True)
        elif kind == "plain iTXt":
            info.add_itxt(name, text)
        else:
            info.add_text(name, text, zip=kind == "zTXt")
    return pictures.encoded(pictures.photo(), "PNG", pnginfo=info, **options)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_png(("iTXt", "XML:com.adobe.xmp", LONG)), "iTXt “XML:com.adobe.xmp”"),
        (_png(("zTXt", "prompt", LONG)), "zTXt “prompt”"),
        (_png(icc_profile=bytes(2_000_000)), "iCCP “ICC Profile”"),
        (_png(*[("zTXt", f"t{n}", LONG) for n in range(5)]), "zTXt “t0”, zTXt “t1”, zTXt “t2”, and 2 more"),
    ],
)
def test_a_png_with_a_huge_text_or_profile_is_examined_and_the_chunk_is_named(data: bytes, said: str) -> None:
    decoded = page(data)
    assert difference(decoded) == 0
    assert statements(decoded) == [f"Text or profile too large to read, so not examined: {said}."]


def test_such_a_chunk_after_the_pixels_is_named_too() -> None:
    plain, chunk = _png(), _png(("zTXt", "late", LONG))
    start = chunk.index(b"zTXt") - 4
    moved = chunk[start : chunk.index(b"IDAT") - 4]
    assert statements(page(plain[:-12] + moved + plain[-12:])) == [
        "Text or profile too large to read, so not examined: zTXt “late”."
    ]


def test_texts_and_exif_after_the_pixels_are_read() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "GIMP 2.10"
    whole = _png(("tEXt", "parameters", "a cat"), exif=exif)
    late = [
        whole[at - 4 : at + 8 + int.from_bytes(whole[at - 4 : at], "big")]
        for at in map(whole.index, (b"eXIf", b"tEXt"))
    ]
    moved = whole
    for chunk in late:
        moved = moved.replace(chunk, b"")
    moved = moved[:-12] + b"".join(late) + moved[-12:]
    assert [found.kind for found in page(moved).findings] == [found.kind for found in page(whole).findings]
    assert (page(moved).orientation, page(moved).exif.software) == (6, "GIMP 2.10")


@pytest.mark.parametrize("kind", ["tEXt", "plain iTXt"])
def test_a_long_plain_text_is_read(kind: str) -> None:
    assert statements(page(_png((kind, "XML:com.adobe.xmp", LONG.replace("aaa", "xmp:CreatorTool='GIMP'", 1))))) == [
        "XMP says it was made with GIMP. Such programs also import, resize and convert pictures without changing what "
        "they show."
    ]


def test_all_texts_together_have_a_limit() -> None:
    whole = "a" * 1_000_000
    bomb = page(_png(*[("zTXt", f"t{n}", whole) for n in range(80)]))
    assert difference(bomb) == 0
    assert "zTXt “t67”, zTXt “t68”, zTXt “t69”, and 10 more" in statements(bomb)[0]


def _jpeg_with(marker: int, content: bytes, count: int) -> bytes:
    data = pictures.jpeg()
    return data[:2] + (struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content) * count + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        pictures.jpeg(icc_profile=bytes(9_000_000)),
        _jpeg_with(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000), 300),
        _jpeg_with(0xED, b"Photoshop 3.0\x008BIM" + bytes(60_000), 100),
        _jpeg_with(0xFE, b"comment" * 9000, 100),
        pictures.tiff(tiffinfo={700: b"<x>" + bytes(9_000_000), 37724: bytes(9_000_000)}, icc_profile=bytes(9_000_000)),
        pictures.encoded(pictures.photo(), "WEBP", xmp=LONG.encode() * 4, icc_profile=bytes(9_000_000)),
        pictures.encoded(pictures.photo(), "AVIF", xmp=LONG.encode() * 4),
    ],
    ids=["JPEG profile", "JPEG XMP", "JPEG APP13", "JPEG comment", "TIFF", "WebP", "AVIF"],
)
def test_other_pictures_with_huge_metadata_are_examined(data: bytes) -> None:
    assert all(isinstance(decoded, Page) for decoded in pages(data))


# ------------------------------------------------------------------------------------------------ Apple's PNG


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def cgbi(pixels: np.ndarray[Any, Any], cut: int | None = None) -> bytes:
    """RGB, or RGBA with premultiplied colours, as Apple's variant of PNG."""
    height, width, channels = pixels.shape
    swapped = pixels[..., [2, 1, 0, 3][:channels]].astype(np.uint8)
    # Every second row by the filter "up", as a difference to the row above
    rows = b"".join(
        bytes([2]) + (swapped[y] - swapped[y - 1]).tobytes() if y % 2 else bytes([0]) + swapped[y].tobytes()
        for y in range(height)
    )
    packer = zlib.compressobj(wbits=-15)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    packed = (packer.compress(rows) + packer.flush())[:cut]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, content)
        for kind, content in (
            (b"CgBI", b"\x50\0\x20\2"),
            (b"IHDR", header),
            (b"IDAT", packed[:100]),
            (b"IDAT", packed[100:]),
            (b"IEND", b""),
        )
    )


def test_apples_png_is_decoded_and_named() -> None:
    decoded = page(cgbi(SOURCE))
    assert difference(decoded) == 0
    assert decoded.decoding == ("Apple's CgBI PNG: channels put back in order",)
    assert statements(decoded) == ["It is Apple's CgBI variant of PNG, as apps for iOS hold."]


def test_the_alpha_of_apples_png_is_divided_out() -> None:
    alpha = np.full((32, 48, 1), 255)
    alpha[4:8, 4:8] = 128
    straight = np.concatenate([SOURCE, alpha], axis=2)
    multiplied = np.concatenate([(SOURCE * (alpha / 255)).round(), alpha], axis=2)
    expected = pictures.encoded(Image.fromarray(straight.astype(np.uint8)), "PNG")
    assert difference(page(cgbi(multiplied)), np.asarray(page(expected).image)) < 0.1
    assert "alpha composited over white" in page(cgbi(multiplied)).decoding


@pytest.mark.parametrize("data", [cgbi(SOURCE, cut=900), cgbi(SOURCE)[:60], cgbi(SOURCE)[:20]])
def test_a_cut_png_of_apple_is_no_picture_that_was_read_whole(data: bytes) -> None:
    (decoded,) = pages(data)
    assert isinstance(decoded, PageFailure)
    assert decoded.code is FailureCode.CORRUPT_IMAGE


def test_a_huge_png_of_apple_is_refused_by_its_header() -> None:
    data = cgbi(SOURCE).replace(struct.pack(">II", 48, 32), struct.pack(">II", 60_000, 60_000))
    assert failure(data).code is FailureCode.TOO_MANY_PIXELS


# ------------------------------------------------------------------------------------------------------- HEIC


def test_each_picture_of_a_heic_is_a_page_the_main_one_first() -> None:
    found = pages(heic(pictures=3, main=1))
    assert [(each.page, each.page_count) for each in found] == [(0, 3), (1, 3), (2, 3)]
    assert all(isinstance(each, Page) and difference(each) < 12 for each in found)
    assert len(pages(heic(pictures=3), limits=DecodeLimits(max_pages=2))) == 3


@pytest.mark.parametrize("options", [{"described": 40}, {"maps": 40}, {"tiles": 48}])
def test_a_heic_with_many_references_is_decoded(options: dict[str, int]) -> None:
    decoded = page(heic(**options))
    expected = 64 * options.get("tiles", 0.75)
    assert decoded.image.width == expected


def test_a_heic_may_have_any_main_brand() -> None:
    assert difference(page(heic().replace(b"ftypheic", b"ftypMiHE"))) < 12


def test_the_maps_in_a_heic_are_named() -> None:
    assert statements(page(heic(maps=2))) == [
        "Maps that belong to the picture, as phones write them, were not examined: 2 (hdrgainmap)."
    ]


@pytest.mark.parametrize(("package", "data"), [("pi_heif", heic()), ("pylibjxl", pictures.jxl())])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, package: str, data: bytes) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    missing = failure(data)
    assert (missing.code, missing.advice) == (FailureCode.MISSING_EXTRA, f"pip install {package.replace('_', '-')}")


# --------------------------------------------------------------------------------- JPEG XL, PSD, ICO, TGA, JPEG 2000


def test_a_jpeg_in_a_jpeg_xl_is_restored() -> None:
    import pylibjxl

    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "X100"
    jpeg = pictures.jpeg(exif=exif)
    restored, plain = page(pylibjxl.jpeg_to_jxl(jpeg)), page(jpeg)
    np.testing.assert_array_equal(np.asarray(restored.image), np.asarray(plain.image))
    assert (restored.orientation, restored.exif) == (6, plain.exif)
    assert "bit for bit" in statements(restored)[0]


def test_the_exif_of_a_jpeg_xl_is_read_and_its_orientation_left_to_the_decoder() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "X100"
    decoded = page(pictures.jxl(lossless=True, exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    assert (decoded.exif.camera_model, decoded.orientation) == ("X100", 1)


def test_the_composite_of_a_psd_is_examined() -> None:
    inks = page(pictures.psd(channels=4, mode=4))
    assert inks.decoding == ("CMYK converted to RGB without a colour profile",)
    assert page(pictures.psd(channels=1, mode=1)).decoding == ("greyscale repeated in three channels",)


def test_the_largest_icon_is_examined() -> None:
    data = pictures.encoded(pictures.photo(64, 64), "ICO", sizes=[(16, 16), (64, 64), (32, 32)])
    decoded = page(data)
    assert decoded.image.size == (64, 64)
    assert statements(decoded) == ["It holds icons of 3 sizes; only the largest was examined."]


@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}])
def test_a_tga_is_known_by_its_name(options: dict[str, Any]) -> None:
    data = pictures.encoded(pictures.photo(), "TGA", **options)
    assert difference(page(data, "a.TGA")) == 0
    assert identify(data, "a.dat").sniffed_type == "unknown"


def test_jpeg_2000_of_16_bits() -> None:
    grey = SOURCE[..., 0]
    data = pictures.encoded(Image.fromarray(grey.astype(np.uint16) << 8), "JPEG2000")
    decoded = page(data)
    assert difference(decoded, np.repeat(grey[..., None], 3, axis=2)) == 0
    assert decoded.decoding[0] == "16-bit samples cut to their upper 8 bits"


# ------------------------------------------------------------------------------------------------- raw files

PREVIEW = pictures.jpeg(640, 480)
THUMBNAIL = pictures.jpeg(160, 120)
LOSSLESS = b"\xff\xd8\xff\xc3\0\x11\x08\x10\0\x10\0\3" + bytes(9) + b"\xff\xda\0\2" + b"\x12" * 500


def raw_tiff(*tags: tuple[int, int], jpegs: tuple[bytes, ...] = (THUMBNAIL, PREVIEW, LOSSLESS)) -> bytes:
    """A raw file that looks like TIFF, with SHORT tags, a model, and JPEGs wherever the maker puts them."""
    entries = sorted([(tag, 3, 1, value) for tag, value in tags] + [(0x0110, 2, 5, 8)])
    folder = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = b"II*\0\x10\0\0\0NEX7\0\0\0\0" + struct.pack("<H", len(entries)) + folder + bytes(4)
    return start + bytes(100) + b"\x37\x91".join(jpegs) + b"\x91\x37\xff\xd8\x11" * 200


def cr3() -> bytes:
    block = raw_tiff((0x0112, 6), jpegs=())[:200]
    boxes = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + struct.pack(">I", len(block) + 8) + b"CMT1" + block
    return boxes + THUMBNAIL + b"mdat" + PREVIEW + bytes(500)


@pytest.mark.parametrize(
    ("data", "name", "kind", "orientation"),
    [
        (raw_tiff((0x0112, 6)), "a.nef", "RAW", 6),
        (raw_tiff((0x0112, 8)), "a.arw", "RAW", 8),
        (raw_tiff((50706, 1)), "a", "DNG", 1),
        (raw_tiff((0x0112, 3))[:8] + b"CR\2\0" + raw_tiff((0x0112, 3))[12:], "a.cr2", "CR2", 3),
        (b"IIU\0" + raw_tiff((0x0112, 6))[4:], "a.rw2", "RW2", 6),
        (b"IIRO" + raw_tiff((0x0112, 6))[4:], "a.orf", "ORF", 6),
        (pictures.raf(PREVIEW), "a.raf", "RAF", 1),
        (cr3(), "a.cr3", "CR3", 6),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_preview_of_a_raw_file_is_examined_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch, data: bytes, name: str, kind: str, orientation: int
) -> None:
    monkeypatch.setattr("clue_cli.evidence.opening.find_spec", lambda name: None)
    decoded = page(data, name)
    assert difference(decoded, np.asarray(page(PREVIEW).image)) == 0
    assert decoded.orientation == orientation
    assert f"JPEG preview of the {kind} file" in decoded.decoding
    assert statements(decoded) == [
        f"Examined: the camera's own JPEG preview inside the {kind} file, 640 × 480 pixels at byte "
        f"{data.index(PREVIEW)}; the RAW data itself was not examined (the extra `raw` develops it)."
    ]
    if kind not in ("RAF", "CR2"):
        assert decoded.exif.camera_model == "NEX7"


@pytest.mark.parametrize("jpegs", [(), (THUMBNAIL,), (LOSSLESS,), (PREVIEW[:20],), (b"\xff\xd8\xff" * 1000,)])
def test_a_raw_file_without_a_preview_is_named(monkeypatch: pytest.MonkeyPatch, jpegs: tuple[bytes, ...]) -> None:
    monkeypatch.setattr("clue_cli.evidence.opening.find_spec", lambda name: None)
    refused = failure(raw_tiff((50706, 1), jpegs=jpegs))
    assert refused.code is FailureCode.UNSUPPORTED_FORMAT
    assert "DNG without a JPEG preview inside" in refused.message
    assert "clue-forensics[raw]" in str(refused.advice)


def dng(preview: bytes) -> bytes:
    """A digital negative that LibRaw develops: raw samples behind a colour filter array."""
    buffer = io.BytesIO()
    mosaic = (np.kron(SOURCE[..., 1], np.ones((4, 4))) * 16).astype(np.uint16)
    matrix = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    tags: list[tuple[Any, ...]] = [
        (33421, 3, 2, (2, 2)),
        (33422, 1, 4, (0, 1, 1, 2)),
        (50706, 1, 4, (1, 4, 0, 0)),
        (50708, 2, 0, "NEX7"),
        (50717, 4, 1, 4095),
        (50721, 10, 9, matrix),
    ]
    tifffile.imwrite(buffer, mosaic, photometric=32803, extratags=tags, metadata=None)
    return buffer.getvalue() + preview


@pytest.mark.parametrize("preview", [PREVIEW, b""])
def test_the_extra_develops_the_raw_data(preview: bytes) -> None:
    pytest.importorskip("rawpy")
    *first, developed = pages(dng(preview))
    assert len(first) == bool(preview)
    assert isinstance(developed, Page), developed
    assert developed.image.size == (192, 128)
    assert "RAW data developed with the camera's white balance" in developed.decoding
    assert developed.page_count == 1 + len(first)


def test_raw_data_that_cannot_be_developed_does_not_cost_the_preview() -> None:
    pytest.importorskip("rawpy")
    first, second = pages(raw_tiff((50706, 1)))
    assert isinstance(first, Page)
    assert isinstance(second, PageFailure)
    assert second.code is FailureCode.UNSUPPORTED_FORMAT
    assert second.message.startswith("The RAW data cannot be developed: ")


# ------------------------------------------------------------------------------------------- hostile pictures

_HUGE = 60_000


def _icon(content: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 48, 32, 0, 0, 1, 32, len(content), 22) + content


def _claiming(data: bytes, *places: int, order: str = ">") -> bytes:
    """A picture whose header says 60,000 at these places."""
    copy = bytearray(data)
    for at in places:
        struct.pack_into(order + "I", copy, at, _HUGE)
    return bytes(copy)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.psd", _claiming(pictures.psd(), 14, 18)),
        ("a.jp2", pictures.encoded(pictures.photo(), "JPEG2000").replace(bytes([0, 0, 0, 48]), bytes([0, 0, 234, 96]))),
        ("a.ico", _icon(broken_pictures.png_claiming(_HUGE, _HUGE))),
        ("a.ico", _icon(struct.pack("<Iii", 40, _HUGE, _HUGE) + bytes(28))),
        ("a.tga", pictures.encoded(pictures.photo(), "TGA")[:12] + b"\xff\xff\xff\xff\x18" + bytes(20)),
        ("a.heic", heic().replace(struct.pack(">II", 64, 64), struct.pack(">II", _HUGE, _HUGE))),
        ("a.nef", raw_tiff(jpegs=(PREVIEW.replace(struct.pack(">HH", 480, 640), struct.pack(">HH", _HUGE, _HUGE)),))),
    ],
)
def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(name: str, data: bytes) -> None:
    first = pages(data, name, DecodeLimits(max_megapixels=1))[0]
    assert isinstance(first, PageFailure)
    assert first.code is FailureCode.TOO_MANY_PIXELS, first


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", cgbi(SOURCE)),
        ("a.png", _png(("zTXt", "long", LONG))),
        ("a.nef", raw_tiff((0x0112, 6))),
        ("a.cr3", cr3()),
        ("a.dng", dng(PREVIEW)),
        ("a.heic", heic(pictures=2, maps=2, described=2)),
        ("a.heic", heic(tiles=3)),
        ("a.tga", pictures.encoded(pictures.photo(), "TGA")),
        ("a.psd", pictures.psd(channels=4, mode=4)),
        ("a.jxl", pictures.jxl()),
    ],
)
def test_damaged_pictures_get_an_answer(pool: DecodePool, name: str, data: bytes) -> None:
    for number, damaged in enumerate(broken_pictures.mutations(data, 15, len(data))):
        identity = identify(damaged, name)
        if FORMATS[identity.sniffed_type].kind is not Kind.PICTURE:
            continue
        found = list(pool.decode(f"{number}", damaged, identity))
        assert found
        for each in found:
            assert isinstance(each, Photo) or each.code not in (
                FailureCode.DECODER_CRASHED,
                FailureCode.DECODER_TIMEOUT,
                FailureCode.INTERNAL_ERROR,
            ), each


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("a.psd", pictures.psd()[:-400], (0, 22)),
        ("a.tga", pictures.encoded(pictures.photo(), "TGA")[:2400], (16, 31)),
        ("a.png", cgbi(SOURCE, cut=1800), (0, 12)),
        ("a.raf", pictures.raf()[: 160 + len(PREVIEW) // 2], (0, 222)),
    ],
)
def test_a_cut_picture_is_examined_as_far_as_it_goes(name: str, data: bytes, rows: tuple[int, int]) -> None:
    decoded = next(
        each
        for each in decode_pages(data, identify(data, name).sniffed_type, DecodeLimits(), as_evidence=True)
        if not isinstance(each, PageCount)
    )
    assert isinstance(decoded, Page), decoded
    assert decoded.rows == rows
    assert any("were not examined" in finding.statement for finding in decoded.findings)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, DecodeLimits(max_megapixels=4, max_pages=20, seconds=20)) as pool:
        yield pool


# ------------------------------------------------------------------------------------------- the true reason


def _tiff(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def _old_jpeg_tiff() -> bytes:
    jpeg = pictures.encoded(pictures.photo(), "JPEG")
    tags = [(256, 48), (257, 32), (259, 6), (262, 6), (277, 3), (513, 8 + 2 + 7 * 12 + 4), (514, len(jpeg))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag > 500 else 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + jpeg


def _compressed(method: int) -> bytes:
    with Image.open(io.BytesIO(pictures.tiff())) as image:
        at = pictures.tiff().index(struct.pack("<HHI", 259, 3, 1))
        assert image.format == "TIFF"
    data = bytearray(pictures.tiff())
    data[at + 8 : at + 10] = struct.pack("<H", method)
    return bytes(data)


def _jpeg_frame(marker: int = 0xC0, bits: int = 8, height: int = 32, components: int = 3) -> bytes:
    data = pictures.jpeg()
    at = data.index(b"\xff\xc0")
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 8 + 3 * components, bits, height, 48, components)
    return data[:at] + frame + data[at + 10 : at + 19][: 3 * components].ljust(3 * components, b"\1") + data[at + 19 :]


def _bmp(bits: int, compression: int) -> bytes:
    data = bytearray(pictures.encoded(pictures.photo(), "BMP"))
    data[28:34] = struct.pack("<HI", bits, compression)
    return bytes(data)


GREY = SOURCE[..., 0]
REFUSED: dict[str, Callable[[], bytes]] = {
    "32-bit float RGB TIFF": lambda: _tiff(SOURCE.astype("f4"), photometric="rgb"),
    "64-bit float grey TIFF": lambda: _tiff(GREY.astype("f8")),
    "16-bit float grey TIFF": lambda: _tiff(GREY.astype("f2")),
    "32-bit RGB TIFF": lambda: _tiff(SOURCE.astype("u4"), photometric="rgb"),
    "64-bit complex grey TIFF": lambda: _tiff(GREY.astype("c8")),
    "8-bit CMYK TIFF with alpha": lambda: _tiff(
        np.dstack([SOURCE, SOURCE[..., :2]]), photometric="separated", extrasamples=["unassalpha"]
    ),
    "8-bit grey TIFF with 4 further channels": lambda: _tiff(
        np.dstack([SOURCE, SOURCE[..., :2]]), photometric="minisblack", planarconfig="contig"
    ),
    "8-bit RGB TIFF, compressed with JPEG XL": lambda: _compressed(50002),
    "8-bit RGB TIFF, compressed with method 65000": lambda: _compressed(65000),
    "12-bit JPEG": lambda: _jpeg_frame(0xC1, bits=12),
    "lossless JPEG (SOF3)": lambda: _jpeg_frame(0xC3),
    "16-bit lossless JPEG (SOF3)": lambda: _jpeg_frame(0xC3, bits=16),
    "hierarchical JPEG (SOF5)": lambda: _jpeg_frame(0xC5),
    "arithmetic-coded JPEG (SOF13)": lambda: _jpeg_frame(0xCD),
    "JPEG-LS": lambda: _jpeg_frame(0xF7),
    "JPEG of height 0 (DNL)": lambda: _jpeg_frame(height=0),
    "JPEG of 2 components": lambda: _jpeg_frame(components=2),
    "16-bit RGB PSD of 3 channels": lambda: pictures.psd(depth=16),
    "32-bit RGB PSD of 3 channels": lambda: pictures.psd(depth=32),
    "8-bit RGB PSB (large Photoshop document)": lambda: pictures.psd(version=2),
    "24-bit BMP, compressed with JPEG": lambda: _bmp(24, 4),
    "64-bit BMP": lambda: _bmp(64, 0),
    "big-endian BigTIFF": lambda: _tiff(SOURCE, photometric="rgb", bigtiff=True, byteorder=">"),
    "TIFF with a JPEG inside in the old style": lambda: _old_jpeg_tiff(),
    "HEIF with VVC inside": lambda: heic().replace(b"hvc1", b"vvc1"),
    "HEIF with AV1 inside": lambda: heic().replace(b"hvc1", b"av01"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_decoded_is_named(kind: str) -> None:
    refused = failure(REFUSED[kind]())
    assert refused.code is FailureCode.UNSUPPORTED_FORMAT, refused
    assert refused.message == f"clue does not decode this kind of picture: {kind}."
    assert refused.advice is not None


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_page_that_is_not_decoded_is_named_and_does_not_cost_the_others(which: int) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for number in range(3):
            writer.write(SOURCE.astype("f4") if number == which else SOURCE, photometric="rgb")
    found = pages(buffer.getvalue())
    assert [(each.page, each.page_count) for each in found] == [(0, 3), (1, 3), (2, 3)]
    refused = found.pop(which)
    assert isinstance(refused, PageFailure)
    assert refused.code is FailureCode.UNSUPPORTED_FORMAT
    assert "32-bit float RGB TIFF" in refused.message
    assert all(isinstance(each, Page) and difference(each) == 0 for each in found)


def test_a_big_tiff_is_examined_and_has_no_damaged_exif() -> None:
    (found,) = pages(_tiff(SOURCE, photometric="rgb", bigtiff=True))
    assert isinstance(found, Page)
    assert found.findings == ()


@pytest.mark.parametrize("left", [1, 12, 64])
def test_a_tiff_that_is_cut_in_its_directory_is_cut_and_not_unsupported(left: int) -> None:
    data = pictures.encoded(pictures.photo(), "TIFF", compression="jpeg")
    at = int.from_bytes(data[4:8], "little")
    refused = failure(data[: at + left])
    assert refused.code is FailureCode.CORRUPT_IMAGE
    assert "The end of the file is missing" in refused.message


DAMAGED = {kind: data[: len(data) // 2] for kind, data in pictures.one_of_each().items()} | {
    f"start of {kind}": data[:24] for kind, data in pictures.one_of_each().items()
}


def test_what_is_damaged_is_not_called_unsupported() -> None:
    for kind, data in DAMAGED.items():
        for decoded in pages(data):
            assert isinstance(decoded, Page) or decoded.code is not FailureCode.UNSUPPORTED_FORMAT, (kind, decoded)


@pytest.mark.parametrize("bits", [0, 1, 136])
def test_a_precision_that_no_jpeg_has_is_damage(bits: int) -> None:
    assert failure(_jpeg_frame(bits=bits)).code is FailureCode.CORRUPT_IMAGE


def test_two_runs_say_the_same() -> None:
    sources = [make() for make in REFUSED.values()] + list(DAMAGED.values())
    for seed, data in enumerate(pictures.one_of_each().values()):
        sources += broken_pictures.mutations(data, 10, seed)
    said: list[list[list[Any]]] = []
    for _ in range(2):
        held = [bytearray(1000 * n) for n in range(50)]  # moves what is made after it
        said.append(
            [
                [
                    each if isinstance(each, PageFailure) else (each.findings, each.decoding, each.exif)
                    for each in pages(data, limits=DecodeLimits(max_megapixels=4, max_pages=5))
                ]
                for data in sources
            ]
        )
        del held
    assert said[0] == said[1]
    assert "0x" not in repr([message for run in said for results in run for message in results])
