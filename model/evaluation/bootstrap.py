"""Bootstrap intervals over images (Efron 1979), and the paired test of two results on the same images.

A resample of n images with replacement is a vector of n integer weights. Every statistic here takes such weights, so
that an image is drawn as a whole, with all its metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]

RESAMPLES = 2000
LEVEL = 0.95
MEMORY = 4_000_000
"""Weights that are held at once."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a result: its value, over how many images, and its bootstrap 95 % interval.

    `value` is None where it is not defined, `low` and `high` where there are fewer than two images.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON types."""
        return {"value": self.value, "n": self.n, "low": self.low, "high": self.high}


def weights(groups: NDArray[np.int64], seed: int, resamples: int = RESAMPLES) -> Iterator[Values]:
    """Resamples in blocks, each b×n: how often each image was drawn; every group keeps its number of images.

    Args:
        groups: n group numbers, such as the class, within which images are drawn.
    """
    rng = np.random.default_rng(seed)
    n = groups.size
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    block = max(1, min(resamples, MEMORY // max(n, 1)))
    for start in range(0, resamples, block):
        drawn = np.zeros((min(block, resamples - start), n))
        for row in drawn:
            for inside in members:
                row[inside] = np.bincount(rng.integers(0, inside.size, inside.size), minlength=inside.size)
        yield drawn


def interval(samples: Values, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Percentile interval; (None, None) without a finite sample."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0:
        return None, None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_cells(columns: dict[str, Values], seed: int, resamples: int = RESAMPLES) -> dict[str, Cell]:
    """Mean and interval of each column over the same images; NaN stands for "not defined here" and lowers n."""
    if not columns:
        return {}
    table = np.stack(list(columns.values()), 1)  # n×m
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)
    count = known.sum(0)
    draws = []
    if table.shape[0] > 1:
        for drawn in weights(np.zeros(table.shape[0], np.int64), seed, resamples):
            with np.errstate(invalid="ignore", divide="ignore"):
                draws.append((drawn @ filled) / (drawn @ known.astype(np.float64)))
    samples = np.concatenate(draws) if draws else np.empty((0, table.shape[1]))
    cells = {}
    for column, name in enumerate(columns):
        n = int(count[column])
        low, high = interval(samples[:, column]) if n > 1 else (None, None)
        cells[name] = Cell(float(filled[:, column].sum() / n) if n else None, n, low, high)
    return cells


def statistic_cell(
    statistic: Statistic, groups: NDArray[np.int64], seed: int, n: int, resamples: int = RESAMPLES
) -> Cell:
    """Any statistic of the weights, with its interval; NaN means that it is not defined."""
    value = statistic(np.ones(groups.size))
    if not np.isfinite(value):
        return Cell(None, n)
    if groups.size < 2:
        return Cell(float(value), n)
    samples = np.array([statistic(row) for drawn in weights(groups, seed, resamples) for row in drawn])
    return Cell(float(value), n, *interval(samples))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether A differs from B on the same images.

    Attributes:
        difference: A − B, with its interval; n images.
        p_value: two-sided, of the bootstrap distribution shifted to no difference; never below 1/(resamples + 1).
        real: the 95 % interval excludes zero.
    """

    metric: str
    a: float
    b: float
    difference: Cell
    p_value: float
    real: bool

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return {
            "metric": self.metric,
            "a": self.a,
            "b": self.b,
            "difference": self.difference.to_dict(),
            "p_value": self.p_value,
            "real": self.real,
        }


def paired(
    metric: str, a: Statistic, b: Statistic, groups: NDArray[np.int64], seed: int, resamples: int = RESAMPLES
) -> Comparison:
    """Paired bootstrap: both statistics on the same resamples of the same images.

    Raises:
        ValueError: fewer than two images, or a statistic that is not defined.
    """
    ones = np.ones(groups.size)
    value_a, value_b = float(a(ones)), float(b(ones))
    if groups.size < 2 or not (np.isfinite(value_a) and np.isfinite(value_b)):
        raise ValueError(f"{metric}: too few images in common to compare ({groups.size})")
    samples = np.array([a(row) - b(row) for drawn in weights(groups, seed, resamples) for row in drawn])
    samples = samples[np.isfinite(samples)]
    difference = value_a - value_b
    low, high = interval(samples)
    extreme = int((np.abs(samples - difference) >= abs(difference) - 1e-12).sum())
    p_value = (extreme + 1) / (samples.size + 1)
    real = low is not None and high is not None and (low > 0 or high < 0)
    return Comparison(metric, value_a, value_b, Cell(difference, groups.size, low, high), p_value, real)
