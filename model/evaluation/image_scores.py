"""Image-level metrics: forged against authentic.

Every metric takes weights, one for each image (`bootstrap`), n for one value or b×n for b values, as the bootstrap's
blocks come; a value is NaN where it is not defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Classes = NDArray[np.bool_]


def roc_curve(scores: Values, forged: Classes, weight: Values) -> tuple[Values, Values, Values]:
    """False-positive rate, true-positive rate and threshold (`score ≥`), one point for each distinct score.

    The first point is (0, 0) at infinity. Empty where a class has no weight. Weights: n.
    """
    true, false, thresholds = _counts(scores, forged, weight)
    if thresholds.size == 0 or true[-1] == 0 or false[-1] == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    zero = np.zeros(1)
    return (
        np.concatenate([zero, false / false[-1]]),
        np.concatenate([zero, true / true[-1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def precision_recall_curve(scores: Values, forged: Classes, weight: Values) -> tuple[Values, Values]:
    """Precision and recall, one point for each distinct score, falling scores; empty where a class has no weight."""
    fpr, tpr, _ = roc_curve(scores, forged, weight)
    true, false = tpr[1:] * weight[forged].sum(), fpr[1:] * weight[~forged].sum()
    found = true + false
    return np.divide(true, found, out=np.ones_like(true), where=found > 0), tpr[1:]


def auc(scores: Values, forged: Classes, weight: Values) -> Values:
    """Probability that a forged image scores above an authentic one, ties as one half; NaN without both classes."""
    true, false, thresholds = _counts(scores, forged, weight)
    if thresholds.size == 0:
        return _none(weight)
    middle = true.copy()
    middle[..., 1:] += true[..., :-1]
    steps = np.diff(false, axis=-1, prepend=0)
    return _ratio((steps * middle).sum(-1) / 2, true[..., -1] * false[..., -1])


def average_precision(scores: Values, forged: Classes, weight: Values) -> Values:
    """Precision at each distinct score, weighted by the recall it adds; nothing is interpolated. NaN without both."""
    true, false, thresholds = _counts(scores, forged, weight)
    if thresholds.size == 0:
        return _none(weight)
    found = true + false
    precision = np.divide(true, found, out=np.zeros_like(true), where=found > 0)
    total = (np.diff(true, axis=-1, prepend=0) * precision).sum(-1)
    return _ratio(total, np.where(false[..., -1] > 0, true[..., -1], 0.0))


def tpr_at_fpr(scores: Values, forged: Classes, weight: Values, rate: float) -> Values:
    """Largest true-positive rate of a threshold with at most this false-positive rate; nothing is interpolated."""
    true, false, thresholds = _counts(scores, forged, weight)
    if thresholds.size == 0:
        return _none(weight)
    allowed = np.count_nonzero(false <= (rate + 1e-12) * false[..., -1:], axis=-1)  # both counts only grow
    last = np.take_along_axis(true, np.maximum(allowed - 1, 0)[..., None], -1)[..., 0]
    both = np.where(false[..., -1] > 0, true[..., -1], 0.0)
    return _ratio(np.where(allowed > 0, last, 0.0), both)


def balanced_accuracy(decided: Classes, forged: Classes, weight: Values) -> Values:
    """Mean of the rates of correct decisions in the two classes; NaN without both."""
    found = _ratio(weight @ (forged & decided), weight @ forged)
    passed = _ratio(weight @ (~forged & ~decided), weight @ ~forged)
    return (found + passed) / 2


def accuracy(decided: Classes, forged: Classes, weight: Values) -> Values:
    """Share of correct decisions; NaN without both classes."""
    both = (weight @ forged > 0) & (weight @ ~forged > 0)
    return _ratio(weight @ (forged == decided), np.where(both, weight.sum(-1), 0.0))


def f1(decided: Classes, forged: Classes, weight: Values) -> Values:
    """F1 of the decisions, forged being the positive class; NaN without a forged image."""
    positives = weight @ forged
    return _ratio(2 * (weight @ (forged & decided)), np.where(positives > 0, positives + weight @ decided, 0.0))


def expected_calibration_error(probability: Values, forged: Classes, weight: Values, bins: int = 10) -> Values:
    """Over bins of equal width (Guo et al. 2017); NaN without an image."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.where(index[:, None] == np.arange(bins), (probability - forged)[:, None], 0.0)  # n×bins
    return _ratio(np.abs(weight @ gaps).sum(-1), weight.sum(-1))


def brier(probability: Values, forged: Classes, weight: Values) -> Values:
    """Mean squared difference of the stated probability and what was (Brier 1950); NaN without an image."""
    return _ratio(weight @ (probability - forged) ** 2, weight.sum(-1))


def reliability_curve(probability: Values, forged: Classes, bins: int = 10) -> list[tuple[float, float, int]]:
    """For a reliability plot: mean stated probability, share that was forged, and n of each bin that holds an image."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        (float(probability[index == b].mean()), float(forged[index == b].mean()), int((index == b).sum()))
        for b in range(bins)
        if (index == b).any()
    ]


def _counts(scores: Values, forged: Classes, weight: Values) -> tuple[Values, Values, Values]:
    """Weight of the forged and of the authentic images at or above each distinct score, and these scores, falling."""
    if (np.diff(scores) > 0).any():  # sorting what is sorted would copy all weights
        order = np.argsort(-scores, kind="stable")
        scores, forged, weight = scores[order], forged[order], weight[..., order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if scores.size else np.empty(0, np.int64)
    true = np.cumsum(np.where(forged, weight, 0.0), -1)[..., last]
    false = np.cumsum(np.where(forged, 0.0, weight), -1)[..., last]
    return true, false, scores[last]


def _ratio(part: Values, whole: Values) -> Values:
    """Part / whole, NaN where the whole is nothing."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0), np.float64)


def _none(weight: Values) -> Values:
    return np.full(weight.shape[:-1], np.nan)
