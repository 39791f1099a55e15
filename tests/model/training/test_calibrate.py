"""The score of a trained model: fitted on one half, measured on the other."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.calibration import FEATURES
from model.clue import build
from model.training.calibrate import FEWEST, NoCalibrationError, Scored, auc, calibration_of, fitted, look_at
from tests.model.training.made import QUICK, Labelled


def scored(count: int, apart: float = 1.5, seed: int = 0) -> Scored:
    """Features of both kinds that lie `apart` standard deviations from each other."""
    rng = np.random.default_rng(seed)
    forged = np.arange(count) % 2 == 1
    features = rng.normal(0, 1, (count, len(FEATURES))) + apart / len(FEATURES) ** 0.5 * forged[:, None]
    return Scored(features, forged, np.arange(count) // 2 % 2 == 1, np.full(count, 0.3))


def test_what_is_fitted_and_what_is_measured() -> None:
    made = calibration_of(scored(400), "name", "pictures")
    assert (made.name, made.fitted_on) == ("name", "200 pictures, 50% of them forged")
    assert made.fitted_megapixels == (0.3, 0.3)
    assert made.figures is not None
    assert made.figures["n"] == 200
    assert 0.75 < made.figures["auc"] < 0.92  # Φ(1.5 / √2) = .86
    assert made.figures["expected_calibration_error"] < 0.15
    assert made.figures["authentic_called_forged"] < 0.15
    assert made.no_evidence_below <= made.score_threshold
    assert made.p_forged(made.no_evidence_below) == pytest.approx(0.5, abs=1e-3)


def test_the_half_that_measures_does_not_fit() -> None:
    pictures = scored(200)
    other = Scored(pictures.features.copy(), pictures.forged, pictures.measures, pictures.megapixels)
    other.features[other.measures] = 0
    one, two = calibration_of(pictures, "", ""), calibration_of(other, "", "")
    assert one.score_weights == two.score_weights
    assert (one.slope, one.intercept, one.score_threshold) == (two.slope, two.intercept, two.score_threshold)
    assert one.figures != two.figures


def test_too_few_pictures() -> None:
    pictures = scored(8 * FEWEST)
    pictures.measures[:] = False
    with pytest.raises(NoCalibrationError, match=f"0 pictures of one kind in one half could be used, and {FEWEST}"):
        calibration_of(pictures, "", "")


def test_a_score_that_tells_nothing() -> None:
    pictures = scored(80)
    with pytest.raises(NoCalibrationError, match="does not tell forged from authentic"):
        fitted(np.repeat(pictures.features[::2], 2, 0), pictures.forged)


@pytest.mark.parametrize(
    ("forged", "authentic", "area"), [([2, 3], [0, 1], 1.0), ([1], [1], 0.5), ([0, 2], [1, 3], 0.25)]
)
def test_auc(forged: list[float], authentic: list[float], area: float) -> None:
    assert auc(np.array(forged, float), np.array(authentic, float)) == area


def test_a_network_looks_at_pictures_until_it_is_stopped() -> None:
    torch.manual_seed(0)
    network, stop = build(QUICK).eval(), threading.Event()
    found = look_at(network, Labelled().pictures(6), stop)
    assert found.features.shape == (6, len(FEATURES))
    assert found.forged.tolist() == [False, True] * 3
    assert found.measures.tolist() == [False, False, True, True, False, False]
    assert found.megapixels == pytest.approx([64 * (64 + i // 2 % 3) / 1e6 for i in range(6)])
    stop.set()
    nothing: NDArray[np.float64] = look_at(network, Labelled().pictures(6), stop).features
    assert nothing.shape == (0, len(FEATURES))
