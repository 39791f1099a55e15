"""Bootstrap intervals over images (Efron 1979), and the paired test of two results on the same images.

A resample of n images with replacement is a vector of n integer weights. Every statistic here takes such weights, so
that an image is drawn as a whole, with all its metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""From weights, b×n, to b values; NaN where it is not defined."""

RESAMPLES = 2000
LEVEL = 0.95
BLOCK = 1 << 17
"""Weights that are drawn at once: few enough for a processor's cache. The draws do not depend on it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of a result, over n images, with its bootstrap 95 % interval.

    `value` is None where it is not defined, `low` and `high` where there are fewer than two images.
    """

    value: float | None = field(metadata={"description": "The figure; null where it is not defined."})
    n: int = field(metadata={"description": "Over how many images."})
    low: float | None = field(
        default=None, metadata={"description": "Lower end of the bootstrap 95 % interval over images."}
    )
    high: float | None = field(
        default=None, metadata={"description": "Upper end of it; null for fewer than two images."}
    )

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON types."""
        return {"value": self.value, "n": self.n, "low": self.low, "high": self.high}


def weights(groups: NDArray[np.int64], seed: int, resamples: int = RESAMPLES) -> Iterator[Values]:
    """Resamples in blocks, each b×n: how often each image was drawn; every group keeps its number of images.

    The seed and the groups decide every draw: one image after the other, group by group within a resample, as if each
    resample were drawn alone.

    Args:
        groups: n group numbers, such as the class, within which images are drawn.
    """
    rng = np.random.default_rng(seed)
    n = groups.size
    place = np.argsort(groups, kind="stable")  # group by group
    _, first, size = np.unique(groups[place], return_index=True, return_counts=True)
    starts, sizes = np.repeat(first, size), np.repeat(size, size)
    block = max(1, min(resamples, BLOCK // max(n, 1)))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n if first.size == 1 else sizes, (rows, n)) + starts
        drawn += np.arange(rows)[:, None] * n
        counts = np.empty((rows, n))
        counts[:, place] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts


def interval(samples: Values, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Percentile interval; (None, None) without a finite sample."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0:
        return None, None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_estimates(columns: dict[str, Values], seed: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Mean and interval of each column over the same images; NaN stands for "not defined here" and lowers n."""
    if not columns:
        return {}
    table = np.stack(list(columns.values()), 1)  # n×m
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)
    count = known.sum(0)
    draws = []
    if table.shape[0] > 1:
        present = known.astype(np.float64)
        for drawn in weights(np.zeros(table.shape[0], np.int64), seed, resamples):
            with np.errstate(invalid="ignore", divide="ignore"):
                draws.append((drawn @ filled) / (drawn @ present))
    samples = np.concatenate(draws) if draws else np.empty((0, table.shape[1]))
    cells = {}
    for column, name in enumerate(columns):
        n = int(count[column])
        low, high = interval(samples[:, column]) if n > 1 else (None, None)
        cells[name] = Estimate(float(filled[:, column].sum() / n) if n else None, n, low, high)
    return cells


def statistic_estimates(
    statistics: dict[str, Statistic], groups: NDArray[np.int64], seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Any statistics of the weights of the same images, with their intervals from the same resamples."""
    n = groups.size
    values = {name: float(statistic(np.ones((1, n)))[0]) for name, statistic in statistics.items()}
    defined = {name: statistics[name] for name, value in values.items() if np.isfinite(value)}
    samples: dict[str, list[Values]] = {name: [] for name in defined}
    if n > 1 and defined:
        for drawn in weights(groups, seed, resamples):
            for name, statistic in defined.items():
                samples[name].append(statistic(drawn))
    cells = {}
    for name, value in values.items():
        drawn_values = np.concatenate(samples[name]) if samples.get(name) else np.empty(0)
        cells[name] = Estimate(value if name in defined else None, n, *interval(drawn_values))
    return cells


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
    difference: Estimate
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
    ones = np.ones((1, groups.size))
    value_a, value_b = (float(a(ones)[0]), float(b(ones)[0])) if groups.size > 1 else (np.nan, np.nan)
    if not (np.isfinite(value_a) and np.isfinite(value_b)):
        raise ValueError(f"{metric}: too few images in common to compare ({groups.size})")
    samples = np.concatenate([a(drawn) - b(drawn) for drawn in weights(groups, seed, resamples)])
    samples = samples[np.isfinite(samples)]
    difference = value_a - value_b
    low, high = interval(samples)
    extreme = int((np.abs(samples - difference) >= abs(difference) - 1e-12).sum())
    p_value = (extreme + 1) / (samples.size + 1)
    real = low is not None and high is not None and (low > 0 or high < 0)
    return Comparison(metric, value_a, value_b, Estimate(difference, groups.size, low, high), p_value, real)
