"""Masks and heatmaps survive the way to PNG and back."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from clue_cli.results.pictures import write_heatmap, write_mask


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (256, 384), (700, 2)])
def test_round_trip(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    heatmap = random.random(shape, dtype=np.float32)
    marked = heatmap > 0.5
    files = io.BytesIO(), io.BytesIO()
    write_mask(files[0], marked)
    write_heatmap(files[1], heatmap)
    mask_image, heat_image = map(Image.open, files)
    assert (mask_image.mode, heat_image.mode) == ("L", "I;16")
    assert np.array_equal(np.asarray(mask_image), np.where(marked, 255, 0))
    assert np.abs(np.asarray(heat_image) / 65535 - heatmap).max() <= 0.5 / 65535 + 1e-7


def test_the_ends_of_the_scale_are_exact() -> None:
    file = io.BytesIO()
    write_heatmap(file, np.array([[0, 1]], dtype=np.float32))
    assert np.asarray(Image.open(file)).tolist() == [[0, 65535]]


def test_strided_views_are_written_as_they_look() -> None:
    file = io.BytesIO()
    write_mask(file, np.array([[True, False], [False, False]]).T[::-1])
    assert np.asarray(Image.open(file)).tolist() == [[0, 0], [255, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        write_heatmap(io.BytesIO(), np.array([[0.5, bad]], dtype=np.float32))


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 1), bool), np.zeros((2, 2), np.uint8), np.zeros((0, 2), bool)])
def test_other_shapes_and_types_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        write_mask(io.BytesIO(), bad)


def test_a_large_heatmap_needs_two_bytes_per_pixel_more() -> None:
    heatmap = np.zeros((2000, 4000), dtype=np.float32)
    tracemalloc.start()
    write_heatmap(io.BytesIO(), heatmap)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * heatmap.size + 8 * 1024 * 1024
