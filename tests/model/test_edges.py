"""A heatmap along the edges of its picture: it follows them, and nothing else about it changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.edges import follow_edges
from model.presets.spec import EdgeSpec

SPEC = EdgeSpec(radius=8)


def disc(shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(y - shape[0] / 2, x - shape[1] / 2) < radius)


def coarse(truth: NDArray[np.bool_], cell: int = 8) -> NDArray[np.float32]:
    """What a network says that looks at cells: their share of the truth."""
    height, width = truth.shape
    cells = truth.reshape(height // cell, cell, width // cell, cell).mean((1, 3))
    return np.repeat(np.repeat(cells, cell, 0), cell, 1).astype(np.float32)


def painted(truth: NDArray[np.bool_], inside: tuple[int, int, int], outside: tuple[int, int, int]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(-4, 5, (*truth.shape, 3))
    return np.clip(np.where(truth[..., None], inside, outside) + noise, 0, 255).astype(np.uint8)


def overlap(heatmap: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    marked = heatmap > 0.5
    return float((marked & truth).sum() / (marked | truth).sum())


@pytest.mark.parametrize(
    ("inside", "outside"),
    [((200, 60, 60), (60, 60, 60)), ((60, 200, 60), (60, 60, 200)), ((120, 120, 120), (90, 90, 90))],
)
def test_the_mask_ends_where_the_object_does(inside: tuple[int, int, int], outside: tuple[int, int, int]) -> None:
    truth = disc((160, 200), 44.0)
    heatmap = coarse(truth)
    before = overlap(heatmap, truth)
    follow_edges(heatmap, painted(truth, inside, outside), SPEC)
    assert before < 0.93 and overlap(heatmap, truth) > 0.97


def test_without_an_edge_a_region_keeps_its_place() -> None:
    truth = disc((160, 200), 44.0)
    heatmap = coarse(truth)
    follow_edges(heatmap, painted(truth, (90, 90, 90), (90, 90, 90)), SPEC)
    assert overlap(heatmap, truth) > 0.9


def test_a_constant_heatmap_stays_whatever_the_picture() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    for value in (0.0, 0.3, 1.0):
        heatmap = np.full((61, 83), value, np.float32)
        follow_edges(heatmap, pixels, SPEC)
        assert heatmap == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 5), (77, 101), (150, 64)])
@pytest.mark.parametrize("radius", [1, 8, 64])
def test_strips_are_the_whole_and_in_range(
    shape: tuple[int, int], radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(shape[0])
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    heatmap = rng.random(shape).astype(np.float32)
    whole, strips = heatmap.copy(), heatmap.copy()
    follow_edges(whole, pixels, EdgeSpec(radius))
    monkeypatch.setattr("model.edges.ROWS", 16)
    if radius < 8:  # strips are taller than what they depend on
        follow_edges(strips, pixels, EdgeSpec(radius))
        assert strips == pytest.approx(whole, abs=1e-5)
    assert whole.min() >= 0 and whole.max() <= 1


def test_strips_of_the_default_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 40, 3), dtype=np.uint8)
    whole = rng.random((300, 40)).astype(np.float32)
    strips = whole.copy()
    follow_edges(whole, pixels, SPEC)
    monkeypatch.setattr("model.edges.ROWS", 64)
    follow_edges(strips, pixels, SPEC)
    assert strips == pytest.approx(whole, abs=1e-5)


def test_a_picture_that_is_turned_is_read_as_it_lies() -> None:
    """Views with negative strides come from EXIF orientations."""
    truth = disc((96, 64), 20.0)
    pixels = painted(truth, (200, 60, 60), (60, 60, 60))
    straight, turned = coarse(truth), coarse(truth)[::-1, ::-1].copy()
    follow_edges(straight, pixels, SPEC)
    follow_edges(turned, pixels[::-1, ::-1], SPEC)
    assert turned[::-1, ::-1] == pytest.approx(straight, abs=1e-4)


def test_values_that_are_no_numbers_stay_so() -> None:
    heatmap = np.full((64, 64), 0.2, np.float32)
    heatmap[30, 30] = np.nan
    follow_edges(heatmap, np.zeros((64, 64, 3), np.uint8), SPEC)
    assert np.isnan(heatmap[30, 30])


def test_radius_zero_does_nothing_and_sizes_must_fit() -> None:
    heatmap = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    before = heatmap.copy()
    follow_edges(heatmap, np.zeros((20, 30, 3), np.uint8), EdgeSpec())
    assert np.array_equal(heatmap, before)
    with pytest.raises(ValueError, match=r"\(20, 30\) does not fit the image \(30, 20, 3\)"):
        follow_edges(heatmap, np.zeros((30, 20, 3), np.uint8), SPEC)
