"""Pixel metrics of one image, exact on float maps.

F1 and IoU at `p > 0.5`, strictly; area under the ROC curve, average precision and the oracle F1 over all thresholds
that the map's own values make, ties included. They need only the sorted scores of forged pixels and those of the
others, so two sorted float32 copies (8 bytes a pixel in all) are the whole cost; ranks are looked up in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.images.maps import Map, is_finite
from model.images.masks import Mask

THRESHOLD = 0.5
"""A pixel is marked if its probability is above this."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels of one image: marked and forged, marked, forged, and all. F1 and IoU are of an image with forged ones."""

    both: int
    marked: int
    forged: int
    pixels: int

    @staticmethod
    def of(marked: Mask, truth: Mask) -> Counts:
        """Count two masks of one shape."""
        count = np.count_nonzero
        return Counts(int(count(marked & truth)), int(count(marked)), int(count(truth)), truth.size)

    @property
    def f1(self) -> float:
        """2·both / (marked + forged)."""
        return 2 * self.both / (self.marked + self.forged)

    @property
    def iou(self) -> float:
        """Both / either."""
        return self.both / (self.marked + self.forged - self.both)

    @property
    def inverted(self) -> Counts:
        """With the unmarked pixels marked, and the marked ones not."""
        return Counts(self.forged - self.both, self.pixels - self.marked, self.forged, self.pixels)


@dataclass(frozen=True, slots=True)
class PixelScores:
    """Metrics of one image. None where a metric is not defined; all but `marked_area` need forged pixels.

    Attributes:
        f1, iou: at `p > 0.5` (the primary metrics).
        auc: area under the ROC curve; needs authentic pixels too.
        ap: average precision, Σ (Rₙ − Rₙ₋₁)·Pₙ over the distinct values of the map.
        f1_best: the largest F1 of any threshold on this very image (an oracle).
        f1_best_threshold: the smallest probability that is marked where F1 is largest (`p ≥` this).
        f1_permute: the better of mask and inverse mask at 0.5, what several papers call F1.
        marked_area: marked pixels / all pixels.
        forged_area: forged pixels / all pixels of the ground truth.
    """

    f1: float | None
    iou: float | None
    auc: float | None
    ap: float | None
    f1_best: float | None
    f1_best_threshold: float | None
    f1_permute: float | None
    marked_area: float
    forged_area: float


def pixel_scores(heatmap: Map, truth: Mask, threshold: float = THRESHOLD) -> PixelScores:
    """All pixel metrics of one image.

    Args:
        heatmap: H×W float32 in [0, 1].
        truth: H×W bool, True = forged; without a forged pixel only the marked area is given.

    Raises:
        ValueError: the sizes differ, the image has no pixel, or the map holds NaN or infinity.
    """
    if heatmap.shape != truth.shape or truth.size == 0:
        raise ValueError(f"map {heatmap.shape} and ground truth {truth.shape} do not fit")
    if not is_finite(heatmap):
        raise ValueError("the map holds values that are not finite")
    counts = Counts.of(heatmap > threshold, truth)
    area, forged_area = counts.marked / counts.pixels, counts.forged / counts.pixels
    if counts.forged == 0:
        return PixelScores(None, None, None, None, None, None, None, area, forged_area)
    auc, ap, best, best_threshold = _over_thresholds(heatmap, truth)
    either_way = max(counts.f1, counts.inverted.f1)
    return PixelScores(counts.f1, counts.iou, auc, ap, best, best_threshold, either_way, area, forged_area)


def _over_thresholds(heatmap: Map, truth: Mask) -> tuple[float | None, float, float, float]:
    """AUC, average precision, best F1 and its threshold.

    Each is a sum or maximum over forged pixels of what their own value, taken as threshold, gives: the best F1 is
    reached at the value of a forged pixel, since between two of them only false positives change.
    """
    positives, negatives = heatmap[truth], heatmap[~truth]
    positives.sort()
    negatives.sort()
    below = 0.0  # pairs in which the forged pixel has the larger value, ties as one half
    precision = 0.0
    best, best_threshold = 0.0, 1.0
    for values, counts in _distinct(positives):
        first = np.searchsorted(negatives, values, "left")
        below += float((counts * (first + np.searchsorted(negatives, values, "right"))).sum()) / 2
        hits = positives.size - np.searchsorted(positives, values, "left")
        alarms = negatives.size - first
        precision += float((counts * (hits / (hits + alarms))).sum())
        f1 = 2 * hits / (hits + alarms + positives.size)
        top = int(f1.argmax())
        if f1[top] > best:
            best, best_threshold = float(f1[top]), float(values[top])
    auc = below / (positives.size * negatives.size) if negatives.size else None
    return auc, precision / positives.size, best, best_threshold


def _distinct(ascending: Map) -> Iterator[tuple[Map, NDArray[np.int64]]]:
    """Distinct values and how often each occurs, chunk by chunk; a value at a chunk's border comes twice, in parts."""
    for start in range(0, ascending.size, CHUNK):
        yield np.unique(ascending[start : start + CHUNK], return_counts=True)
