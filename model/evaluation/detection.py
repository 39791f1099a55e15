"""Whole-picture detection: figures of real against generated pictures, by generator and overall.

In a row, `forged` says that the picture was generated, `part` names its generator, and `manipulation` is its class
where that is not `real` (`model.datasets.generated`). Laundered pictures are left out of everything but their own part.
At a method's own threshold whatever is not called `generated`, `inconclusive` included, counts as called real.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.calibration import proportion_interval
from model.datasets.generated import generator_of
from model.evaluation.bootstrap import RESAMPLES, Estimate, Statistic, statistic_estimates
from model.evaluation.metrics import DETECTION_METRICS_OF, image_cells, image_statistic
from model.evaluation.rows import ImageRow

Status = Literal["seen", "unseen", "unknown"]

WORDS = ("generated", "inconclusive", "no_evidence")
AVERAGED = ("accuracy", "balanced_accuracy", "accuracy_at_half", "image_auc", "average_precision")
"""Metrics of which the mean over generators is computed."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OfGenerator:
    """Figures on the pictures of one generator against the real ones that belong to it.

    Attributes:
        status: whether the method learned from this generator.
        real, generated: pictures, scored or not.
    """

    name: str
    status: Status
    real: int
    generated: int
    figures: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Detection:
    """All figures of one method.

    Attributes:
        overall: real against generated: the metrics, and shares of verdicts as `real_called_generated`.
        means: `all`, `unseen`, `seen`: metric → its mean over these generators, each weighing alike; over those that
            have a figure.
        laundered: shares of verdicts as `laundered_called_generated`, and `image_auc` against the real ones.
    """

    overall: dict[str, Estimate]
    generators: list[OfGenerator]
    means: dict[str, dict[str, Estimate]]
    laundered: dict[str, Estimate]


def is_laundered(row: ImageRow) -> bool:
    """Whether a picture is neither real nor generated."""
    return row.manipulation == "laundered"


def status_of(generator: str, seen: Collection[str] | None) -> Status:
    """Whether a generator is among those that a method learned from, by name.

    Case, blanks and punctuation do not matter. `seen` is None where that is not known.
    """
    if seen is None:
        return "unknown"
    return "seen" if _plain(generator) in {_plain(name) for name in seen} else "unseen"


def detect_figures(
    rows: Sequence[ImageRow], seen: Collection[str] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Detection:
    """All figures of one method's rows. Their order does not matter; the same seed gives the same intervals.

    Args:
        seen: names of the generators that the method learned from; None: not known.
    """
    table = sorted(rows, key=lambda row: row.key)
    laundered = [row for row in table if is_laundered(row)]
    judged = [row for row in table if not is_laundered(row)]
    real = [row for row in judged if not row.forged]
    by_generator = _by_generator(judged)
    generators = []
    for name, members in by_generator.items():
        own = sum(row.forged for row in members)
        cells = _cells(members, seed, resamples) | _shares("generated", members, True)
        status = status_of(name, seen) if any(row.part for row in members if row.forged) else "unknown"
        generators.append(OfGenerator(name, status, len(members) - own, own, cells))
    overall = _cells(judged, seed, resamples)
    overall |= _shares("real", real, False) | _shares("generated", judged, True)
    means = {"all": _means(judged, by_generator, seed, resamples)} if by_generator else {}
    for status in ("unseen", "seen"):
        chosen = {one.name: by_generator[one.name] for one in generators if one.status == status}
        if chosen:
            means[status] = _means(judged, chosen, seed, resamples)
    apart = _shares("laundered", laundered, True)
    if laundered:
        apart["image_auc"] = image_cells([*real, *laundered], seed, resamples, {"score": ("image_auc",)})["image_auc"]
    return Detection(overall, generators, means, apart)


def _cells(rows: Sequence[ImageRow], seed: int, resamples: int) -> dict[str, Estimate]:
    """The metrics; no interval where a class has one scored picture, which every resample holds."""
    cells = image_cells(rows, seed, resamples, DETECTION_METRICS_OF)
    for field, metrics in DETECTION_METRICS_OF.items():
        classes = [row.forged for row in rows if getattr(row, field) is not None]
        if 1 in (classes.count(True), classes.count(False)):
            cells |= {metric: replace(cells[metric], low=None, high=None) for metric in metrics}
    return cells


def _by_generator(judged: Sequence[ImageRow]) -> dict[str, list[ImageRow]]:
    """The generated pictures of each generator with its real ones: those beside it, else those of no generator, else
    all.
    """
    real = [row for row in judged if not row.forged]
    shared = [row for row in real if not row.part] or real
    groups: dict[str, list[ImageRow]] = {}
    for name in sorted({generator_of(row.part) for row in judged if row.forged}):
        own = [row for row in real if row.part == name]
        made = [row for row in judged if row.forged and generator_of(row.part) == name]
        groups[name] = [*(own or shared), *made]
    return groups


def _means(
    judged: Sequence[ImageRow], by_generator: dict[str, list[ImageRow]], seed: int, resamples: int
) -> dict[str, Estimate]:
    """Means over generators, from resamples within the real pictures and within those of each generator.

    Generators of which no picture, or no real one beside it, has a figure are left out.
    """
    means: dict[str, Estimate] = {}
    for field, metrics in DETECTION_METRICS_OF.items():
        defined = [rows for rows in by_generator.values() if _both(rows, field)]
        members = {row.key for rows in defined for row in rows}
        wanted = [metric for metric in metrics if metric in AVERAGED]
        used = [row for row in judged if row.key in members and getattr(row, field) is not None]
        if not wanted or not used:
            continue
        place = {row.key: number for number, row in enumerate(used)}
        parts = []
        for rows in defined:
            scored = sorted((row for row in rows if row.key in place), key=lambda row: -(row.score or 0.0))
            parts.append((scored, np.array([place[row.key] for row in scored], np.int64)))
        strata = np.unique(np.array([f"{row.forged} {row.part}" for row in used], object), return_inverse=True)[1]
        statistics = {metric: _mean_of(parts, metric) for metric in wanted}
        means |= statistic_estimates(statistics, strata.astype(np.int64), seed, resamples)
    return means


def _both(rows: Sequence[ImageRow], field: str) -> bool:
    return len({row.forged for row in rows if getattr(row, field) is not None}) == 2


def _mean_of(parts: Sequence[tuple[list[ImageRow], NDArray[np.int64]]], metric: str) -> Statistic:
    of_each = [(image_statistic(rows, metric), index) for rows, index in parts]
    return lambda weight: np.mean([statistic(weight[:, index]) for statistic, index in of_each], axis=0)


def _shares(what: str, rows: Sequence[ImageRow], forged: bool) -> dict[str, Estimate]:
    """Shares of verdicts among the pictures of one class, with exact intervals; none where no verdict was given."""
    verdicts = [row.verdict for row in rows if row.verdict and row.forged == forged]
    n = len(verdicts)
    return {
        f"{what}_called_{word}": Estimate(verdicts.count(word) / n, n, *proportion_interval(verdicts.count(word), n))
        for word in (WORDS if n else ())
    }


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
