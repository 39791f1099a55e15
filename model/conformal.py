"""A threshold with a promise: split conformal prediction on the scores of authentic photos.

The promise needs no model of the scores. If a new authentic photo and the n calibration photos are exchangeable (any
order of the n + 1 is equally likely), then its score has each rank with the same probability, ties counted against
it, and `forged` for a p-value of at most `rate` is a false alarm with probability at most `rate` (Vovk, Gammerman,
Shafer, *Algorithmic Learning in a Random World*, 2005; Bates et al., *Testing for outliers with conformal p-values*,
2023). With n photos no rate below 1/(n+1) can be promised.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv


def photos_needed(rate: float) -> int:
    """The smallest number of photos with which a false-positive rate can be promised: 1/(n+1) ≤ rate.

    Raises:
        ValueError: the rate is not between 0 and 1.
    """
    return math.ceil(1 / _exact(rate)) - 1


def rank(count: int, rate: float) -> int:
    """Which of the largest of `count` scores is the threshold: floor(rate · (count + 1)), 0 for none.

    Raises:
        ValueError: the rate is not between 0 and 1.
    """
    return math.floor(_exact(rate) * (count + 1))


def threshold(scores: NDArray[np.float64], rate: float) -> float:
    """The score that a photo must exceed, strictly, for a p-value of at most `rate`.

    It is one of the scores, unrounded. A score equal to it is not above it: that is what keeps the promise with ties.

    Args:
        scores: of the authentic photos, in any order.
        rate: the false-positive rate, more than 0 and less than 1.

    Raises:
        ValueError: too few scores for this rate, a rate out of range, or a score that is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    place = rank(scores.size, rate)
    if place < 1:
        raise ValueError(f"a rate of {rate:g} needs {photos_needed(rate)} authentic photos, there are {scores.size}")
    return float(np.partition(scores, scores.size - place)[scores.size - place])


def p_value(ascending: Sequence[float], score: float) -> float:
    """The conformal p-value: the share of scores at least as high, the photo's own included; 1/(n+1) to 1.

    Args:
        ascending: scores of the authentic photos, sorted.
        score: of the photo in question.
    """
    count = len(ascending)
    return (count - bisect_left(ascending, score) + 1) / (count + 1)


def rate_bound(count: int, place: int, confidence: float = 0.95) -> float:
    """Upper bound, at this confidence, of the rate of the one threshold at hand.

    The promise is an average over calibrations. Of one calibration of photos that are independent of each other, which
    is more than exchangeable, the rate is distributed as Beta(place, count + 1 - place), or lower with ties (Vovk,
    *Conditional validity of inductive conformal predictors*, 2012).

    Args:
        count: number of scores.
        place: of the threshold among the largest, as `rank` gives it.
    """
    return float(betaincinv(place, count + 1 - place, confidence))


def proportion_interval(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934).

    Raises:
        ValueError: not 0 ≤ hits ≤ count, or nothing was counted.
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"{hits} of {count} is no proportion")
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, count - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, count - hits, 1 - tail)) if hits < count else 1.0
    return low, high


def _exact(rate: float) -> Fraction:
    """The rate as it is written: 0.29 · 100 is 29 then, and not a little less."""
    if not 0 < rate < 1:  # NaN is neither
        raise ValueError(f"a rate lies between 0 and 1, not at {rate!r}")
    return Fraction(repr(float(rate)))
