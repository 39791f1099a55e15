"""From bytes to pixels, without the process around it: every format, mode and limit."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from clue_cli.evidence.decode import Page, PageCount, PageFailure, decode_pages
from clue_cli.evidence.formats import sniff
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.records import FailureCode
from tests.faults import broken_pictures, pictures

LIMITS = DecodeLimits()
SOURCE = np.asarray(pictures.photo())


def pages(data: bytes, limits: DecodeLimits = LIMITS, **options: Any) -> list[Page | PageFailure]:
    decoded = decode_pages(data, sniff(data[:4096]), limits, **options)
    return [
        replace(page, image=page.image.copy()) if isinstance(page, Page) else page
        for page in decoded
        if not isinstance(page, PageCount)
    ]


def page(data: bytes, limits: DecodeLimits = LIMITS) -> Page:
    (only,) = pages(data, limits)
    assert isinstance(only, Page), only
    return only


def failure(data: bytes, limits: DecodeLimits = LIMITS) -> PageFailure:
    (only,) = pages(data, limits)
    assert isinstance(only, PageFailure), only
    return only


def pixels(decoded: Page | PageFailure) -> np.ndarray[Any, Any]:
    assert isinstance(decoded, Page), decoded
    return np.asarray(decoded.image)


def close_to(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], mean: float) -> bool:
    assert found.shape == expected.shape
    return bool(np.abs(found.astype(float) - expected.astype(float)).mean() <= mean)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("jpeg", 6),
        ("png", 0),
        ("tiff", 0),
        ("webp", 9),
        ("avif", 9),
        ("bmp", 0),
        ("gif", 12),
        ("heic", 12),
        ("jp2", 0),
        ("jxl", 0),
        ("psd", 0),
        ("ico", 0),
    ],
)
def test_every_format_is_decoded(name: str, mean: float) -> None:
    first = pages(pictures.one_of_each()[name])[0]
    expected = np.asarray(pictures.photo(seed=0)) if name in ("tiff", "gif") else SOURCE
    assert close_to(pixels(first), expected, mean)
    assert isinstance(first, Page)
    assert first.image.mode == "RGB"


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 100, "subsampling": 0}, {"optimize": True}])
def test_jpegs_of_every_kind(options: dict[str, Any]) -> None:
    assert close_to(pixels(page(pictures.jpeg(**options))), SOURCE, 6)


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    grey = page(pictures.encoded(pictures.photo(mode="L"), "JPEG"))
    found = pixels(grey)
    assert (found[..., 0] == found[..., 2]).all()
    assert grey.decoding == ("greyscale repeated in three channels",)


def test_adobes_inverted_inks_and_plain_inks_give_the_same_picture() -> None:
    adobe = pictures.encoded(pictures.photo(mode="CMYK"), "JPEG", quality=95)
    assert b"Adobe" in adobe
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 16 :]
    expected = np.asarray(pictures.photo(mode="CMYK").convert("RGB"))
    assert close_to(pixels(page(adobe)), expected, 8)
    assert "CMYK" in page(adobe).decoding[0]
    inverted = page(plain)
    assert close_to(255 - pixels(inverted), 255 - np.asarray(_inverted_cmyk().convert("RGB")), 8)
    assert "no Adobe marker" in inverted.decoding[0]


def _inverted_cmyk() -> Image.Image:
    inks = 255 - np.asarray(pictures.photo(mode="CMYK"))
    return Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes())


def _png16(mode: str) -> tuple[bytes, np.ndarray[Any, Any]]:
    grey = np.asarray(pictures.photo(mode="L"))
    wide = (grey.astype(np.uint16) << 8) | 0x7F
    return pictures.encoded(Image.fromarray(wide), mode), np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("container", ["PNG", "TIFF"])
def test_16_bits_are_cut_to_their_upper_8(container: str) -> None:
    data, expected = _png16(container)
    decoded = page(data)
    np.testing.assert_array_equal(pixels(decoded), expected)
    assert decoded.decoding[0] == "16-bit samples cut to their upper 8 bits"


def test_16_bit_colour_is_told_too() -> None:
    skimage_io = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    skimage_io.imwrite(buffer, SOURCE.astype(np.uint16) << 8, photometric="rgb")
    decoded = page(buffer.getvalue())
    np.testing.assert_array_equal(pixels(decoded), SOURCE)
    assert decoded.decoding == ("16-bit samples cut to their upper 8 bits",)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[0.0, 0.5], [1.0, 0.25]], np.float32), [[0, 128], [255, 64]]),
        (np.array([[-3e38, 3e38], [np.nan, np.inf]], np.float32), [[0, 255], [0, 0]]),
        (np.full((2, 2), 7.0, np.float32), [[0, 0], [0, 0]]),
        (np.full((2, 2), np.nan, np.float32), [[0, 0], [0, 0]]),
        (np.array([[-10, 0], [10, 5]], np.int32), [[0, 128], [255, 191]]),
    ],
)
def test_float_and_wide_integer_samples_are_scaled_and_it_is_said(
    samples: np.ndarray[Any, Any], expected: list[list[int]]
) -> None:
    decoded = page(pictures.encoded(Image.fromarray(samples), "TIFF"))
    np.testing.assert_array_equal(pixels(decoded)[..., 1], expected)
    assert "scaled from" in decoded.decoding[0]


def _half_transparent() -> Image.Image:
    image = Image.new("RGBA", (4, 2), (200, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    return image


def test_alpha_is_composited_over_white() -> None:
    decoded = page(pictures.encoded(_half_transparent(), "PNG"))
    assert pixels(decoded)[0, :3].tolist() == [[255, 255, 255], [127, 127, 127], [200, 0, 0]]
    assert decoded.decoding == ("alpha composited over white",)


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    decoded = page(pictures.encoded(pictures.photo(mode="RGBA"), "PNG"))
    np.testing.assert_array_equal(pixels(decoded), SOURCE)
    assert decoded.decoding == ("alpha channel dropped, opaque everywhere",)


def _palette_with_transparency() -> bytes:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    return pictures.encoded(image, "PNG", transparency=0)


def test_a_palette_is_applied_with_its_transparency() -> None:
    decoded = page(_palette_with_transparency())
    assert pixels(decoded)[0, :2].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert decoded.decoding == ("palette applied", "alpha composited over white")


def _in_mode(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(pictures.photo(mode="L")).astype(np.uint16) << 8)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(pictures.photo(), *profiles, outputMode="LAB")
        assert converted is not None
        return converted
    return pictures.photo(mode=mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F", "I"])
def test_every_mode_of_a_tiff_becomes_rgb(mode: str) -> None:
    decoded = page(pictures.encoded(_in_mode(mode), "TIFF"))
    assert pixels(decoded).shape == SOURCE.shape
    assert pixels(decoded).std() > 1
    assert decoded.decoding or mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_pixels_come_as_stored_with_their_orientation(form: str, orientation: int) -> None:
    def turned(by: int) -> bytes:
        if form == "JPEG":
            return pictures.oriented_jpeg(by)
        return pictures.encoded(pictures.photo(), "TIFF", tiffinfo={0x0112: by})

    found = page(turned(orientation))
    np.testing.assert_array_equal(pixels(found), pixels(page(turned(1))))
    assert found.orientation == orientation
    assert any("orientation" in note for note in found.decoding) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert page(pictures.oriented_jpeg(orientation)).orientation == 1


def test_an_icc_profile_is_noted_and_not_applied() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoded = page(pictures.encoded(pictures.photo(), "PNG", icc_profile=profile))
    np.testing.assert_array_equal(pixels(decoded), SOURCE)
    assert decoded.decoding == ("ICC profile present, not applied",)


def test_every_page_of_a_tiff_is_an_image() -> None:
    found = pages(pictures.tiff(3))
    for number, decoded in enumerate(found):
        np.testing.assert_array_equal(pixels(decoded), np.asarray(pictures.photo(seed=number)))
        assert isinstance(decoded, Page)
        assert (decoded.page, decoded.page_count) == (number, 3)
    assert len(found) == 3


def test_several_pages_are_announced_and_can_be_taken_up_in_the_middle() -> None:
    decoded = list(decode_pages(pictures.tiff(4), "tiff", LIMITS, first_page=2))
    assert decoded[0] == PageCount(4)
    assert [each.page for each in decoded[1:] if isinstance(each, Page)] == [2, 3]


def test_pages_beyond_the_limit_are_told() -> None:
    found = pages(pictures.tiff(4), DecodeLimits(max_pages=2))
    assert [type(decoded) for decoded in found] == [Page, Page, PageFailure]
    assert isinstance(found[2], PageFailure)
    assert (found[2].code, found[2].page, found[2].advice) == (FailureCode.TOO_MANY_PAGES, None, "Raise --max-pages.")
    assert len(pages(pictures.tiff(2), DecodeLimits(max_pages=2))) == 2


def test_a_damaged_page_does_not_cost_the_others() -> None:
    data = bytearray(pictures.tiff(3, compression="tiff_deflate"))
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        (offset,) = image.tag_v2[273]  # type: ignore[attr-defined]
    data[offset : offset + 40] = b"\xff" * 40
    found = pages(bytes(data))
    assert [type(decoded) for decoded in found] == [Page, PageFailure, Page]
    assert isinstance(found[1], PageFailure)
    assert (found[1].page, found[1].page_count, found[1].code) == (1, 3, FailureCode.CORRUPT_IMAGE)


def test_a_tiff_whose_pages_lead_in_a_circle_ends() -> None:
    assert len(pages(broken_pictures.looping_tiff())) <= 3


def test_a_reduced_page_is_a_finding() -> None:
    small = pictures.photo(24, 16)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = pictures.encoded(pictures.photo(), "TIFF", save_all=True, append_images=[small])
    found = pages(data)
    assert isinstance(found[1], Page)
    assert any("reduced-size" in finding.statement for finding in found[1].findings)


@pytest.mark.parametrize(("every", "count"), [(False, 1), (True, 3)])
def test_the_frames_of_a_gif_are_an_option(every: bool, count: int) -> None:
    found = pages(pictures.gif(3), gif_all_frames=every)
    assert len(found) == count
    for number, decoded in enumerate(found):
        assert close_to(pixels(decoded), np.asarray(pictures.photo(seed=number)), 12)
    assert isinstance(found[0], Page)
    assert any("--gif-frames" in finding.statement for finding in found[0].findings) != every


@pytest.mark.parametrize("container", ["PNG", "WEBP", "AVIF"])
def test_the_frames_of_other_animations_are_an_option_too(container: str) -> None:
    first, *rest = (pictures.photo(seed=number) for number in range(3))
    decoded = page(pictures.encoded(first, container, save_all=True, append_images=rest))
    assert close_to(pixels(decoded), np.asarray(first), 9)
    assert [finding.statement for finding in decoded.findings] == [
        "It holds 3 frames; only its first frame was examined (--gif-frames all examines each)."
    ]
    found = pages(pictures.encoded(first, container, save_all=True, append_images=rest), gif_all_frames=True)
    for number, frame in enumerate(found):
        assert close_to(pixels(frame), np.asarray(pictures.photo(seed=number)), 9)
        assert isinstance(frame, Page)
        assert (frame.page, frame.page_count, frame.findings) == (number, 3, ())
    assert len(found) == 3


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_cut_jpeg_is_a_failure(progressive: bool, part: float) -> None:
    cut = failure(broken_pictures.truncated(pictures.jpeg(progressive=progressive), part))
    assert cut.code is FailureCode.CORRUPT_IMAGE
    assert "damaged or cut" in cut.message or "The end of the file is missing" in cut.message


@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "avif", "bmp"])
def test_other_cut_pictures_are_failures(kind: str) -> None:
    found = pages(broken_pictures.truncated(pictures.one_of_each()[kind], 0.5))
    assert any(isinstance(decoded, PageFailure) for decoded in found)


def test_a_picture_of_one_pixel_is_a_picture() -> None:
    assert pixels(page(broken_pictures.one_pixel())).shape == (1, 1, 3)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (251_000_000, 1)])
def test_a_picture_above_the_pixel_limit_is_refused_by_its_header(width: int, height: int) -> None:
    refused = failure(broken_pictures.png_claiming(width, height))
    assert (refused.code, refused.advice) == (FailureCode.TOO_MANY_PIXELS, "Raise --max-megapixels.")
    assert str(width) in refused.message


def test_the_pixel_limit_includes_itself() -> None:
    assert pixels(page(pictures.jpeg(), DecodeLimits(max_megapixels=48 * 32 / 1e6))).size == 48 * 32 * 3
    assert failure(pictures.jpeg(), DecodeLimits(max_megapixels=48 * 31 / 1e6)).code is FailureCode.TOO_MANY_PIXELS


def test_each_page_has_a_pixel_limit() -> None:
    data = pictures.encoded(pictures.photo(), "TIFF", save_all=True, append_images=[pictures.photo(200, 100)])
    found = pages(data, DecodeLimits(max_megapixels=0.01))
    assert [type(decoded) for decoded in found] == [Page, PageFailure]


def test_a_picture_without_pixels_is_damaged() -> None:
    assert failure(broken_pictures.png_claiming(0, 5)).code is FailureCode.CORRUPT_IMAGE


def test_only_the_sniffed_decoder_is_tried() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    (refused,) = decode_pages(postscript, "jpeg", LIMITS)
    assert isinstance(refused, PageFailure)
    assert refused.code is FailureCode.CORRUPT_IMAGE


def test_running_out_of_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(self: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_memory)
    refused = failure(pictures.jpeg())
    assert (refused.code, refused.page) == (FailureCode.OUT_OF_MEMORY, 0)


def test_what_pillow_warns_of_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ImageFile.ImageFile.load

    def warn(self: ImageFile.ImageFile) -> Any:
        warnings.warn("Truncated File Read\x1b", stacklevel=1)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", warn)
    *_, finding = page(pictures.jpeg()).findings
    assert finding.statement == "Pillow: Truncated File Read\ufffd"


def test_exif_and_findings_come_with_every_page() -> None:
    data = pictures.encoded(
        pictures.photo(), "TIFF", save_all=True, append_images=[pictures.photo(seed=2)], software="GIMP 2.10"
    )
    for decoded in pages(data):
        assert isinstance(decoded, Page)
        assert decoded.exif.software == "GIMP 2.10"
        assert any("last saved by GIMP 2.10." in finding.statement for finding in decoded.findings)


def test_address_space_follows_the_limits() -> None:
    assert DecodeLimits(memory_mib=512).address_space() == 512 << 20
    assert DecodeLimits(max_megapixels=500).address_space() > DecodeLimits(max_megapixels=100).address_space()
