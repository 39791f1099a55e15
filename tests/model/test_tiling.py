"""Cut and blend: round trips, no seams, no waste."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.presets.spec import TileSpec
from model.tiling import Blend, padded, starts, tiles, weights

SPEC = TileSpec(size=128, overlap=32, multiple=16)
LENGTHS = [1, 15, 16, 127, 128, 129, 136, 200, 224, 225, 320, 333, 1000, 1001]


@pytest.mark.parametrize("length", LENGTHS)
def test_tiles_cover_every_pixel_on_the_grid(length: int) -> None:
    segments = starts(length, SPEC)
    covered = np.zeros(length, int)
    for start, extent in segments:
        assert start % SPEC.multiple == 0
        assert 0 < extent <= SPEC.size
        covered[start : start + extent] += 1
    assert covered.min() >= 1
    for (start, extent), (following, _) in itertools.pairwise(segments):
        assert start + extent - following >= SPEC.overlap


@pytest.mark.parametrize("length", LENGTHS)
def test_weights_sum_to_one(length: int) -> None:
    total = np.zeros(length)
    for (start, extent), weight in zip(starts(length, SPEC), weights(length, SPEC), strict=True):
        assert weight.min() > 0
        total[start : start + extent] += weight
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 128])
def test_no_more_is_computed_than_the_overlap_asks_for(length: int) -> None:
    segments = starts(length, SPEC)
    computed = sum(extent for _, extent in segments)
    assert computed <= length + (len(segments) - 1) * SPEC.overlap + len(segments) * SPEC.multiple


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (130, 128), (333, 500), (1001, 140)])
def test_blending_the_tiles_of_a_picture_gives_the_picture(height: int, width: int) -> None:
    picture = np.random.default_rng(0).random((height, width), dtype=np.float32)
    blend = Blend(height, width, SPEC)
    for tile in tiles(height, width, SPEC):
        blend.add(tile, picture[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width])
    assert blend.heatmap == pytest.approx(picture, abs=1e-6)


def test_tiles_that_disagree_leave_no_seam() -> None:
    """Every tile says something else, as a smooth target would make them; the blend never jumps."""
    blend = Blend(400, 400, SPEC)
    for number, tile in enumerate(tiles(400, 400, SPEC)):
        blend.add(tile, np.full((tile.height, tile.width), (number % 3) / 2, np.float32))
    step = 1.0 / SPEC.overlap
    assert np.abs(np.diff(blend.heatmap, axis=0)).max() < 2.5 * step
    assert np.abs(np.diff(blend.heatmap, axis=1)).max() < 2.5 * step


def test_one_tile_is_kept_to_the_bit() -> None:
    picture = np.random.default_rng(0).random((100, 90), dtype=np.float32)
    blend = Blend(100, 90, SPEC)
    (tile,) = tiles(100, 90, SPEC)
    blend.add(tile, np.pad(picture, ((0, 12), (0, 6))))
    assert np.array_equal(blend.heatmap, picture)


def test_padding_mirrors_and_does_not_enlarge() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    (tile,) = tiles(20, 33, SPEC)
    out = padded(pixels, tile, 16)
    assert out.shape == (32, 48, 3)
    assert np.array_equal(out[:20, :33], pixels)
    assert np.array_equal(out[20:, :33], pixels[:7:-1])
    assert padded(pixels[:1, :1], tiles(1, 1, SPEC)[0], 16).shape == (16, 16, 3)
