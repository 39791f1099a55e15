"""The score of a trained model and its confidence: fitted on held-out photos, each half measured by the other.

The photos were neither trained nor validated on. What is fitted is in `model.calibration`; its figures (expected
calibration error, Brier score, AUC, the shares called forged) are those of pictures that were not fitted on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.calibration import Calibration, OwnScore, fit_logistic, fit_score, reliability
from model.clue import CLUE
from model.data.calibration_pictures import Label
from model.errors import UserError
from model.images.pixels import Pixels
from model.predictor import Prediction, Predictor
from model.reporter import SILENT, Reporter
from model.score import FEATURES, PHOTO, SCREEN, SMALL, kind_of

FALSE_POSITIVE_RATE = 0.01
"""At the threshold of `forged`, of the authentic pictures of the fit. A wrong “forged” can hurt a person, and on photos
that nothing was fitted to the rate may be higher; `clue calibrate` guarantees one for your own photos."""
SCREENS_RATE = 0.005
"""The same for screens, drawings and pages: drawn by other templates, more exceed it than pictures of the fit do."""
INCONCLUSIVE_RATE = 0.12
"""Of the authentic pictures of each group, that are denied `no_evidence`, at least where the score is likelier for a
forged one."""
FEWEST = 8
"""Pictures of each kind, in each half: with fewer nothing is fitted."""
FOLDS = 4
PART = 0.2
"""Of a group's authentic pictures: if fewer are of a kind, they are odd ones, and it sets no threshold of that kind."""


class NoCalibrationError(UserError, ValueError):
    """The pictures give no calibration; says why."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The output of a model for n pictures.

    Attributes:
        features: n×len(FEATURES) float64.
        forged: n bool.
        measures: n bool: the picture is of the second half.
        megapixels: n float64, 10⁶ pixels.
        groups: n str, the set of each picture; FALSE_POSITIVE_RATE holds in each set. None: one set.
        folds: n int from 0 to FOLDS - 1, the same for all pictures of a photo. None: in turn.
    """

    features: NDArray[np.float64]
    forged: NDArray[np.bool_]
    measures: NDArray[np.bool_]
    megapixels: NDArray[np.float64]
    groups: NDArray[np.str_] | None = None
    folds: NDArray[np.int64] | None = None

    def part(self, which: NDArray[np.bool_]) -> Scored:
        """Some of the pictures."""
        groups = None if self.groups is None else self.groups[which]
        folds = None if self.folds is None else self.folds[which]
        return Scored(
            self.features[which], self.forged[which], self.measures[which], self.megapixels[which], groups, folds
        )


def look_at(
    model: CLUE, pictures: Iterable[tuple[Label, Pixels]], stop: threading.Event, reporter: Reporter = SILENT
) -> Scored:
    """Run a model over pictures as a scan does; fewer if `stop` is set, or memory is short."""

    def until_stopped() -> Iterator[tuple[tuple[Label, float], Pixels]]:
        for label, pixels in pictures:
            if stop.is_set():
                return
            yield (label, pixels.shape[0] * pixels.shape[1] / 1e6), pixels

    found: list[Prediction[tuple[Label, float]]] = []
    for result in Predictor(model).predict(until_stopped()):
        reporter.advance()
        found += [result] if isinstance(result, Prediction) else []
    return Scored(
        features=np.array([result.features for result in found]).reshape(-1, len(FEATURES)),
        forged=np.array([result.key[0].forged for result in found], bool),
        measures=np.array([result.key[0].half == 1 for result in found], bool),
        megapixels=np.array([result.key[1] for result in found], np.float64),
    )


def calibration_of(scored: Scored, name: str, fitted_on: str) -> Calibration:
    """Score, thresholds and confidence from both halves; their figures from each half judged by what the other gives.

    The weights of the score are fitted on all pictures; confidence and thresholds on the scores that each half gets
    from weights fitted on the other, so that they know how scores differ on photos that nothing was fitted to. The
    figures are those of the two calibrations that saw one half only, each on the half that it did not see.

    Args:
        scored: the pictures.
        name: of the calibration, for every record.
        fitted_on: what the pictures are, in words that follow their number.

    Raises:
        NoCalibrationError: too few pictures, or a score that does not separate them.
    """
    truth, halves = scored.forged, (~scored.measures, scored.measures)
    fewest = min(int((half & kind).sum()) for half in halves for kind in (truth, ~truth))
    if fewest < FEWEST:
        raise NoCalibrationError(f"{fewest} pictures of one kind in one half could be used, and {FEWEST} are needed")
    score, p, called = np.zeros(len(truth)), np.zeros(len(truth)), np.zeros(len(truth), bool)
    for own, other in (halves, halves[::-1]):
        one = fitted(scored.part(other))
        score[own] = scores(one, scored.features[own])
        p[own] = [one.p_forged(float(s)) for s in score[own]]
        called[own] = verdicts(one, scored.features[own], score[own]) == 2
    strongest = scored.features[:, FEATURES.index("strongest 24")]
    figures = reliability(p, truth) | {
        "auc": float(np.mean([auc(score[half & truth], score[half & ~truth]) for half in halves])),
        "auc_strongest_24": auc(strongest[truth], strongest[~truth]),
        "forged_called_forged": float(called[truth].mean()),
        "authentic_called_forged": float(called[~truth].mean()),
    }
    return replace(
        _with_thresholds(score, scored),
        name=name,
        fitted_on=f"{len(truth)} {fitted_on}, {float(truth.mean()):.0%} of them forged",
        fitted_megapixels=(round(float(scored.megapixels.min()), 3), round(float(scored.megapixels.max()), 3)),
        figures=figures,
    )


def fitted(scored: Scored) -> Calibration:
    """Score weights, confidence and thresholds; the latter two from scores of pictures held out from the weights.

    Args:
        scored: the two kinds in turn, in each group.

    Raises:
        NoCalibrationError: a higher score does not mean that a picture is likelier to be forged.
    """
    folds = np.arange(len(scored.forged)) // 2 % FOLDS if scored.folds is None else scored.folds
    score = np.zeros(len(scored.forged))
    for fold in range(FOLDS):
        score[folds == fold] = scores(_weighed(scored.part(folds != fold)), scored.features[folds == fold])
    return _with_thresholds(score, scored)


def verdicts(calibration: Calibration, features: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 no evidence, 1 inconclusive, 2 forged, by the thresholds of each picture's kind; n."""
    own = [calibration.of(row) for row in features]
    low = np.array([one.no_evidence_below for one in own])
    high = np.array([one.score_threshold for one in own])
    return np.asarray((score > low).astype(np.int64) + (score > high))


def scores(calibration: Calibration, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the weights of each picture's kind; n."""
    nothing = np.zeros((8, 8), np.float32)  # the weights are there, so no heatmap is looked at
    return np.array([calibration.of(row).score(nothing, row) for row in features], np.float64)


def _screens(scored: Scored) -> NDArray[np.bool_]:
    """Which pictures are screens, n; none where there are too few photographs beside them, or too few of them."""
    screens = np.array([kind_of(row) == SCREEN for row in scored.features], bool)
    photos = min((~screens & scored.forged).sum(), (~screens & ~scored.forged).sum())
    enough = photos >= FEWEST and (screens & ~scored.forged).sum() >= FEWEST
    return screens if enough else np.zeros(len(screens), bool)


def _small(scored: Scored) -> NDArray[np.bool_]:
    """Which pictures are small photographs, n; none where too few of them, or of larger ones, are untouched."""
    kinds = np.array([kind_of(row) for row in scored.features])
    untouched = kinds[~scored.forged]
    enough = min((untouched == SMALL).sum(), (untouched == PHOTO).sum()) >= FEWEST
    return kinds == SMALL if enough else np.zeros(len(kinds), bool)


def _weighed(scored: Scored) -> Calibration:
    """The weights of the score: of photographs, and of screens by themselves where enough of them are forged."""
    screens, forged = _screens(scored), scored.forged
    weights = fit_score(scored.features[~screens], forged[~screens])
    own = weights
    if min((screens & forged).sum(), (screens & ~forged).sum()) >= FEWEST:
        own = fit_score(scored.features[screens], forged[screens])
    return Calibration(score_weights=weights, kinds={SCREEN: OwnScore(0.0, 1.0, own)} if screens.any() else {})


def _with_thresholds(score: NDArray[np.float64], scored: Scored) -> Calibration:
    """Weights, confidence from the photographs, thresholds from the authentic pictures of each group.

    Args:
        score: of the pictures, held out from the weights that they are from.
    """
    screens, small, forged = _screens(scored), _small(scored), scored.forged
    slope, intercept = fit_logistic(score[~screens], forged[~screens])
    if not (np.isfinite(slope) and slope > 0):
        raise NoCalibrationError("the model's score does not separate forged from authentic pictures")
    even = float(expit(-intercept / slope))  # the score at which P(forged) is one half
    made = _weighed(scored)
    low, high = _thresholds(score, scored, ~screens & ~small, even, FALSE_POSITIVE_RATE)
    kinds = {
        kind: OwnScore(*_thresholds(score, scored, screens, even, SCREENS_RATE), own.score_weights)
        for kind, own in made.kinds.items()
    }
    if small.any():
        kinds[SMALL] = OwnScore(*_thresholds(score, scored, small, even, FALSE_POSITIVE_RATE))
    return replace(made, score_threshold=high, no_evidence_below=low, kinds=kinds, slope=slope, intercept=intercept)


def _thresholds(
    score: NDArray[np.float64], scored: Scored, of_kind: NDArray[np.bool_], even: float, rate: float
) -> tuple[float, float]:
    """`no_evidence_below` and `score_threshold` of a kind of picture: never below even, the strictest of its groups.

    A group is of this kind if a good part of its authentic pictures are (PART); one with too few of them is ignored.

    Args:
        of_kind: n, which pictures are.
        rate: at which authentic pictures of a group may exceed `score_threshold`.
    """
    authentic, low, high = ~scored.forged, even, even
    own = [score[authentic & of_kind]]
    if scored.groups is not None:
        groups = [scored.groups == group for group in np.unique(scored.groups[authentic])]
        each = [score[authentic & of_kind & group] for group in groups if of_kind[authentic & group].mean() > PART]
        own = [scores for scores in each if len(scores) >= FEWEST] or own
        low = max(low, *(float(np.quantile(s, 1 - INCONCLUSIVE_RATE, method="higher")) for s in own))
    high = max(high, *(float(np.quantile(s, 1 - rate, method="higher")) for s in own))
    return _rounded_up(min(low, high)), _rounded_up(high)


def _rounded_up(score: float) -> float:
    """To six digits: rounded down, the score that sets a threshold would be above it."""
    return math.ceil(score * 1e6) / 1e6


def auc(forged: NDArray[np.float64], authentic: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a forged picture scores above an authentic one."""
    above = (forged[:, None] > authentic[None]).mean()
    return float(above + 0.5 * (forged[:, None] == authentic[None]).mean())
