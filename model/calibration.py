"""From a score to a calibrated confidence and to a threshold with a promise; how both are fitted.

The score is the mean of the strongest cells of the heatmap, or a logistic regression of a few statistics of it
(`model.score`). The confidence is Platt's logistic of the score (Platt 1999), fitted on pictures that were neither
trained on nor tested on; its parameters travel with the weights.

The threshold is split conformal prediction on the scores of authentic photos, which needs no model of the scores. If a
new authentic photo and the n calibration photos are exchangeable (any order of the n + 1 is equally likely), then its
score has each rank with the same probability, ties counted against it, and `forged` for a p-value of at most `rate` is
a false alarm with probability at most `rate` (Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005;
Bates et al., *Testing for outliers with conformal p-values*, 2023). With n photos no rate below 1/(n+1) is promised.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit

from model.config import Between, Keyed, check, dotted
from model.score import FEATURES, OF_HEATMAP, SMALL, image_score, kind_of

Share = Annotated[float, Between(0, 1)]


@dataclass(frozen=True, slots=True)
class OwnScore(Keyed):
    """Thresholds that a kind of picture has for itself, and weights, if it has its own; see `Calibration`."""

    no_evidence_below: Share
    score_threshold: Share
    score_weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration(Keyed):
    """What turns a heatmap into a verdict.

    Attributes:
        name: names the calibration in every record.
        pixel_threshold: a pixel is marked if its probability is above this.
        score_threshold: the verdict is forged if the score is above this.
        no_evidence_below: the verdict is no_evidence if the score is at or below this; in between, inconclusive.
        kinds: what kinds of pictures have of their own (`model.score.kind_of`).
        score_cells: how many of the strongest cells make the score (`image_score`) where there are no weights.
        score_weights: of `FEATURES`, or as many of the first as there are, and a constant: the score is the logistic of
            their weighted sum.
        slope, intercept: P(forged | score) = 1 / (1 + exp(-(slope·logit(score) + intercept))).
        fitted_on: what the parameters were fitted on, in words; empty: nothing, then there is no confidence.
        fitted_megapixels: smallest and largest image of the fit; the score of larger images is larger by chance.
        figures: reliability figures of the fit (n, expected calibration error, Brier score, …).
    """

    name: str = "none"
    pixel_threshold: Share = 0.5
    score_threshold: Share = 0.5
    no_evidence_below: Share = 0.5
    kinds: dict[str, OwnScore] = field(default_factory=dict)
    score_cells: int = 24
    score_weights: tuple[float, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    fitted_on: str = ""
    fitted_megapixels: tuple[float, float] = (0.0, 0.0)
    figures: dict[str, float] | None = None

    def score(self, heatmap: NDArray[np.float32], features: NDArray[np.float64]) -> float:
        """Raw image-level score, 0 to 1.

        Args:
            heatmap: H×W, probability that a pixel is forged.
            features: `FEATURES`, as the prediction has them.
        """
        if not self.score_weights:
            return image_score(heatmap, self.score_cells)
        weights = np.array(self.score_weights[:-1])
        return float(expit(weights @ features[: len(weights)] + self.score_weights[-1]))

    def of(self, features: NDArray[np.float64]) -> Calibration:
        """The same with what this kind of picture has of its own; no confidence where its thresholds are its own,
        except that of photographs for small ones."""
        kind = kind_of(features)
        own = self.kinds.get(kind)
        if own is None:
            return self
        thresholds = (self.no_evidence_below, self.score_threshold)
        shared = kind == SMALL or (own.no_evidence_below, own.score_threshold) == thresholds
        return replace(
            self,
            no_evidence_below=own.no_evidence_below,
            score_threshold=own.score_threshold,
            score_weights=own.score_weights or self.score_weights,
            kinds={},
            fitted_on=self.fitted_on if shared else "",
        )

    def with_thresholds(self, no_evidence_below: float, score_threshold: float) -> Calibration:
        """The same with these for every kind of picture."""
        kinds = {
            kind: replace(own, no_evidence_below=no_evidence_below, score_threshold=score_threshold)
            for kind, own in self.kinds.items()
        }
        return replace(self, no_evidence_below=no_evidence_below, score_threshold=score_threshold, kinds=kinds)

    def p_forged(self, score: float) -> float:
        """Calibrated probability that a picture with this score was forged, 0 to 1."""
        clipped = min(max(score, 1e-6), 1 - 1e-6)
        z = self.slope * math.log(clipped / (1 - clipped)) + self.intercept
        return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    def sha256(self) -> str:
        """Over all values, hex."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def fitted(self) -> bool:
        """Whether the thresholds come from pictures that were measured."""
        return bool(self.fitted_megapixels[1])

    def covers(self, megapixels: float) -> bool:
        """Whether the fit speaks for images of this size."""
        return bool(self.fitted_on) and self.knows_size(megapixels)

    def knows_size(self, megapixels: float) -> bool:
        """Whether images of this size were among what was measured: from half of the smallest to double the largest."""
        smallest, largest = self.fitted_megapixels
        return smallest / 2 <= megapixels <= largest * 2

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: an unknown key, a value of another type, or a threshold outside [0, 1].
            ValueError: thresholds or weights that do not fit each other.
        """
        calibration = check(Calibration, data, lambda place: dotted(("calibration", *place)))
        checked: list[Calibration | OwnScore] = [calibration, *calibration.kinds.values()]
        for one in checked:
            if len(one.score_weights) not in (0, len(OF_HEATMAP) + 1, len(FEATURES) + 1):
                raise ValueError(f"calibration: score_weights must be {len(FEATURES) + 1} numbers, or none")
            if one.no_evidence_below > one.score_threshold:
                raise ValueError("calibration: no_evidence_below must not exceed score_threshold")
        return calibration


def fit_score(features: NDArray[np.float64], forged: NDArray[np.bool_], penalty: float = 0.02) -> tuple[float, ...]:
    """Weights of `FEATURES` and a constant: ridge logistic regression on scaled features, both classes weighing alike.

    Args:
        features: n×len(FEATURES).
        forged: n.

    Raises:
        ValueError: fewer than two pictures of either kind.
    """
    positives, negatives = _both_kinds(forged, "a score")
    centre, scale = features.mean(0), features.std(0) + 1e-6
    x = np.concatenate([(features - centre) / scale, np.ones((len(features), 1))], 1)
    share = np.where(forged, 0.5 / positives, 0.5 / negatives)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ weights
        ridge = penalty * np.append(weights[:-1], 0.0)
        value = (share * (np.logaddexp(0, z) - forged * z)).sum() + 0.5 * float(ridge @ weights)
        return float(value), x.T @ (share * (expit(z) - forged)) + ridge

    from scipy.optimize import minimize  # a second to import, which a scan does not need

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS").x
    weights = found[:-1] / scale
    return (*(float(w) for w in weights), float(found[-1] - weights @ centre))


def fit_logistic(scores: NDArray[np.float64], forged: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of Platt's logistic on logit(score), with his smoothed targets.

    Raises:
        ValueError: fewer than two pictures of either kind.
    """
    positives, negatives = _both_kinds(forged, "calibration")
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    features = np.stack([np.log(clipped / (1 - clipped)), np.ones_like(clipped)], 1)
    target = np.where(forged, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = features @ weights
        # log(1 + e^z) - target·z, and a breath of regularization for classes that are perfectly apart
        value = np.logaddexp(0, z).mean() - (target * z).mean() + 5e-4 * float(weights @ weights)
        return float(value), features.T @ (expit(z) - target) / len(z) + 1e-3 * weights

    from scipy.optimize import minimize

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def _both_kinds(forged: NDArray[np.bool_], what: str) -> tuple[int, int]:
    """How many pictures are forged and authentic."""
    positives = int(forged.sum())
    if min(positives, forged.size - positives) < 2:
        raise ValueError(f"{what} needs forged and authentic pictures, at least two of each")
    return positives, forged.size - positives


def fit_even(scores: NDArray[np.float64], forged: NDArray[np.bool_]) -> tuple[float, float]:
    """Platt's logistic for evidence half of which is forged, whatever the shares in the fit were.

    Its one half is where a score is as likely for a forged as for an authentic picture.

    Raises:
        ValueError: fewer than two pictures of either kind.
    """
    slope, intercept = fit_logistic(scores, forged)
    return slope, intercept - math.log(int(forged.sum()) / int((~forged).sum()))


def cross_validated(scores: NDArray[np.float64], forged: NDArray[np.bool_], folds: int = 5) -> NDArray[np.float64]:
    """P(forged) of each picture by `fit_even` on the other folds; each fold holds its share of both kinds.

    Raises:
        ValueError: fewer than two pictures of either kind in what a fold is left with.
    """
    fold = np.empty(scores.size, np.int64)
    for kind in (forged, ~forged):
        fold[kind] = np.random.default_rng(0).permutation(int(kind.sum())) % folds
    probability = np.empty(scores.size)
    for number in range(folds):
        out = fold == number
        slope, intercept = fit_even(scores[~out], forged[~out])
        fitted = Calibration(slope=slope, intercept=intercept)
        probability[out] = [fitted.p_forged(float(score)) for score in scores[out]]
    return probability


def reliability(
    probability: NDArray[np.float64], forged: NDArray[np.bool_], bins: int = 10, *, even: bool = False
) -> dict[str, float]:
    """Expected calibration error over equal-width bins (Guo et al. 2017) and Brier score.

    Args:
        even: both kinds weigh alike, however many there are of each.
    """
    weight = np.full(forged.size, 1 / forged.size)
    if even:
        weight = np.where(forged, 0.5 / forged.sum(), 0.5 / (~forged).sum())
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gap = 0.0
    for number in range(bins):
        inside = index == number
        gap += abs(float((weight[inside] * (probability[inside] - forged[inside])).sum()))
    return {
        "n": float(forged.size),
        "expected_calibration_error": gap,
        "brier": float((weight * (probability - forged) ** 2).sum()),
    }


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
        raise ValueError(f"{hits} of {count} is not a proportion")
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, count - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, count - hits, 1 - tail)) if hits < count else 1.0
    return low, high


def _exact(rate: float) -> Fraction:
    """The rate as it is written: 0.29 · 100 is 29 then, and not a little less."""
    if not 0 < rate < 1:  # NaN is neither
        raise ValueError(f"a rate lies between 0 and 1, not at {rate!r}")
    return Fraction(repr(float(rate)))
