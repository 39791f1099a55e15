"""Baselines by hand, classical methods on forgeries made to show what each looks for, and the probe for shortcuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from model.data.attacks import jpeg
from model.evaluation import CLASSICAL, TRIVIAL, ImageRow
from model.evaluation.baselines import probe
from model.evaluation.classical import (
    SCALING,
    WAVELET,
    error_level_analysis,
    jpeg_ghosts,
    noise_inconsistency,
    noise_levels,
)
from model.evaluation.metrics import image_cells
from model.evaluation.pixel_scores import pixel_scores
from model.images.pixels import read_header
from tests.clue_cli.eval.made import picture

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def coffee() -> Pixels:
    """CC0, 300×450, shrunk from something larger."""
    photo = Image.fromarray(data.coffee()).resize((450, 300))
    return np.asarray(photo)


@pytest.fixture(scope="module")
def region() -> NDArray[np.bool_]:
    out = np.zeros((300, 450), bool)
    out[83:190, 101:230] = True
    return out


@pytest.mark.parametrize("name", [*TRIVIAL, *CLASSICAL])
@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (64, 64), (131, 197)])
def test_maps_fit_the_picture(name: str, shape: tuple[int, int]) -> None:
    method = (TRIVIAL | CLASSICAL)[name]
    for pixels in (
        np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8),
        np.zeros((*shape, 3), np.uint8),
    ):
        before = pixels.copy()
        heatmap = method(pixels)
        assert (heatmap.shape, heatmap.dtype) == (shape, np.float32)
        assert heatmap.min() >= 0 and heatmap.max() <= 1
        assert np.array_equal(heatmap, method(pixels))
        assert np.array_equal(pixels, before)


def test_trivial_baselines() -> None:
    truth = np.zeros((8, 8), bool)
    truth[2:6, 2:6] = True
    scores = {name: pixel_scores(method(np.zeros((8, 8, 3), np.uint8)), truth) for name, method in TRIVIAL.items()}
    assert scores["all forged"].f1 == pytest.approx(2 * 0.25 / 1.25)
    assert scores["none forged"].f1 == 0
    assert scores["centre box"].f1 == 1


def test_error_levels_rise_where_only_part_was_compressed_before(coffee: Pixels, region: NDArray[np.bool_]) -> None:
    forged = jpeg(coffee, 90)
    forged[region] = np.random.default_rng(0).integers(0, 256, (int(region.sum()), 3))
    assert (pixel_scores(error_level_analysis(forged), region).auc or 0) > 0.95


@pytest.mark.parametrize(("first", "second"), [(60, 90), (50, 80)])
def test_ghosts_show_a_region_of_lower_quality(
    first: int, second: int, coffee: Pixels, region: NDArray[np.bool_]
) -> None:
    forged = coffee.copy()
    forged[region] = jpeg(coffee, first)[region]
    scores = pixel_scores(jpeg_ghosts(jpeg(forged, second)), region)
    assert (scores.f1 or 0) > 0.6 and (scores.auc or 0) > 0.9


def test_noise_level_is_measured_in_grey_levels() -> None:
    rng = np.random.default_rng(0)
    grey = 128 + rng.normal(0, 6, (512, 512))
    pixels = np.repeat(np.clip(grey, 0, 255).round().astype(np.uint8)[:, :, None], 3, 2)
    assert np.median(noise_levels(pixels)) == pytest.approx(6, rel=0.05)


def test_region_of_other_noise_stands_out(coffee: Pixels, region: NDArray[np.bool_]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3, coffee.shape) + rng.normal(0, 18, coffee.shape) * region[:, :, None]
    forged = np.clip(coffee // 2 + 64 + noise, 0, 255).astype(np.uint8)  # away from black and white, which clip noise
    assert (pixel_scores(noise_inconsistency(forged), region).auc or 0) > 0.85


def test_the_wavelet_is_orthonormal_and_has_four_vanishing_moments() -> None:
    assert SCALING.astype(float).sum() == pytest.approx(np.sqrt(2), abs=1e-6)
    assert (WAVELET.astype(float) ** 2).sum() == pytest.approx(1, abs=1e-6)
    for power in range(4):
        assert (WAVELET.astype(float) * np.arange(8.0) ** power).sum() == pytest.approx(0, abs=1e-4)


ROWS = [ImageRow(f"{number}", number % 2 == 0) for number in range(60)]


@pytest.mark.parametrize(
    ("signs", "low", "high"),
    [
        (["f" if row.forged else "a" for row in ROWS], 1.0, 1.0),
        (["same"] * 60, 0.5, 0.5),
        ([str(number) for number in range(60)], 0.5, 0.5),
        (["f" if row.forged and number % 4 == 0 else "a" for number, row in enumerate(ROWS)], 0.6, 0.9),
    ],
)
def test_how_well_metadata_tell(signs: list[str], low: float, high: float) -> None:
    cell = image_cells(probe(ROWS, signs), resamples=5)["image_auc"]
    assert cell.n == 60 and cell.value is not None and low <= cell.value <= high


def test_unreadable_files_have_no_score() -> None:
    rows = probe(ROWS[:4], ["a", "", "a", "a"])
    assert [row.score is None for row in rows] == [False, True, False, False]
    assert [row.key for row in rows] == [row.key for row in ROWS[:4]]


def test_the_signature_is_of_the_metadata_and_not_of_the_pixels(tmp_path: Path) -> None:
    def written(name: str, seed: int, **options: object) -> str:
        Image.fromarray(picture(seed)).save(tmp_path / name, **options)  # type: ignore[arg-type]
        return read_header(tmp_path / name).signature

    assert written("a.jpg", 1, quality=70) == written("b.jpg", 2, quality=70)
    assert written("a.jpg", 1, quality=70) != written("c.jpg", 1, quality=71)
    assert written("a.png", 1) == written("b.png", 2) != written("d.jpg", 1, quality=70)
