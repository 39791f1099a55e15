"""A copy within the picture shows at one offset; texture, flat sky and tiny pictures do not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from model import self_match as module
from model.affine_match import affine_match
from model.self_match import CHANNELS, REPEATS, self_match
from tests.drawn_pictures import equal_rows, noise

Pixels = NDArray[np.uint8]


LOGARITHM_OF_SCALE = 10
"""The one of the maps that may be negative."""


def textured(height: int, width: int, seed: int = 0) -> Pixels:
    """Coloured noise with structure of several sizes, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(0, 1, (height, width, 3)), (s, s, 0)) * s * 30 for s in (1.0, 2.5, 6.0)]
    return np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)


def with_copy(pixels: Pixels, side: int, source: tuple[int, int], target: tuple[int, int]) -> Pixels:
    out = pixels.copy()
    piece = pixels[source[0] : source[0] + side, source[1] : source[1] + side]
    out[target[0] : target[0] + side, target[1] : target[1] + side] = piece
    return out


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


SHARED, VOTES, TIMES, STRAIGHT = 3, 4, -2, -1


@pytest.mark.parametrize("quality", [None, 90, 70])
@pytest.mark.parametrize("target", [(24, 150), (131, 141), (99, 30)])
def test_both_places_of_a_copy_match_and_the_rest_does_not(target: tuple[int, int], quality: int | None) -> None:
    pixels = with_copy(textured(224, 256), 64, (16, 16), target)
    maps = self_match(pixels if quality is None else jpeg(pixels, quality))
    copied = np.zeros((28, 32), bool)
    for top, left in ((16, 16), target):
        copied[-(-top // 8) + 1 : (top + 64) // 8 - 1, -(-left // 8) + 1 : (left + 64) // 8 - 1] = True
    elsewhere = np.ones_like(copied)
    for top, left in ((16, 16), target):
        elsewhere[max(0, top // 8 - 2) : (top + 64) // 8 + 2, max(0, left // 8 - 2) : (left + 64) // 8 + 2] = False
    assert maps[SHARED][copied].mean() > 0.7
    assert maps[VOTES][copied].mean() > 0.3
    assert maps[SHARED][elsewhere].mean() < 0.1


@pytest.mark.parametrize(
    "pixels",
    [textured(160, 160, 3), np.full((160, 160, 3), 90, np.uint8), jpeg(textured(160, 160, 4), 60)],
    ids=["texture", "flat", "jpeg"],
)
def test_without_a_copy_nothing_gathers_votes(pixels: Pixels) -> None:
    assert self_match(pixels)[VOTES].mean() < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (8, 400), (31, 31), (32, 33), (100, 77), (257, 255)])
def test_shape_range_and_determinism(shape: tuple[int, int]) -> None:
    pixels = textured(*shape)
    maps = self_match(pixels)
    assert maps.shape == (CHANNELS, -(-shape[0] // 8), -(-shape[1] // 8))
    assert maps.dtype == np.float32 and np.isfinite(maps).all()
    assert maps.min() >= 0 and maps.max() < 2
    assert np.array_equal(maps, self_match(pixels.copy()))


def test_an_offset_that_leaves_the_picture_matches_nothing() -> None:
    blocks = module._Blocks(textured(64, 72).mean(2).astype(np.float32))
    assert (blocks.at_offset(64, 0) == 1.5).all()
    assert (blocks.at_offset(0, -72) == 1.5).all()


@given(
    st.integers(0, 10_000), st.integers(30, 90), st.integers(30, 90), st.sampled_from(["tiled", "stripes", "texture"])
)
@example(3096, 80, 70, "texture")  # a place of another scale
@settings(max_examples=60, deadline=None)
def test_any_picture_gets_finite_maps(seed: int, height: int, width: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    pixels = textured(height, width, seed)
    if kind == "tiled":  # matches everywhere, offsets up to the border
        piece = pixels[: int(rng.integers(8, 30)), : int(rng.integers(8, 30))]
        pixels = np.tile(piece, (12, 12, 1))[:height, :width]
    if kind == "stripes":
        pixels = np.repeat(pixels[:, :1], width, 1)
    maps = self_match(pixels)
    assert np.isfinite(maps).all() and np.abs(maps).max() < 2
    assert np.delete(maps, LOGARITHM_OF_SCALE, 0).min() >= 0


def test_large_pictures_are_searched_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100 * 130)
    small = textured(96, 128)
    large = np.asarray(Image.fromarray(with_copy(small, 40, (8, 8), (48, 72))).resize((262, 197), Image.Resampling.BOX))
    maps = self_match(large)
    assert maps.shape == (CHANNELS, 25, 33)
    assert maps[SHARED, 14:20, 20:26].mean() > 0.6  # the copy, at twice the size
    assert maps[SHARED, 16:22, 2:8].mean() < 0.3


def test_a_small_copy_is_found_where_only_every_fourth_cell_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = with_copy(textured(192, 256), 40, (8, 8), (99, 140))
    every = self_match(pixels)
    monkeypatch.setattr(module, "EVERY_CELL", 192 * 256 - 1)
    fourth = self_match(pixels)
    assert not np.array_equal(every, fourth)
    inside = (SHARED, slice(13, 17), slice(18, 22))
    assert fourth[inside].min() > 0.7
    assert fourth[VOTES, 13:17, 18:22].min() > 0.25
    np.testing.assert_allclose(fourth[inside], every[inside], atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "times", "straight"),
    [
        (equal_rows(), (0.3, 0.6), (0.99, 1)),  # five others of the same row: log(1 + 5) / 5 = .36
        (noise(192, 160, deviation=30), (0, 0.01), (0, 0.01)),
        (textured(192, 160), (0, 0.01), (0, 0.03)),
    ],
    ids=["equal rows", "noise", "texture"],
)
def test_a_pattern_repeats_often_and_straight(
    pixels: Pixels, times: tuple[float, float], straight: tuple[float, float]
) -> None:
    maps = self_match(pixels)
    written = maps[0] > 0.5  # where there is anything to match
    written[[0, -1]] = written[:, [0, -1]] = False  # beyond the border the picture is mirrored
    assert written.sum() > 100
    assert times[0] <= maps[TIMES][written].mean() <= times[1]
    assert straight[0] <= maps[STRAIGHT][written].mean() <= straight[1]


@pytest.mark.parametrize(
    ("target", "straight"), [((104, 88), 0), ((96, 80), 0), ((16, 88), 1), ((104, 16), 1)], ids=str
)
def test_a_copy_is_seen_once_and_straight_only_if_it_lies_so(target: tuple[int, int], straight: float) -> None:
    maps = self_match(with_copy(textured(192, 160), 56, (16, 16), target))
    for top, left in ((16, 16), target):
        inside = np.s_[-(-top // 8) + 1 : (top + 56) // 8 - 1, -(-left // 8) + 1 : (left + 56) // 8 - 1]
        assert maps[STRAIGHT][inside].mean() == straight
        assert maps[TIMES][inside].max() < 0.15  # log(1 + 1) / 5 = .14


def test_what_is_new_comes_last() -> None:
    """A network of version 0.1.0 reads the first twelve."""
    pixels = with_copy(textured(96, 120), 40, (8, 8), (48, 72))
    maps = self_match(pixels)
    assert (CHANNELS, REPEATS) == (14, 2)
    assert np.array_equal(maps[6:12], affine_match(module.luma(pixels, 1)))
