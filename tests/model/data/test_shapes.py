"""Shapes: their areas, and outlines that follow the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.data.shapes import LARGEST, SMALLEST, bounding_box, drawn_shape, region_area, smallest_area, superpixel_shape


def test_shapes_have_about_the_area_asked_for() -> None:
    rng = np.random.default_rng(0)
    for area in (0.003, 0.03, 0.2):
        found = [drawn_shape(rng, 200, 300, area).mean() for _ in range(60)]
        assert 0.3 * area < np.median(found) < 2 * area


def test_small_regions_are_as_common_as_large_ones() -> None:
    rng = np.random.default_rng(0)
    areas = np.array([region_area(rng) for _ in range(4000)])
    assert np.mean(areas < np.sqrt(SMALLEST * LARGEST)) == pytest.approx(0.5, abs=0.03)


def test_bounding_box() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    assert bounding_box(mask) == (3, 7, 5, 12)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(256, 256, 256 / 65536), (512, 512, 0.001), (3000, 4000, 0.001), (8, 8, LARGEST), (128, 256, 256 / 32768)],
)
def test_the_smallest_region_is_a_thousandth_but_never_below_16_by_16(height: int, width: int, expected: float) -> None:
    assert smallest_area(height, width) == pytest.approx(expected)


@pytest.mark.parametrize("area", [0.002, 0.02, 0.15])
def test_superpixels_have_about_the_area_asked_for(area: float) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((400, 300)))
    shares = [superpixel_shape(np.random.default_rng(seed), pixels, area).mean() for seed in range(20)]
    assert 0.7 * area < np.median(shares) < 2 * area


def test_superpixels_follow_the_edges_of_the_picture() -> None:
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, 80:] = 255
    sides = [superpixel_shape(np.random.default_rng(seed), pixels, 0.05)[:, 80:] for seed in range(30)]
    masks = [superpixel_shape(np.random.default_rng(seed), pixels, 0.05) for seed in range(30)]
    one_sided = [max(side.sum(), mask.sum() - side.sum()) / mask.sum() for side, mask in zip(sides, masks, strict=True)]
    assert np.median(one_sided) > 0.97


@pytest.mark.parametrize("size", [(8, 8), (9, 40), (64, 8)])
def test_superpixels_of_tiny_pictures(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert superpixel_shape(np.random.default_rng(0), pixels, 0.3).shape == size
