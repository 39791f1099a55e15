"""From rows to a table: every figure with its n and a bootstrap 95 % interval over images.

Pixel metrics are averaged over the forged images that have a ground truth (MVSS-Net's protocol); on authentic images a
perfect empty mask gives F1 = 0/0, so they count only at image level and by their false-positive area.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from model.calibration import proportion_interval
from model.datasets.sample import Kind, Problem
from model.evaluation import image_scores
from model.evaluation.bootstrap import (
    RESAMPLES,
    Comparison,
    Estimate,
    Statistic,
    mean_estimates,
    paired,
    statistic_estimates,
)
from model.evaluation.rows import ImageRow

PIXEL_METRICS = ("f1", "iou", "pixel_auc", "pixel_ap", "f1_best", "f1_permute")
"""Means over forged images; `f1` and `iou` at 0.5 are the primary ones."""
_IMAGE_METRICS_OF = {
    "score": ("image_auc", "tpr_at_fpr_1", "tpr_at_fpr_5"),
    "decided": ("balanced_accuracy", "image_f1"),
    "probability": ("calibration_error", "brier"),
}
"""What a row has to say, and the metrics that are computed from it."""
IMAGE_METRICS = tuple(metric for metrics in _IMAGE_METRICS_OF.values() for metric in metrics)
DETECTION_METRICS_OF = {
    "decided": ("accuracy", "balanced_accuracy"),
    "score": ("accuracy_at_half", "image_auc", "average_precision", "tpr_at_fpr_1", "tpr_at_fpr_5"),
    "probability": ("calibration_error", "brier"),
}
"""Likewise for whole pictures (`detection`), `forged` being `generated` there."""
DETECTION_METRICS = tuple(metric for metrics in DETECTION_METRICS_OF.values() for metric in metrics)
FALSE_POSITIVE_AREA = "false_positive_area"

SIZES = ((0.25, "below 0.25 MP"), (1, "0.25–1 MP"), (4, "1–4 MP"), (12, "4–12 MP"), (float("inf"), "12 MP and above"))
"""Picture sizes: upper bound in megapixels (exclusive) and its words. 384×256 is 0.1 MP, 512² is 0.26, NIST16 is 9."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """A result over one data set.

    Attributes:
        forged, authentic: images, measured or not.
        pixel: the `PIXEL_METRICS`.
        image: the `IMAGE_METRICS` and `false_positive_area`.
        groups: by `edited area` (fifths), `manipulation`, `format`, `picture size`, and for a set with parts by `part`
            and `part and manipulation`: group → metric → cell.
        problems: of all images.
    """

    forged: int
    authentic: int
    pixel: dict[str, Estimate]
    image: dict[str, Estimate]
    groups: dict[str, dict[str, dict[str, Estimate]]]
    problems: list[Problem]


def summarize(rows: Iterable[ImageRow], *, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """All figures of a result. The order of the rows does not matter; the same seed gives the same intervals."""
    table = sorted(rows, key=lambda row: row.key)
    forged = [row for row in table if row.forged]
    authentic = [row for row in table if not row.forged]
    groups = {
        "edited area": _grouped(forged, edited_area_fifths(forged)),
        "manipulation": _grouped(forged, {row.key: row.manipulation or "not stated" for row in forged}),
        "format": _grouped(table, {row.key: row.format or "unknown" for row in table}),
        "picture size": _grouped(table, {row.key: picture_size(row) for row in table}),
    }
    in_parts = [row for row in table if row.part]
    kinds = {row.key: f"{row.part}, {row.manipulation}" for row in in_parts if row.manipulation}
    parts = {
        "part": _grouped(in_parts, {row.key: row.part for row in in_parts}),
        "part and manipulation": _grouped(in_parts, kinds),
    }
    return Summary(
        len(forged),
        len(authentic),
        _pixel_cells(forged, seed, resamples),
        image_cells(table, seed, resamples) | _area_cells(authentic, seed, resamples),
        {
            by: {name: _group_cells(members, seed, resamples) for name, members in found.items()}
            for by, found in groups.items()
        }
        | {
            by: {name: _part_cells(members, seed, resamples) for name, members in found.items()}
            for by, found in parts.items()
            if found
        },
        [problem for row in table for problem in row.problems],
    )


def image_cells(
    rows: Sequence[ImageRow],
    seed: int = 0,
    resamples: int = RESAMPLES,
    metrics_of: Mapping[str, Sequence[str]] = _IMAGE_METRICS_OF,
) -> dict[str, Estimate]:
    """The `IMAGE_METRICS`, with intervals from resamples within each class.

    Args:
        metrics_of: what a row has to say, and the metrics that are computed from it.
    """
    cells: dict[str, Estimate] = {}
    for metrics in metrics_of.values():
        used = image_rows(rows, metrics[0])
        classes = np.array([row.forged for row in used], np.int64)
        cells |= statistic_estimates(
            {metric: image_statistic(used, metric) for metric in metrics}, classes, seed, resamples, _sources(used)
        )
    return cells


def f1_kept(
    before: Iterable[ImageRow], after: Iterable[ImageRow], *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Mean F1 after an attack / mean F1 before it, over the images that have both; the bootstrap is paired."""
    first = {row.key: row for row in before if row.f1 is not None}
    second = sorted((row for row in after if row.f1 is not None and row.key in first), key=lambda row: row.key)
    old, new = _column([first[row.key] for row in second], "f1"), _column(second, "f1")

    def ratio(weight: Values) -> Values:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weight @ new) / (weight @ old)

    groups = np.zeros(len(second), np.int64)
    return statistic_estimates({"": ratio}, groups, seed, resamples, _sources(second))[""]


def compare(
    a: Iterable[ImageRow], b: Iterable[ImageRow], metric: str = "f1", *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Comparison, list[Problem]]:
    """Whether result A differs from result B on the images that both measured (`bootstrap.paired`).

    Args:
        metric: one of `PIXEL_METRICS`, `IMAGE_METRICS`, `DETECTION_METRICS`, or `false_positive_area`.

    Returns:
        The comparison, and the images that only one has measured or whose ground truth differs; those are left out.

    Raises:
        ValueError: unknown metric, or fewer than two images in common.
    """
    one, other = {row.key: row for row in a}, {row.key: row for row in b}
    read = _reader(metric)
    problems, keys = [], []
    for key in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(key), other.get(key)
        if mine and theirs and (mine.forged, mine.forged_area) != (theirs.forged, theirs.forged_area):
            problems.append(Problem(Kind.TRUTH_DIFFERS, key))
        elif mine and theirs and read(mine) is not None and read(theirs) is not None:
            keys.append(key)
        elif (mine and read(mine) is not None) or (theirs and read(theirs) is not None):
            problems.append(Problem(Kind.MAP_MISSING, key, f"{metric} in one result only"))
    left, right = [one[key] for key in keys], [other[key] for key in keys]
    classes = np.array([row.forged for row in left], np.int64)
    differences: Values | None = None
    if metric in IMAGE_METRICS or metric in DETECTION_METRICS:
        first, second = image_statistic(left, metric), image_statistic(right, metric)
    else:
        first, second = _mean(left, read), _mean(right, read)
        differences = np.array([float(read(x) or 0) - float(read(y) or 0) for x, y in zip(left, right, strict=True)])
    sources = _sources(left)
    return paired(metric, first, second, classes, seed, resamples, differences=differences, sources=sources), problems


def edited_area_fifths(forged: Sequence[ImageRow]) -> dict[str, str]:
    """Key → which fifth of the images by forged area, with the bounds of that fifth in per cent, for scored images."""
    ordered = sorted(
        (row for row in forged if row.f1 is not None and row.forged_area is not None),
        key=lambda row: (row.forged_area, row.key),
    )
    parts = [part for part in np.array_split(np.array(ordered, object), 5) if part.size]
    labels: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        low, high = part[0].forged_area * 100, part[-1].forged_area * 100
        labels |= {row.key: f"fifth {number}: {low:.3g}–{high:.3g} %" for row in part}
    return labels


def picture_size(row: ImageRow) -> str:
    """The bin of `SIZES`."""
    size = row.megapixels
    return "unknown" if size is None else next(words for bound, words in SIZES if size < bound)


def _grouped(rows: Sequence[ImageRow], labels: dict[str, str]) -> dict[str, list[ImageRow]]:
    groups: dict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        if row.key in labels:
            groups[labels[row.key]].append(row)
    sizes = [words for _, words in SIZES]
    return dict(sorted(groups.items(), key=lambda item: (sizes.index(item[0]) if item[0] in sizes else -1, item[0])))


def _column(rows: Sequence[ImageRow], name: str) -> Values:
    return np.array([np.nan if getattr(row, name) is None else float(getattr(row, name)) for row in rows])


def _pixel_cells(forged: Sequence[ImageRow], seed: int, resamples: int) -> dict[str, Estimate]:
    scored = [row for row in forged if row.f1 is not None]
    return mean_estimates({name: _column(scored, name) for name in PIXEL_METRICS}, seed, resamples, _sources(scored))


def _area_cells(authentic: Sequence[ImageRow], seed: int, resamples: int) -> dict[str, Estimate]:
    columns = {FALSE_POSITIVE_AREA: _column(authentic, "marked_area")}
    return mean_estimates(columns, seed, resamples, _sources(authentic))


def _sources(rows: Sequence[ImageRow]) -> list[str] | None:
    return [row.source or row.key for row in rows] if any(row.source for row in rows) else None


def _group_cells(rows: Sequence[ImageRow], seed: int, resamples: int) -> dict[str, Estimate]:
    authentic = [row for row in rows if not row.forged]
    cells = _pixel_cells([row for row in rows if row.forged], seed, resamples)
    return cells | (_area_cells(authentic, seed, resamples) if authentic else {})


def _part_cells(rows: Sequence[ImageRow], seed: int, resamples: int) -> dict[str, Estimate]:
    """Those of a group, the image AUC, shares of verdicts, and how many sources there are."""
    forged, authentic = ([row for row in rows if row.forged is side] for side in (True, False))
    cells = _pixel_cells(forged, seed, resamples) if forged else {}
    if authentic:
        cells |= _area_cells(authentic, seed, resamples)
    if forged and authentic:
        cells["image_auc"] = image_cells(rows, seed, resamples)["image_auc"]
    for side, own in (("forged", forged), ("authentic", authentic)):
        verdicts = [row.verdict for row in own if row.verdict]
        for word in ("forged", "inconclusive") if verdicts else ():
            hits, n = verdicts.count(word), len(verdicts)
            cells[f"{side}_called_{word}"] = Estimate(hits / n, n, *proportion_interval(hits, n))
    return cells | {"sources": Estimate(len({row.source for row in rows if row.source}), len(rows))}


def _reader(metric: str) -> Callable[[ImageRow], float | bool | None]:
    """What a metric needs of a row; None where the row lacks it."""
    if metric in PIXEL_METRICS:
        return attrgetter(metric)
    if metric == FALSE_POSITIVE_AREA:
        return lambda row: None if row.forged else row.marked_area
    for name, metrics in (*_IMAGE_METRICS_OF.items(), *DETECTION_METRICS_OF.items()):
        if metric in metrics:
            return attrgetter(name)
    known = ", ".join(dict.fromkeys((*PIXEL_METRICS, *IMAGE_METRICS, *DETECTION_METRICS, FALSE_POSITIVE_AREA)))
    raise ValueError(f"unknown metric {metric!r}; known are {known}")


def image_rows(rows: Sequence[ImageRow], metric: str) -> list[ImageRow]:
    """The rows that count for a metric, by falling score: sorting what is sorted is cheap in every resample."""
    read = _reader(metric)
    return sorted((row for row in rows if read(row) is not None), key=lambda row: -(row.score or 0.0))


def image_statistic(rows: Sequence[ImageRow], metric: str) -> Statistic:
    """An image-level metric of these rows, of the weights of each."""
    forged = np.array([row.forged for row in rows], bool)
    read = _reader(metric)
    values = np.array([read(row) for row in rows], np.float64)
    match metric:
        case "image_auc":
            return lambda weight: image_scores.auc(values, forged, weight)
        case "tpr_at_fpr_1" | "tpr_at_fpr_5":
            rate = int(metric[-1]) / 100
            return lambda weight: image_scores.tpr_at_fpr(values, forged, weight, rate)
        case "balanced_accuracy":
            return lambda weight: image_scores.balanced_accuracy(values > 0.5, forged, weight)
        case "accuracy" | "accuracy_at_half":
            return lambda weight: image_scores.accuracy(values > 0.5, forged, weight)
        case "average_precision":
            return lambda weight: image_scores.average_precision(values, forged, weight)
        case "image_f1":
            return lambda weight: image_scores.f1(values > 0.5, forged, weight)
        case "calibration_error":
            return lambda weight: image_scores.expected_calibration_error(values, forged, weight)
        case _:
            return lambda weight: image_scores.brier(values, forged, weight)


def _mean(rows: Sequence[ImageRow], read: Callable[[ImageRow], float | bool | None]) -> Statistic:
    values = np.array([read(row) for row in rows], np.float64)
    return lambda weight: weight @ values / weight.sum(-1)
