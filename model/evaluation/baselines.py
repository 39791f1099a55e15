"""What stands beside a method in every table: trivial baselines, the classical methods, and a probe for shortcuts.

A method is a map H×W float32 in [0, 1] from pixels H×W×3 uint8. What a figure is worth is seen beside theirs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.calibration import cross_validated
from model.evaluation.classical import error_level_analysis, jpeg_ghosts, noise_inconsistency
from model.evaluation.rows import ImageRow

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
Method = Callable[[Pixels], Map]


def all_forged(pixels: Pixels) -> Map:
    """Every pixel is forged: F1 = 2a/(1 + a) for a forged area a."""
    return np.ones(pixels.shape[:2], np.float32)


def none_forged(pixels: Pixels) -> Map:
    """No pixel is forged: F1 = 0, and no false alarm ever."""
    return np.zeros(pixels.shape[:2], np.float32)


def centre_box(pixels: Pixels) -> Map:
    """The middle half of each side, a quarter of the area: photographers and forgers put things in the middle."""
    height, width = pixels.shape[:2]
    out = np.zeros((height, width), np.float32)
    out[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return out


TRIVIAL: dict[str, Method] = {
    "all forged": all_forged,
    "none forged": none_forged,
    "centre box": centre_box,
}
CLASSICAL: dict[str, Method] = {
    "error level analysis": error_level_analysis,
    "JPEG ghosts": jpeg_ghosts,
    "noise inconsistency": noise_inconsistency,
}
"""Aids to look at, not verdicts."""


FOLDS = 5


def probe(rows: Sequence[ImageRow], signatures: Sequence[str]) -> list[ImageRow]:
    """How well a file's metadata alone tell forged from authentic: the rows with what `Header.signature` says.

    CASIA v1's classes differ in their quantization tables, CASIA v2's in the file format: where this probe is good, an
    image-level figure says little until both classes were encoded alike (`--attack jpeg:90`).

    In each of five folds the score of an image is how often its signature was forged in the other folds, both classes
    weighing alike, with one image of each class added to every signature. Folds are drawn by key, within a class.
    """
    fold = _folds(rows)
    out: list[ImageRow] = []
    for number in range(FOLDS):
        seen = {
            kind: Counter(
                s for s, f, row in zip(signatures, fold, rows, strict=True) if f != number and row.forged == kind
            )
            for kind in (True, False)
        }
        totals = {kind: seen[kind].total() + 2 for kind in seen}
        for sign, own, row in zip(signatures, fold, rows, strict=True):
            if own != number or not sign:
                continue
            forged, authentic = ((seen[kind][sign] + 1) / totals[kind] for kind in (True, False))
            score = forged / (forged + authentic)
            out.append(replace(row, score=score, probability=score, decided=score > 0.5))
    unknown = [row for sign, row in zip(signatures, rows, strict=True) if not sign]
    return sorted(out + unknown, key=lambda row: row.key)


def size_probe(rows: Sequence[ImageRow], sizes: Sequence[float | None]) -> list[ImageRow]:
    """How well one quantity of the file alone tells the classes apart: the rows with what a logistic of it says.

    Five folds, the logistic fitted on the other four, both classes weighing alike. Rows without the quantity, and all
    of them where a class has fewer than ten, stay without a score.

    Args:
        sizes: positive, such as bytes per pixel; None: not known.
    """
    known = [(row, size) for row, size in zip(rows, sizes, strict=True) if size is not None and size > 0]
    truth = np.array([row.forged for row, _ in known], bool)
    if min(int(truth.sum()), int((~truth).sum())) < 2 * FOLDS:
        return sorted(rows, key=lambda row: row.key)
    values = np.log([size for _, size in known])
    place = (values - values.mean()) / (values.std() + 1e-9)
    said = cross_validated(expit(place), truth, FOLDS)
    scored = {
        row.key: replace(row, score=float(p), probability=float(p), decided=bool(p > 0.5))
        for (row, _), p in zip(known, said, strict=True)
    }
    return sorted((scored.get(row.key, row) for row in rows), key=lambda row: row.key)


def _folds(rows: Sequence[ImageRow]) -> list[int]:
    def place(row: ImageRow) -> bytes:
        return hashlib.sha256(row.key.encode("utf-8", "surrogateescape")).digest()

    numbers: dict[str, int] = {}
    for kind in (True, False):
        for index, row in enumerate(sorted((row for row in rows if row.forged == kind), key=place)):
            numbers[row.key] = index % FOLDS
    return [numbers[row.key] for row in rows]
