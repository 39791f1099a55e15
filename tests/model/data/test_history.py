"""Histories: tables, JPEG, WebP, screenshots, and files that hold exactly the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.history import (
    WEBP_SIDE,
    decode,
    follow,
    last_quality,
    publish,
    quantizers,
    resize,
    route_from,
    route_to,
)


@pytest.mark.parametrize("quality", [30, 60, 85, 98])
def test_quantizers_are_valid_and_coarser_at_lower_quality(quality: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tables = quantizers(rng, quality)
        assert [len(table) for table in tables] == [64, 64]
        assert all(1 <= value <= 255 for table in tables for value in table)

    def mean(q: float) -> float:
        return float(np.mean([quantizers(np.random.default_rng(s), q)[0] for s in range(50)]))

    assert mean(quality) > mean(min(quality + 1.5, 100))


def test_the_best_quality_rounds_to_whole_numbers_only() -> None:
    for seed in range(20):
        assert quantizers(np.random.default_rng(seed), 100) == [[1] * 64] * 2


def test_resize_to_the_same_size_is_nothing() -> None:
    pixels = np.zeros((10, 12, 3), np.uint8)
    assert resize(pixels, 12, 10) is pixels
    assert resize(pixels, 6, 5).shape == (5, 6, 3)


def test_published_jpegs_are_the_pixels_and_have_no_metadata() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    files, kinds = 0, set()
    for seed in range(60):
        published = publish(pixels, np.random.default_rng(seed))
        assert published.pixels.shape == pixels.shape
        kinds.add(published.steps[0].split()[0] if published.steps else "none")
        last = published.steps[-1] if published.steps else ""
        assert (published.jpeg is not None) == (last.startswith("jpeg") and "grid" not in last)
        if published.jpeg is not None:
            files += 1
            assert np.array_equal(decode(published.jpeg), published.pixels)
            assert not any(mark in published.jpeg for mark in (b"Exif", b"http", b"ICC_PROFILE", b"Photoshop"))
    assert files > 30 and kinds == {"jpeg", "webp", "grain", "none"}


def test_the_second_of_two_jpegs_is_as_often_on_another_grid_and_one_in_five_is_without_loss() -> None:
    steps = [publish(np.zeros((32, 32, 3), np.uint8), np.random.default_rng(seed)).steps for seed in range(600)]
    twice = [two for two in steps if len(two) == 2 and all(step.startswith("jpeg") for step in two)]
    assert len(twice) > 20
    assert np.mean(["grid" in first for first, _ in twice]) == pytest.approx(0.5, abs=0.25)
    assert np.mean([not one for one in steps]) == pytest.approx(0.2, abs=0.05)


def test_qualities_are_between_50_and_100() -> None:
    rng = np.random.default_rng(0)
    qualities = np.array([last_quality(rng) for _ in range(2000)])
    assert qualities.min() >= 50
    assert 99.9 < qualities.max() <= 100
    assert np.mean(qualities > 97.5) == pytest.approx(0.3 + 0.6 / 38.5, abs=0.03)
    assert np.mean(qualities < 60) == pytest.approx(0.1, abs=0.03)


def test_what_webp_cannot_hold_becomes_a_jpeg() -> None:
    pixels = np.zeros((1, WEBP_SIDE + 1, 3), np.uint8)
    for seed in range(80):
        assert not any(step.startswith("webp") for step in publish(pixels, np.random.default_rng(seed)).steps)


@pytest.mark.parametrize("size", [(64, 80), (200, 120), (17, 16)])
def test_routes_begin_and_end_at_the_sizes_asked_for(size: tuple[int, int]) -> None:
    kinds = set()
    for seed in range(120):
        to, start = route_to(size, np.random.default_rng(seed)), route_from(size, np.random.default_rng(seed))
        assert to.published == size
        assert start.edited == size
        assert min(start.published) >= 16
        for route in (to, start):
            kinds.add(route.kind)
            assert all(c + p <= s for c, p, s in zip(route.corner, route.published, route.shown, strict=True))
            rng = np.random.default_rng(seed)
            if route.kind == "plain":
                continue
            pixels = rng.integers(0, 256, (*route.edited, 3), dtype=np.uint8)
            mask = np.zeros(route.edited, bool)
            mask[: route.edited[0] // 2] = True
            published, moved = follow(route, pixels, mask, rng)
            assert published.pixels.shape == (*route.published, 3)
            assert moved.shape == route.published
            assert moved.mean() == pytest.approx(0.5, abs=0.12)
            if route.kind == "screenshot":
                assert any(step.startswith("screenshot: shown at") for step in published.steps)
    assert kinds == {"plain", "resized", "screenshot"}
