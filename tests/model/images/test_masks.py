"""Masks of every convention become True = forged; strict reading refuses what looks damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.evaluation import read_truth
from model.evaluation.ground import looks_inverted
from model.images.masks import MaskStyle, read_mask
from model.images.pixels import DamagedFileError
from tests.model.evaluation.trees import BOX, mask

SQUARE = np.zeros((4, 6), np.uint8)
SQUARE[1:3, 2:5] = 255
TRUTH = SQUARE > 0


def png(path: Path, array: Any) -> Path:
    Image.fromarray(array).save(path)
    return path


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
    with pytest.raises(DamagedFileError):
        read_truth([*paths, mask(tmp_path / "x.png", np.pad(BOX, 1))])
    with pytest.raises(ValueError, match="without a mask"):
        read_truth([])


def test_inverted_is_mostly_marked_and_framed() -> None:
    assert looks_inverted(~BOX)
    assert not looks_inverted(BOX)
    large = np.ones((40, 40), bool)
    large[[0, -1]] = large[:, [0, -1]] = False
    assert not looks_inverted(large), "a large object that does not touch the border"


@pytest.mark.parametrize("style", ["white", "grey", "black"])
@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 300, 511], [0, 2700, 3000, 32000, 33000, 65535], [1, 2]])
def test_sixteen_bits(values: list[int], style: MaskStyle, tmp_path: Path) -> None:
    """Half of the range, and of grey masks what is not black; 0 and 1 alone are a mask as well."""
    levels = np.array([values], np.uint16)
    Image.fromarray(levels).save(tmp_path / "m.png")
    full = 1 if max(values) <= 1 else 65535
    lit = levels > (full // 2 if style != "grey" else 11 * 256 - 1 if full > 1 else 0)
    assert np.array_equal(read_mask(tmp_path / "m.png", style), ~lit if style == "black" else lit)


@pytest.mark.parametrize(
    "array",
    [
        SQUARE,
        SQUARE // 255,
        SQUARE // 255 * 128,
        np.where(TRUTH, 140, 115).astype(np.uint8),
        TRUTH,
        SQUARE.astype(np.uint16) * 257,
        np.stack([SQUARE] * 3, 2),
        np.dstack([SQUARE, SQUARE, SQUARE, np.full_like(SQUARE, 7)]),
    ],
    ids=["grey", "0 and 1", "0 and 128", "about the middle", "one bit", "16 bit", "colour", "alpha"],
)
def test_strict_masks(tmp_path: Path, array: Any) -> None:
    mask = png(tmp_path / "m.png", array)
    assert np.array_equal(read_mask(mask, strict=True, size=(4, 6)), TRUTH)
    assert np.array_equal(read_mask(mask, "black", 1, strict=True), ~TRUTH)


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (4, 6, 1)])
def test_labels_of_an_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez_compressed(tmp_path / "m.npz", (SQUARE // 255 * 17).reshape(shape))
    assert np.array_equal(read_mask(tmp_path / "m.npz", strict=True, size=(4, 6)), TRUTH)


def test_a_mask_that_may_not_be_black(tmp_path: Path) -> None:
    for inverted in (False, True):
        mask = png(tmp_path / "m.png", SQUARE * 0 + (255 if inverted else 0))
        assert not read_mask(mask, "black" if inverted else "white", 1, strict=True).any()
        with pytest.raises(DamagedFileError, match=r"m\.png: the mask marks nothing"):
            read_mask(mask, "black" if inverted else "white", 1, strict=True, empty=False)


@pytest.mark.parametrize("brightest", [2, 100, 127])
def test_a_mask_whose_forged_is_a_dark_grey_is_refused(tmp_path: Path, brightest: int) -> None:
    mask = png(tmp_path / "m.png", SQUARE // 255 * brightest)
    with pytest.raises(DamagedFileError, match=f"marks nothing, its brightest grey is {brightest} of 255"):
        read_mask(mask, strict=True)
    other = png(tmp_path / "i.png", 255 - SQUARE // 255 * brightest)
    with pytest.raises(DamagedFileError, match=f"marks nothing, its darkest grey is {255 - brightest} of 255"):
        read_mask(other, "black", 1, strict=True)


def test_the_noise_of_a_jpeg_is_black_and_no_forgery(tmp_path: Path) -> None:
    noisy = np.full((16, 16), 3, np.uint8)
    Image.fromarray(noisy).save(tmp_path / "m.jpg", quality=100)
    assert not read_mask(tmp_path / "m.jpg", strict=True).any()
    Image.fromarray(255 - noisy).save(tmp_path / "i.jpg", quality=100)
    assert not read_mask(tmp_path / "i.jpg", "black", 1, strict=True).any()


def test_eight_bits_in_sixteen(tmp_path: Path) -> None:
    mask = png(tmp_path / "m.png", SQUARE.astype(np.uint16))
    assert np.array_equal(read_mask(mask, strict=True), TRUTH)
    assert not read_mask(mask).any()


def test_a_mask_of_another_size_is_refused_or_fitted(tmp_path: Path) -> None:
    mask = png(tmp_path / "m.png", SQUARE)
    with pytest.raises(DamagedFileError, match=r"m\.png: the mask has 6×4 pixels, its image 12×8"):
        read_mask(mask, strict=True, size=(8, 12))
    assert np.array_equal(read_mask(mask, strict=True, size=(8, 12), fit=True), TRUTH.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a": SQUARE, "b": SQUARE}, "not one array"),
        ({"a": np.zeros((2000, 1000), np.int64)}, "not one array within max_megapixels 1"),
        ({"a": np.zeros((2000, 1000), np.uint8)}, "not a mask"),
        ({"a": SQUARE.astype(np.float32)}, "float32, not a mask"),
        ({"a": np.zeros((4, 6, 2), np.uint8)}, "not a mask"),
        ({"a": np.array([{}], dtype=object)}, "allow_pickle"),
        (None, "not a zip"),
    ],
    ids=["two", "bytes", "pixels", "float", "three axes", "pickle", "no archive"],
)
def test_arrays_that_are_no_masks(tmp_path: Path, arrays: dict[str, Any] | None, reason: str) -> None:
    path = tmp_path / "m.npz"
    if arrays is None:
        path.write_bytes(b"nothing")
    else:
        np.savez_compressed(path, **arrays)
    with pytest.raises(DamagedFileError, match=reason):
        read_mask(path, max_megapixels=1)


@pytest.mark.parametrize(
    ("grey", "alpha", "inverted", "well"),
    [
        (SQUARE, SQUARE, False, True),
        (SQUARE * 0 + 255, SQUARE, False, False),
        (SQUARE * 0, SQUARE, False, False),
        (SQUARE * 0, SQUARE, True, False),
        (255 - SQUARE, SQUARE, True, True),
        (SQUARE, 255 - SQUARE, False, False),
    ],
)
def test_a_mask_that_is_transparent_in_places(
    tmp_path: Path, grey: NDArray[np.uint8], alpha: NDArray[np.uint8], inverted: bool, well: bool
) -> None:
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(tmp_path / "m.png")
    if well:
        assert np.array_equal(read_mask(tmp_path / "m.png", "black" if inverted else "white", 1, strict=True), TRUTH)
        return
    with pytest.raises(DamagedFileError, match=r"m\.png: the mask is transparent in places"):
        read_mask(tmp_path / "m.png", "black" if inverted else "white", 1, strict=True)


def test_labels_below_zero_are_forged(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", np.where(TRUTH, -56, 0).astype(np.int8))
    assert np.array_equal(read_mask(tmp_path / "m.npz", strict=True), TRUTH)


@pytest.mark.parametrize("tag", range(1, 9))
def test_the_mask_of_a_turned_tiff_is_as_stored(tmp_path: Path, tag: int) -> None:
    Image.fromarray(SQUARE).save(tmp_path / "m.tif", tiffinfo={274: tag})
    for strict in (False, True):
        assert np.array_equal(read_mask(tmp_path / "m.tif", strict=strict), TRUTH)
