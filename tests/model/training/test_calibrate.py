"""The score of a trained model: each half is measured by what the other gives."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

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
    assert (made.name, made.fitted_on) == ("name", "400 pictures, 50% of them forged")
    assert made.fitted_megapixels == (0.3, 0.3)
    assert made.figures is not None
    assert made.figures["n"] == 400
    assert 0.75 < made.figures["auc"] < 0.92  # Φ(1.5 / √2) = .86
    assert made.figures["expected_calibration_error"] < 0.15
    assert made.figures["authentic_called_forged"] < 0.15
    assert made.no_evidence_below <= made.score_threshold
    assert made.p_forged(made.no_evidence_below) == pytest.approx(0.5, abs=1e-3)


def test_the_halves_are_alike() -> None:
    pictures = scored(200)
    other = Scored(pictures.features, pictures.forged, ~pictures.measures, pictures.megapixels)
    one, two = calibration_of(pictures, "", ""), calibration_of(other, "", "")
    assert one.figures == pytest.approx(two.figures)
    assert (one.slope, one.intercept, one.score_threshold) == pytest.approx(
        (two.slope, two.intercept, two.score_threshold)
    )


def test_no_half_is_measured_by_what_was_fitted_to_it() -> None:
    pictures = scored(200, seed=3)
    called: dict[bool, list[bool]] = {True: [], False: []}
    for half in (False, True):
        own = pictures.measures == half
        one = fitted(pictures.features[~own], pictures.forged[~own])
        weights = np.array(one.score_weights)
        score = expit(pictures.features[own] @ weights[:-1] + weights[-1])
        for kind in (True, False):
            called[kind] += list(score[pictures.forged[own] == kind] > one.score_threshold)
    figures = calibration_of(pictures, "", "").figures
    assert figures is not None
    assert figures["forged_called_forged"] == np.mean(called[True])
    assert figures["authentic_called_forged"] == np.mean(called[False])


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
