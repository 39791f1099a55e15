"""Image-level metrics: forged against authentic. Every function takes weights, one for each image (`bootstrap`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Classes = NDArray[np.bool_]


def roc_curve(scores: Values, forged: Classes, weight: Values) -> tuple[Values, Values, Values]:
    """False-positive rate, true-positive rate and threshold (`score ≥`), one point for each distinct score.

    The first point is (0, 0) at infinity. Empty where a class has no weight.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hit, w = scores[order], forged[order], weight[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    true = np.cumsum(np.where(hit, w, 0.0))[last] if ordered.size else np.empty(0)
    false = np.cumsum(np.where(hit, 0.0, w))[last] if ordered.size else np.empty(0)
    if ordered.size == 0 or true[-1] == 0 or false[-1] == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    zero = np.zeros(1)
    return (
        np.concatenate([zero, false / false[-1]]),
        np.concatenate([zero, true / true[-1]]),
        np.concatenate([[np.inf], ordered[last]]),
    )


def precision_recall_curve(scores: Values, forged: Classes, weight: Values) -> tuple[Values, Values]:
    """Precision and recall, one point for each distinct score, falling scores; empty where a class has no weight."""
    fpr, tpr, _ = roc_curve(scores, forged, weight)
    true, false = tpr[1:] * weight[forged].sum(), fpr[1:] * weight[~forged].sum()
    found = true + false
    return np.divide(true, found, out=np.ones_like(true), where=found > 0), tpr[1:]


def auc(scores: Values, forged: Classes, weight: Values) -> float:
    """Probability that a forged image scores above an authentic one, ties as one half; NaN without both classes."""
    fpr, tpr, _ = roc_curve(scores, forged, weight)
    return float(np.trapezoid(tpr, fpr)) if fpr.size else math.nan


def tpr_at_fpr(scores: Values, forged: Classes, weight: Values, rate: float) -> float:
    """Largest true-positive rate of a threshold with at most this false-positive rate; nothing is interpolated."""
    fpr, tpr, _ = roc_curve(scores, forged, weight)
    return float(tpr[fpr <= rate + 1e-12].max()) if fpr.size else math.nan


def balanced_accuracy(decided: Classes, forged: Classes, weight: Values) -> float:
    """Mean of the rates of correct decisions in the two classes; NaN without both."""
    positive, negative = float(weight[forged].sum()), float(weight[~forged].sum())
    if positive == 0 or negative == 0:
        return math.nan
    return float((weight[forged & decided].sum() / positive + weight[~forged & ~decided].sum() / negative) / 2)


def f1(decided: Classes, forged: Classes, weight: Values) -> float:
    """F1 of the decisions, forged being the positive class; NaN without a forged image."""
    both = float(weight[forged & decided].sum())
    total = float(weight[forged].sum() + weight[decided].sum())
    return 2 * both / total if weight[forged].sum() > 0 else math.nan


def expected_calibration_error(probability: Values, forged: Classes, weight: Values, bins: int = 10) -> float:
    """Over bins of equal width (Guo et al. 2017); NaN without an image."""
    total = float(weight.sum())
    if total == 0:
        return math.nan
    index = np.minimum((probability * bins).astype(int), bins - 1)
    said = np.bincount(index, weight * probability, minlength=bins)
    was = np.bincount(index, weight * forged, minlength=bins)
    return float(np.abs(said - was).sum() / total)


def brier(probability: Values, forged: Classes, weight: Values) -> float:
    """Mean squared difference of the stated probability and what was (Brier 1950); NaN without an image."""
    total = float(weight.sum())
    return float((weight * (probability - forged) ** 2).sum() / total) if total else math.nan


def reliability_curve(probability: Values, forged: Classes, bins: int = 10) -> list[tuple[float, float, int]]:
    """For a reliability plot: mean stated probability, share that was forged, and n of each bin that holds an image."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        (float(probability[index == b].mean()), float(forged[index == b].mean()), int((index == b).sum()))
        for b in range(bins)
        if (index == b).any()
    ]
