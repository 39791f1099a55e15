"""From the log to the result: figures, curves and averages. One set, attack and method is in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clue_cli.eval.measurements import STEPS, Measurement, MeasurementLog, Unit
from clue_cli.eval.methods import Method
from clue_cli.eval.results import Average, Curves, Figure, Outcome, PixelPoint, ProblemRecord, Reliability, SetRecord
from clue_cli.eval.sets import ChosenSet
from clue_cli.terminal import printable
from model.data.attacks import Attack
from model.datasets.sample import Kind, Problem
from model.evaluation import Cell, ImageRow, probe, summarize
from model.evaluation.bootstrap import RESAMPLES, mean_cells
from model.evaluation.image_scores import reliability_curve, roc_curve

POINTS = 200
"""Most points of a curve in the result."""
PROBLEMS = 1000
"""Most problems of one outcome that are listed; a count of the rest follows."""

UNMEASURED = frozenset(
    {Kind.IMAGE_UNREADABLE, Kind.MAP_MISSING, Kind.MAP_UNREADABLE, Kind.MAP_NOT_FINITE, Kind.MAP_OUT_OF_RANGE}
)
"""Problems that leave an image without a figure; others (a mask of another size) only have to be known."""

Values = NDArray[np.float64]


def set_digest(images: dict[str, str]) -> str:
    """SHA-256, hex, over the digests of the images, in the order of their keys."""
    total = hashlib.sha256(b"clue measured set 1\n")
    for key in sorted(images):
        total.update(f"{images[key]}\n".encode())
    return total.hexdigest()


def set_record(chosen: ChosenSet, images: dict[str, str], extra: Iterable[Problem]) -> SetRecord:
    """What the result says of a set. `extra`: problems beyond those of the set itself, e.g. surplus predictions.

    Problems of images that were not measured (`--limit`, an interruption) stand apart from the others.
    """
    found, benchmark = chosen.found, chosen.found.benchmark
    measured = [entry for entry in chosen.samples if entry.key in images]
    forged = sum(entry.forged for entry in measured)
    left_out = {entry.key for entry in found.samples}.difference(images)
    problems = [*found.problems, *extra]
    return SetRecord(
        name=printable(found.name),
        title=benchmark.title if benchmark else "",
        layout=found.layout,
        folder=printable(str(found.folder)),
        forged=forged,
        authentic=len(measured) - forged,
        held=found.counts,
        expected=benchmark.expected if benchmark else "",
        complete=found.complete,
        digest=set_digest(images),
        damage=list(benchmark.damage) if benchmark else [],
        problems=problem_records(problem for problem in problems if problem.name not in left_out),
        elsewhere=problem_records(problem for problem in problems if problem.name in left_out),
        ignored=found.ignored,
    )


def rows_of(
    log: MeasurementLog, chosen: ChosenSet, images: dict[str, str], method: Method, attack: Attack, seed: int
) -> list[Measurement]:
    """What was measured of one method on one set under one attack; the probe's scores are filled in."""
    settings = method.settings(attack, seed)
    units = (Unit(settings, chosen.name, images[entry.key]) for entry in chosen.samples if entry.key in images)
    found = [measurement for _, measurement in log.read(units)]
    if method.kind != "probe":
        return found
    rows = probe([one.row for one in found], [one.signature for one in found])
    return [Measurement(row) for row in rows]


def outcome(
    measurements: Sequence[Measurement], chosen: ChosenSet, method: Method, attack: Attack, seed: int,
    resamples: int = RESAMPLES,
) -> Outcome:  # fmt: skip
    """The figures of one method on one set under one attack."""
    rows = [one.row for one in measurements]
    summary = summarize(rows, seed=seed, resamples=resamples)
    return Outcome(
        set=printable(chosen.name),
        attack=attack.name,
        simulated=attack.simulated,
        method=method.name,
        settings=method.settings(attack, seed),
        forged=summary.forged,
        authentic=summary.authentic,
        pixel=_figures(summary.pixel),
        image=_figures(summary.image),
        groups={
            by: {printable(name): _figures(cells) for name, cells in groups.items()}
            for by, groups in summary.groups.items()
        },
        curves=curves(measurements),
        problems=problem_records(summary.problems, "; per_image.csv names all"),
        unmeasured=sum(map(_unmeasured, rows)),
    )


def average(
    attack: str,
    method: str,
    figures: Sequence[Values],
    outcomes: Sequence[Outcome],
    seed: int,
    resamples: int = RESAMPLES,
) -> Average:
    """One method under one attack over several sets.

    Args:
        figures: F1 and IoU of the scored images of each set, n×2.
        outcomes: of the same sets.
    """
    pooled = np.concatenate(figures)
    means: dict[str, float] = {}
    for name in ("f1", "iou"):
        values = [value for one in outcomes if (value := one.pixel[name].value) is not None]
        if values:
            means[name] = float(np.mean(values))
    return Average(
        attack=attack,
        method=method,
        sets=sum(bool(part.size) for part in figures),
        weighted=_figures(mean_cells({"f1": pooled[:, 0], "iou": pooled[:, 1]}, seed, resamples)),
        mean=means,
    )


def curves(measurements: Sequence[Measurement]) -> Curves:
    """What the plots of one outcome are drawn from."""
    scored = [one.row for one in measurements if one.row.score is not None]
    scores = np.array([row.score for row in scored], np.float64)
    forged = np.array([row.forged for row in scored], bool)
    roc: list[tuple[float, float]] = []
    precision_recall: list[tuple[float, float]] = []
    fpr, tpr, _ = roc_curve(scores, forged, np.ones(scores.size))
    if fpr.size:
        roc = _thinned(fpr, tpr)
        hits, alarms = tpr[1:] * forged.sum(), fpr[1:] * (~forged).sum()
        precision_recall = _thinned(tpr[1:], hits / (hits + alarms))
    stated = [row for row in scored if row.probability is not None]
    bins = reliability_curve(
        np.array([row.probability for row in stated], np.float64), np.array([row.forged for row in stated], bool)
    )
    return Curves(
        image_roc=roc,
        image_precision_recall=precision_recall,
        pixel=pixel_points([one for one in measurements if one.curve is not None]),
        reliability=[Reliability(said=said, was=was, n=n) for said, was, n in bins],
    )


def pixel_points(measurements: Sequence[Measurement]) -> list[PixelPoint]:
    """Precision, recall and false-positive rate of the pixels by threshold, averaged over images."""
    kept = [one.curve for one in measurements if one.curve is not None]
    if not kept:
        return []
    table = np.array(kept, np.float64)  # n×2×STEPS
    hits, alarms = table[:, 0], table[:, 1]
    points = []
    for step in range(STEPS):
        marked = hits[:, step] + alarms[:, step]
        some, others = marked > 0, alarms[:, 0] > 0
        points.append(
            PixelPoint(
                threshold=step / STEPS,
                precision=float((hits[some, step] / marked[some]).mean()) if some.any() else None,
                recall=float((hits[:, step] / hits[:, 0]).mean()),
                false_positive_rate=float((alarms[others, step] / alarms[others, 0]).mean()) if others.any() else None,
            )
        )
    return points


def problem_records(problems: Iterable[Problem], others: str = "") -> list[ProblemRecord]:
    """Each once, printable; beyond `PROBLEMS` only counted. `others`: where those can be read."""
    unique = list(dict.fromkeys(problems))
    records = [
        ProblemRecord(kind=problem.kind.value, name=printable(problem.name), detail=printable(problem.detail))
        for problem in unique[:PROBLEMS]
    ]
    if len(unique) > PROBLEMS:
        more = len(unique) - PROBLEMS
        records.append(ProblemRecord(kind="more", name="", detail=f"and {more} more{others}"))
    return records


def status_of(interrupted: bool) -> Literal["finished", "interrupted"]:
    """The word in the result."""
    return "interrupted" if interrupted else "finished"


def _unmeasured(row: ImageRow) -> bool:
    """A picture that clue cannot read does not keep another method's map of it from being scored."""
    return row.f1 is None and row.marked_area is None and any(problem.kind in UNMEASURED for problem in row.problems)


def _figures(cells: dict[str, Cell]) -> dict[str, Figure]:
    return {name: Figure(value=cell.value, n=cell.n, low=cell.low, high=cell.high) for name, cell in cells.items()}


def _thinned(x: Values, y: Values) -> list[tuple[float, float]]:
    """At most `POINTS` points, the first and the last among them."""
    kept = (
        np.unique(np.linspace(0, x.size - 1, min(x.size, POINTS)).round().astype(int)) if x.size else np.empty(0, int)
    )
    return [(float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True)]
