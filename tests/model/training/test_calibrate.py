"""The score of a trained model: each half is measured by what the other gives."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from model.calibration import Calibration, OwnScore
from model.clue import build
from model.score import FEATURES, PHOTO, SCREEN, SMALL, kind_of
from model.training.calibrate import (
    FALSE_POSITIVE_RATE,
    FEWEST,
    FOLDS,
    INCONCLUSIVE_RATE,
    NoCalibrationError,
    Scored,
    _with_thresholds,
    auc,
    calibration_of,
    fitted,
    look_at,
    scores,
    verdicts,
)
from tests.model.training.made import QUICK, Labelled

COLOURS = FEATURES.index("colours")
CELLS = FEATURES.index("log cells")


def scored(count: int, apart: float = 1.5, seed: int = 0) -> Scored:
    """Features of both kinds that lie `apart` standard deviations from each other."""
    rng = np.random.default_rng(seed)
    forged = np.arange(count) % 2 == 1
    features = rng.normal(0, 1, (count, len(FEATURES))) + apart / len(FEATURES) ** 0.5 * forged[:, None]
    features[:, COLOURS] += 20  # photographs, all of them
    return Scored(features, forged, np.arange(count) // 2 % 2 == 1, np.full(count, 0.3))


def test_what_is_fitted_and_what_is_measured() -> None:
    made = calibration_of(scored(400), "name", "pictures")
    assert (made.name, made.fitted_on) == ("name", "400 pictures, 50% of them forged")
    assert made.fitted_megapixels == (0.3, 0.3)
    other = calibration_of(dataclasses.replace(scored(400), measures=~scored(400).measures), "name", "pictures")
    assert made.figures is not None and made.figures == pytest.approx(other.figures)  # the halves are alike
    assert made.figures["n"] == 400
    assert 0.75 < made.figures["auc"] < 0.92  # Φ(1.5 / √2) = .86
    assert made.figures["expected_calibration_error"] < 0.15
    assert made.figures["authentic_called_forged"] < 0.15
    assert made.no_evidence_below <= made.score_threshold
    assert made.p_forged(made.no_evidence_below) == pytest.approx(0.5, abs=1e-3)


def test_no_half_is_measured_by_what_was_fitted_to_it() -> None:
    pictures = scored(200, seed=3)
    called: dict[bool, list[bool]] = {True: [], False: []}
    for half in (False, True):
        own = pictures.measures == half
        one = fitted(pictures.part(~own))
        weights = np.array(one.score_weights)
        score = expit(pictures.features[own] @ weights[:-1] + weights[-1])
        forged = verdicts(one, pictures.features[own], score) == 2
        for kind in (True, False):
            called[kind] += list(forged[pictures.forged[own] == kind])
    figures = calibration_of(pictures, "", "").figures
    assert figures is not None
    assert figures["forged_called_forged"] == np.mean(called[True])
    assert figures["authentic_called_forged"] == np.mean(called[False])


def test_too_few_pictures() -> None:
    pictures = scored(8 * FEWEST)
    pictures.measures[:] = False
    with pytest.raises(NoCalibrationError, match=f"0 pictures of one kind in one half could be used, and {FEWEST}"):
        calibration_of(pictures, "", "")


def test_a_score_that_says_nothing() -> None:
    pictures = scored(80)
    alike = dataclasses.replace(pictures, features=np.repeat(pictures.features[::2], 2, 0))
    with pytest.raises(NoCalibrationError, match="does not separate forged from authentic"):
        fitted(alike)


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


def in_groups(screens: int = 0, seed: int = 5) -> tuple[NDArray[np.float64], Scored]:
    """Scores of four groups of 60 photographs each, ever higher where nothing is forged, and of screens, still higher.

    Half of each is forged, except for the last group, which has too few pictures to count.
    """
    rng = np.random.default_rng(seed)
    count = 4 * 60 + FEWEST - 1 + screens
    forged = np.arange(count) % 2 == 1
    names = np.repeat(["camera", "web", "passed on", "lamps", "few", "screen"], [60, 60, 60, 60, FEWEST - 1, screens])
    forged[names == "few"] = False
    logits = rng.normal(0, 1, count) + np.where(forged, 4, 0)
    for group, more in {"web": 0.5, "passed on": 1.0, "lamps": 1.5, "few": 6.0, "screen": 3.0}.items():
        logits[(names == group) & ~forged] += more
    features = np.zeros((count, len(FEATURES)))
    features[:, COLOURS] = np.where(names == "screen", -20, 20)
    features[:, CELLS] = 10
    return expit(logits), Scored(features, forged, np.zeros(count, bool), np.ones(count), names)


def shares_above(score: NDArray[np.float64], pictures: Scored, threshold: float) -> dict[str, float]:
    """Of the authentic pictures of each group."""
    assert pictures.groups is not None
    return {
        str(group): float((score[(pictures.groups == group) & ~pictures.forged] > threshold).mean())
        for group in np.unique(pictures.groups)
    }


@pytest.mark.parametrize("screens", [0, 2 * FEWEST - 2, 80], ids=["none", "too few", "enough"])
def test_thresholds_hold_in_every_group(screens: int) -> None:
    score, pictures = in_groups(screens)
    made = _with_thresholds(score, pictures)
    for threshold, rate in ((made.score_threshold, FALSE_POSITIVE_RATE), (made.no_evidence_below, INCONCLUSIVE_RATE)):
        shares = shares_above(score, pictures, threshold)
        assert all(shares[group] <= rate for group in ("camera", "web", "passed on", "lamps"))
        assert shares["few"] > rate  # too few to say anything
    pooled = _with_thresholds(score, dataclasses.replace(pictures, groups=None))
    assert pooled.no_evidence_below < made.no_evidence_below < made.score_threshold
    assert set(made.kinds) == set(pooled.kinds) == ({SCREEN} if screens == 80 else set())


def test_no_picture_that_sets_a_threshold_is_above_it() -> None:
    """Rounded to the nearest, it would be above it half the time."""
    for seed in range(20):
        score, pictures = in_groups(seed=seed)
        shares = shares_above(score, pictures, _with_thresholds(score, pictures).score_threshold)
        assert all(share == 0 for group, share in shares.items() if group != "few")


def test_screens_have_thresholds_and_photographs_the_confidence() -> None:
    score, pictures = in_groups(80)
    photographs = pictures.groups != "screen"
    made, alone = _with_thresholds(score, pictures), _with_thresholds(score[photographs], pictures.part(photographs))
    assert dataclasses.replace(made, kinds={}) == alone
    low, high = made.kinds[SCREEN].no_evidence_below, made.kinds[SCREEN].score_threshold
    assert low > made.no_evidence_below and high > made.score_threshold
    shares = [shares_above(score, pictures, threshold)["screen"] for threshold in (low, high)]
    assert shares[0] <= INCONCLUSIVE_RATE and shares[1] <= FALSE_POSITIVE_RATE
    assert shares_above(score, pictures, made.score_threshold)["screen"] > FALSE_POSITIVE_RATE


def test_screens_alone_are_fitted_like_photographs() -> None:
    score, pictures = in_groups()
    screens = dataclasses.replace(pictures, features=-pictures.features)
    assert {kind_of(row) for row in screens.features} == {SCREEN}
    made, same = _with_thresholds(score, screens), _with_thresholds(score, pictures)
    assert dataclasses.replace(made, score_weights=()) == dataclasses.replace(same, score_weights=())


def test_verdicts_are_those_of_each_kind() -> None:
    calibration = Calibration(no_evidence_below=0.2, score_threshold=0.4, kinds={SCREEN: OwnScore(0.6, 0.8)})
    _, pictures = in_groups(6)
    photo, screen = pictures.features[0], pictures.features[-1]
    assert (kind_of(photo), kind_of(screen)) == (PHOTO, SCREEN)
    score = np.array([0.2, 0.21, 0.4, 0.41, 0.7, 0.9])
    for features, expected in ((photo, [0, 1, 1, 2, 2, 2]), (screen, [0, 0, 0, 0, 1, 2])):
        assert verdicts(calibration, np.tile(features, (6, 1)), score).tolist() == expected


def test_a_part_keeps_what_belongs_together() -> None:
    _, pictures = in_groups(10)
    half = dataclasses.replace(pictures, folds=np.arange(len(pictures.forged))).part(~pictures.forged)
    assert half.groups is not None and pictures.groups is not None and half.folds is not None
    assert half.groups.tolist() == pictures.groups[half.folds].tolist()
    assert np.array_equal(half.features, pictures.features[half.folds]) and not half.forged.any()
    assert scored(8).part(np.arange(8) < 4).groups is None


def test_pictures_of_one_photo_are_held_out_together() -> None:
    """Each picture thrice: a score that knows its copies looks better than one that does not."""
    once = scored(80, apart=0.0)
    thrice = [np.repeat(values, 3, 0) for values in (once.features, once.forged, once.measures, once.megapixels)]
    strengths = [
        fitted(Scored(*thrice, folds=folds)).slope for folds in (np.repeat(np.arange(80) // 2 % FOLDS, 3), None)
    ]
    assert strengths[0] < strengths[1] - 0.2


@pytest.mark.parametrize("untouched", [FEWEST - 1, FEWEST])
def test_small_photographs_have_thresholds_and_share_weights_and_confidence(untouched: int) -> None:
    """Of the group with the highest scores some are small."""
    score, pictures = in_groups(80)
    before = _with_thresholds(score, pictures)
    lamps = np.flatnonzero((pictures.groups == "lamps") & ~pictures.forged)
    small = lamps[np.argsort(score[lamps])][-untouched:]
    pictures.features[small, CELLS] = 5
    made = _with_thresholds(score, pictures)
    assert (SMALL in made.kinds) == (untouched >= FEWEST)
    if untouched < FEWEST:
        assert (made.no_evidence_below, made.score_threshold) == (before.no_evidence_below, before.score_threshold)
        return
    own = made.kinds[SMALL]
    assert own.score_threshold == pytest.approx(score[small].max(), abs=1e-6) and not own.score_weights
    assert made.score_threshold < before.score_threshold == own.score_threshold
    assert (made.slope, made.intercept) == (before.slope, before.intercept)
    assert made.kinds[SCREEN].score_threshold == before.kinds[SCREEN].score_threshold
    assert verdicts(made, pictures.features[small], score[small]).max() < 2


@pytest.mark.parametrize("forged_screens", [FEWEST - 1, 20])
def test_screens_are_scored_by_themselves_where_enough_are_forged(forged_screens: int) -> None:
    """What tells forged screens points the other way in photographs."""
    photos, screens = scored(200, apart=0.0), scored(20 + forged_screens, apart=0.0, seed=1)
    is_forged = np.arange(20 + forged_screens) < forged_screens
    photos.features[:, 0] += 3 * photos.forged
    screens.features[:, 0] -= 3 * is_forged
    screens.features[:, COLOURS] -= 40
    features, forged = np.vstack([photos.features, screens.features]), np.append(photos.forged, is_forged)
    made = fitted(Scored(features, forged, np.zeros(len(forged), bool), np.ones(len(forged))))
    enough, own = forged_screens >= FEWEST, made.kinds[SCREEN]
    assert made.score_weights[0] > 0
    assert (own.score_weights[0] < 0) == enough and (own.score_weights == made.score_weights) == (not enough)
    found = scores(made, screens.features)
    apart = auc(found[is_forged], found[~is_forged])
    assert apart > 0.9 if enough else apart < 0.5
    assert found[0] == made.of(screens.features[0]).score(np.ones((8, 8), np.float32), screens.features[0])


def test_a_group_sets_the_thresholds_of_the_kinds_that_a_good_part_of_it_is() -> None:
    """A few photographs that are taken for screens say nothing of screens, however high they score."""
    score, pictures = in_groups(80)
    assert pictures.groups is not None
    pictures.groups[pictures.groups == "passed on"] = "web"
    before = _with_thresholds(score, pictures)
    odd = np.flatnonzero((pictures.groups == "web") & ~pictures.forged)[:12]
    pictures.features[odd, COLOURS] = -20
    score[odd] = 0.99999
    made = _with_thresholds(score, pictures)
    assert made.kinds[SCREEN] == dataclasses.replace(
        before.kinds[SCREEN], score_weights=made.kinds[SCREEN].score_weights
    )
    assert made.score_threshold < 0.9999
