"""Masks of every convention become True = forged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation import UnreadablePicture, read_map, read_pixels, read_truth
from model.evaluation.truth import MaskStyle, looks_inverted, read_header, read_mask
from tests.model.evaluation.trees import BOX, mask, picture


def image_of(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray((BOX * 65535).astype(np.uint16))
    if mode == "zeros and ones":
        return Image.fromarray(BOX.astype(np.uint8))
    return Image.fromarray((BOX * 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16", "zeros and ones"])
@pytest.mark.parametrize("style", ["white", "grey", "black"])
def test_modes_and_styles(mode: str, style: MaskStyle, tmp_path: Path) -> None:
    image_of(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", style), ~BOX if style == "black" else BOX)


def test_threshold_is_half(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 10, 11, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, False, False, False, True, True]]
    assert read_mask(tmp_path / "m.png", "grey").tolist() == [[False, False, True, True, True, True]]


@pytest.mark.parametrize("band", [1, 3, 100])
@pytest.mark.parametrize("quality", [95, 75])
def test_edge_masks_are_filled_from_the_colours_on_either_side(band: int, quality: int, tmp_path: Path) -> None:
    """Only pixels within `band` of the cut have a colour."""
    truth = np.zeros((64, 96), bool)
    truth[:, 40:] = True
    columns = np.abs(np.arange(96) - 39.5) < band
    colours = np.zeros((64, 96, 3), np.uint8)
    colours[:, columns & ~truth[0]] = (255, 0, 0)
    colours[:, columns & truth[0]] = (0, 255, 0)
    Image.fromarray(colours).save(tmp_path / "e.jpg", quality=quality, subsampling=0)
    assert np.mean(read_mask(tmp_path / "e.jpg", "two-coloured") != truth) < 0.02


def test_bare_outline_is_filled(tmp_path: Path) -> None:
    outline = np.zeros((40, 40), np.uint8)
    outline[8:31, 8:31] = 255
    outline[9:30, 9:30] = 0
    Image.fromarray(outline).save(tmp_path / "e.png")
    assert read_mask(tmp_path / "e.png", "two-coloured").sum() == 23 * 23


def test_union_of_parts(tmp_path: Path) -> None:
    left, right = BOX.copy(), BOX.copy()
    left[:, 8:], right[:, :8] = False, False
    paths = [mask(tmp_path / "l.png", left), mask(tmp_path / "r.png", right)]
    assert np.array_equal(read_truth(paths), BOX)
    with pytest.raises(UnreadablePicture):
        read_truth([*paths, mask(tmp_path / "x.png", np.pad(BOX, 1))])
    with pytest.raises(ValueError, match="without a mask"):
        read_truth([])


def test_inverted_is_mostly_marked_and_framed() -> None:
    assert looks_inverted(~BOX)
    assert not looks_inverted(BOX)
    large = np.ones((40, 40), bool)
    large[[0, -1]] = large[:, [0, -1]] = False
    assert not looks_inverted(large), "a large object that does not touch the border"


def test_pictures(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    pixels = read_pixels(path)
    assert (pixels.shape, pixels.dtype) == ((24, 32, 3), np.uint8)
    assert (read_header(path).width, read_header(path).height, read_header(path).format) == (32, 24, "PNG")
    Image.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(tmp_path / "deep.png")
    assert read_pixels(tmp_path / "deep.png").tolist() == [[[0x12] * 3] * 4] * 4
    rotated = Image.fromarray(pixels)
    exif = rotated.getexif()
    exif[0x0112] = 6
    rotated.save(tmp_path / "rotated.png", exif=exif)
    assert read_pixels(tmp_path / "rotated.png").shape == (24, 32, 3), "masks lie on the stored pixels"


@pytest.mark.parametrize("content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_what_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    for read in (read_header, read_pixels, read_mask, read_map):
        with pytest.raises(UnreadablePicture, match=r"x\.png"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("error", [IndexError("x"), EOFError(), MemoryError(), KeyError(3), AttributeError("y")])
def test_whatever_a_decoder_raises_is_an_unreadable_picture(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [picture(tmp_path / "a.png"), mask(tmp_path / "m.png")]

    def broken(image: Image.Image, *arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "convert", broken)
        for read, path in ((read_pixels, paths[0]), (read_mask, paths[1]), (read_map, paths[1])):
            with pytest.raises(UnreadablePicture, match=path.name):
                read(path)
    monkeypatch.setattr(Image, "open", broken)
    for read in (read_header, read_pixels, read_mask, read_map):
        with pytest.raises(UnreadablePicture, match=r"a\.png"):
            read(paths[0])


@pytest.mark.parametrize("read", [read_pixels, read_mask, read_map])
def test_pictures_beyond_the_limit_are_not_decoded(read: object, tmp_path: Path) -> None:
    path = mask(tmp_path / "m.png")
    assert read(path, max_megapixels=24 * 32 / 1e6).size
    with pytest.raises(UnreadablePicture, match=r"m\.png: 0\.000768 megapixels; the limit is 0\.0007"):
        read(path, max_megapixels=0.0007)


@pytest.mark.parametrize("style", ["white", "grey", "black"])
@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 300, 511], [0, 2700, 3000, 32000, 33000, 65535], [1, 2]])
def test_sixteen_bits(values: list[int], style: MaskStyle, tmp_path: Path) -> None:
    """Half of the range, and of grey masks what is not black; 0 and 1 alone are a mask as well."""
    levels = np.array([values], np.uint16)
    Image.fromarray(levels).save(tmp_path / "m.png")
    full = 1 if max(values) <= 1 else 65535
    lit = levels > (full // 2 if style != "grey" else 11 * 256 - 1 if full > 1 else 0)
    assert np.array_equal(read_mask(tmp_path / "m.png", style), ~lit if style == "black" else lit)


def test_truncated_picture(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    for read in (read_pixels, read_mask):
        with pytest.raises(UnreadablePicture):
            read(tmp_path / "a.png")
