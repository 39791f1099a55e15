"""How strong a heatmap is, what kind of picture it is, and on what kind of place the evidence lies."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from model import score
from model.score import (
    FEATURES,
    OF_HEATMAP,
    OF_PICTURE,
    PHOTO,
    SCREEN,
    SMALL,
    image_features,
    image_score,
    kind_of,
    picture_features,
)
from tests.drawn_pictures import blob, equal_rows, noise, page

Pixels = NDArray[np.uint8]
ON_CELL = (5, 9)
"""Row and column of the cell that holds the evidence."""


def features(pixels: Pixels, evidence: tuple[int, int] = ON_CELL) -> dict[str, float]:
    """With the heatmap at its strongest around one cell, 5×5 cells."""
    cells = np.zeros((pixels.shape[0] // 8, pixels.shape[1] // 8), np.float32)
    row, column = evidence
    cells[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 0.9
    return dict(zip(OF_PICTURE, picture_features(pixels, cells), strict=True))


def kind(pixels: Pixels) -> str:
    return kind_of(image_features(np.full(pixels.shape[:2], 0.1, np.float32), pixels))


def burnt_out() -> Pixels:
    """Noise with a lamp around ON_CELL."""
    pixels = noise()
    pixels[24:64, 56:96] = 255
    return pixels


def test_score_is_the_mean_of_the_strongest_cells() -> None:
    heatmap = np.zeros((83, 90), np.float32)
    heatmap[8:16, 8:24] = 0.9  # two cells
    heatmap[40:48, 40:48] = 0.3
    assert image_score(heatmap, 3) == pytest.approx((0.9 + 0.9 + 0.3) / 3)
    assert image_score(heatmap, 10**6) == pytest.approx(heatmap[:80, :88].mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (8, 8), (9, 9)])
def test_score_of_a_tiny_heatmap(shape: tuple[int, int]) -> None:
    assert image_score(np.full(shape, 0.25, np.float32), 24) == pytest.approx(0.25)


def test_score_does_not_depend_on_the_size_of_the_rest() -> None:
    small, large = np.zeros((128, 128), np.float32), np.zeros((2048, 1024), np.float32)
    for heatmap in (small, large):
        heatmap[32:96, 32:96] = 0.8
    assert image_score(small, 24) == image_score(large, 24) == pytest.approx(0.8)


def test_features_say_what_they_are_called() -> None:
    pixels = noise(160, 240)
    values = dict(zip(FEATURES, image_features(blob((160, 240), 32, 0.9), pixels), strict=True))
    assert values["strongest 8"] == pytest.approx(np.log(9), rel=1e-3)
    assert values["strongest block"] == pytest.approx(np.log(9), rel=1e-3)
    assert values["strongest 24"] < values["strongest 8"]
    assert values["log marked"] == pytest.approx(np.log(17))
    assert values["log cells"] == pytest.approx(np.log(600))
    cells = blob((20, 30), 0, 0.0)
    cells[2:6, 3:7] = 0.9
    own = picture_features(pixels, cells)
    assert list(values.values())[len(OF_HEATMAP) :] == [*own, values["strongest 8"] * own[OF_PICTURE.index("noise")]]


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (8, 8), (23, 9)])
def test_features_of_a_tiny_heatmap_are_finite(shape: tuple[int, int]) -> None:
    for value in (0.0, 0.25, 1.0):
        features = image_features(np.full(shape, value, np.float32), noise(*shape))
        assert np.isfinite(features).all() and features.shape == (len(FEATURES),)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (page(), SCREEN),
        (page(dark=True), SCREEN),
        (equal_rows(), SCREEN),
        (noise(), SMALL),
        (noise(deviation=3), SMALL),
        (burnt_out(), SMALL),
        (noise(400, 496), SMALL),
        (noise(400, 504), PHOTO),
        (page(400, 504), SCREEN),
    ],
    ids=["page", "dark page", "list", "noise", "little noise", "lamp", "below the limit", "above it", "large page"],
)
def test_the_kind(pixels: Pixels, expected: str) -> None:
    assert kind(pixels) == expected


def test_a_page_is_flat_has_few_colours_and_much_contrast() -> None:
    drawn, photo = features(page()), features(noise())
    assert drawn["flat"] > 0.5 > 0.01 > photo["flat"]
    assert drawn["colours"] < 2 < 4 < photo["colours"]
    assert drawn["contrast"] > 0.5 > 0.01 > photo["contrast"]


def test_noise_is_measured_as_a_logarithm() -> None:
    quiet, loud = features(noise(deviation=4)), features(noise(deviation=8))
    assert loud["noise"] - quiet["noise"] == pytest.approx(np.log(2), abs=0.1)
    textured = noise(deviation=4)
    textured[:128] = noise(128, deviation=40)
    assert features(textured)["noise"] == pytest.approx(quiet["noise"], abs=0.1)  # that of the calm cells


def test_borders_of_cells_that_stand_out_are_blocks() -> None:
    mosaic = noise(64, 96, seed=1).astype(np.int16)
    mosaic += np.kron(np.random.default_rng(0).integers(-30, 30, (8, 12)), np.ones((8, 8), np.int64))[..., None]
    assert features(mosaic.clip(0, 255).astype(np.uint8))["blocks"] > 0.5 > abs(features(noise())["blocks"]) + 0.4


@pytest.mark.parametrize("value", [255, 0], ids=["burnt out", "black"])
def test_evidence_on_a_clipped_place_is_known(value: int) -> None:
    pixels = burnt_out()
    pixels[pixels == 255] = value
    on, beside = features(pixels), features(pixels, (20, 30))
    assert on["clipped"] == beside["clipped"] == pytest.approx(25 / (32 * 48))
    assert (on["clipped evidence"], beside["clipped evidence"]) == (1.0, 0.0)
    assert on["quiet evidence"] > 2 > 0.3 > abs(beside["quiet evidence"])


def test_evidence_on_a_calm_place_is_known() -> None:
    pixels = noise()
    pixels[24:64, 56:96] = noise(40, 40, deviation=3, seed=2)
    assert features(pixels)["quiet evidence"] == pytest.approx(np.log(12 / 3), abs=0.25)
    assert features(pixels)["clipped evidence"] == 0


@pytest.mark.parametrize("pixels", [page(512, 512), noise(512, 512), np.tile(burnt_out(), (2, 1, 1))])
def test_a_sample_of_the_rows_says_nearly_the_same(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features(pixels)
    looked: list[NDArray[np.int64]] = []
    examined = score._examined

    def counting(of: Pixels, rows: NDArray[np.int64], columns: int) -> object:
        looked.append(rows)
        return examined(of, rows, columns)

    monkeypatch.setattr(score, "_examined", counting)
    monkeypatch.setattr(score, "SAMPLED", pixels.size // 9 + 1)
    sampled = features(pixels)
    (rows,) = looked
    assert len(set(rows.tolist())) == len(rows) == -(-pixels.shape[0] // 8 // 3)
    assert list(sampled.values()) == pytest.approx(list(whole.values()), abs=0.15)
    assert sampled != whole
    assert sampled["clipped evidence"] == whole["clipped evidence"]  # all of the evidence is looked at


def test_a_huge_picture_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "SAMPLED", 400_000)
    pixels = np.broadcast_to(noise(1, 4096), (8192, 4096, 3))
    cells = np.zeros((1024, 512), np.float32)
    tracemalloc.start()
    picture_features(pixels, cells)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < pixels.size / 8


@pytest.mark.parametrize("shape", [(8, 8), (8, 400), (23, 9), (65, 70)])
@pytest.mark.parametrize("value", [0, 128, 255, None])
def test_any_picture_has_finite_features(shape: tuple[int, int], value: int | None) -> None:
    pixels = noise(*shape) if value is None else np.full((*shape, 3), value, np.uint8)
    assert np.isfinite(list(features(pixels, (0, 0)).values())).all()
