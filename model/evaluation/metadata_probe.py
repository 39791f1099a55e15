"""A probe for shortcuts: how well do a file's metadata alone, without one pixel, tell forged from authentic?

CASIA v1's classes differ in their quantization tables, CASIA v2's in the file format: where this probe is good, an
image-level figure says little until both classes were encoded alike (`--attack jpeg:90`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from model.evaluation.rows import ImageRow

FOLDS = 5


def probe(rows: Sequence[ImageRow], signatures: Sequence[str]) -> list[ImageRow]:
    """The rows with score, probability and decision from `Header.signature` alone, cross-validated.

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


def _folds(rows: Sequence[ImageRow]) -> list[int]:
    def place(row: ImageRow) -> bytes:
        return hashlib.sha256(row.key.encode("utf-8", "surrogateescape")).digest()

    numbers: dict[str, int] = {}
    for kind in (True, False):
        for index, row in enumerate(sorted((row for row in rows if row.forged == kind), key=place)):
            numbers[row.key] = index % FOLDS
    return [numbers[row.key] for row in rows]
