"""Bootstrap intervals over images (Efron 1979), and paired tests of two results on the same images.

A resample of n images with replacement is a vector of n integer weights. Every statistic here takes such weights, so
that an image is drawn as a whole, with all its metrics. Images of one source are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""From weights, b×n, to b values; NaN where it is not defined."""

RESAMPLES = 2000
LEVEL = 0.95
SIGNIFICANCE = 0.05
EXACT = 20
"""Most images for which the paired test of a mean is exact."""
BLOCK = 1 << 17
"""Weights that are drawn at once: few enough for a processor's cache. The draws do not depend on it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of a result, over n images, with its 95 % interval: exact for a share of verdicts, else by bootstrap.

    `value` is None where it is not defined, `low` and `high` where there are fewer than two images or sources.
    """

    value: float | None = field(metadata={"description": "The figure; null where it is not defined."})
    n: int = field(metadata={"description": "Over how many images."})
    low: float | None = field(
        default=None,
        metadata={"description": "Lower end of the 95 % interval: exact for a share of verdicts, else by bootstrap."},
    )
    high: float | None = field(
        default=None, metadata={"description": "Upper end of it; null for fewer than two images or sources."}
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


def _resamples(groups: NDArray[np.int64], sources: Sequence[str] | None, seed: int, resamples: int) -> Iterator[Values]:
    """`weights`, or those of the sources for each of their images; none of fewer than two images or sources."""
    if sources is None:
        yield from weights(groups, seed, resamples) if groups.size > 1 else ()
        return
    names, index = np.unique(np.array(sources, object), return_inverse=True)
    if names.size > 1:
        for drawn in weights(np.zeros(names.size, np.int64), seed, resamples):
            yield drawn[:, index]


def interval(samples: Values, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Percentile interval; (None, None) without a finite sample."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0:
        return None, None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_estimates(
    columns: dict[str, Values], seed: int, resamples: int = RESAMPLES, sources: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Mean and interval of each column over the same images; NaN stands for "not defined here" and lowers n.

    Args:
        sources: of the images, n names: the interval is over them. None: over images.
    """
    if not columns:
        return {}
    table = np.stack(list(columns.values()), 1)  # n×m
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)
    count = known.sum(0)
    draws = []
    present = known.astype(np.float64)
    for drawn in _resamples(np.zeros(table.shape[0], np.int64), sources, seed, resamples):
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
    statistics: dict[str, Statistic],
    groups: NDArray[np.int64],
    seed: int,
    resamples: int = RESAMPLES,
    sources: Sequence[str] | None = None,
) -> dict[str, Estimate]:
    """Any statistics of the weights of the same images, with their intervals from the same resamples.

    Args:
        groups: n group numbers, such as the class, within which images are drawn.
        sources: of the images, n names: the intervals are over them, and groups do not matter. None: over images.
    """
    n = groups.size
    values = {name: float(statistic(np.ones((1, n)))[0]) for name, statistic in statistics.items()}
    defined = {name: statistics[name] for name, value in values.items() if np.isfinite(value)}
    samples: dict[str, list[Values]] = {name: [] for name in defined}
    if defined:
        for drawn in _resamples(groups, sources, seed, resamples):
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
        p_value: two-sided, see `paired`.
        least_p: no p-value of so few images can be smaller.
    """

    metric: str
    a: float
    b: float
    difference: Estimate
    p_value: float
    least_p: float

    @property
    def differs(self) -> bool:
        """At the 5 % level."""
        return self.p_value <= SIGNIFICANCE


def paired(
    metric: str,
    a: Statistic,
    b: Statistic,
    groups: NDArray[np.int64],
    seed: int,
    resamples: int = RESAMPLES,
    *,
    differences: Values | None = None,
    sources: Sequence[str] | None = None,
) -> Comparison:
    """Compare two statistics on the same images; the interval is from a paired bootstrap.

    The p-value is exact for a mean over at most `EXACT` images (sign-flip test). Otherwise it is from the bootstrap
    distribution shifted to no difference, and never below 2^(1−m), m being the size of the smallest group: in m images
    A and B can be exchanged in 2^m ways.

    Args:
        groups: n group numbers, such as the class, within which images are drawn.
        differences: A − B of each image, n values, if both statistics are means.
        sources: of the images, n names, which are drawn and exchanged in the place of images. None: images are.

    Raises:
        ValueError: fewer than two images, or a statistic that is not defined.
    """
    n = groups.size
    ones = np.ones((1, n))
    value_a, value_b = (float(a(ones)[0]), float(b(ones)[0])) if n > 1 else (np.nan, np.nan)
    if not (np.isfinite(value_a) and np.isfinite(value_b)):
        raise ValueError(f"{metric}: too few images in common to compare ({n})")
    samples = np.concatenate(
        [a(drawn) - b(drawn) for drawn in _resamples(groups, sources, seed, resamples)] or [np.empty(0)]
    )
    samples = samples[np.isfinite(samples)]
    difference = value_a - value_b
    low, high = interval(samples)
    if sources is not None:
        smallest = len(set(sources))
    else:
        smallest = n if differences is not None else int(np.unique(groups, return_counts=True)[1].min())
    least_p = 2.0 ** (1 - smallest)
    if differences is not None and sources is None and n <= EXACT:
        p_value = sign_flip_p(differences)
    else:
        extreme = int((np.abs(samples - difference) >= abs(difference) - 1e-12).sum())
        p_value = max((extreme + 1) / (samples.size + 1), least_p)
    return Comparison(metric, value_a, value_b, Estimate(difference, n, low, high), p_value, least_p)


def sign_flip_p(differences: Values) -> float:
    """Two-sided p-value of the exact sign-flip test of a mean of zero; 2^n sums for n differences."""
    sums = np.zeros(1)
    for one in differences:
        sums = np.concatenate([sums + one, sums - one])
    return float((np.abs(sums) >= abs(differences.sum()) - 1e-12).mean())
