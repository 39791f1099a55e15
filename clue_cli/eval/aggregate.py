"""From the log to the result: figures, curves, averages, and `per_image.csv`, in one `Results`.

One set, attack and method is in memory at a time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from clue_cli import __version__
from clue_cli.eval.measurements import STEPS, Measurement, MeasurementLog, Unit
from clue_cli.eval.methods import MEASURE, Method
from clue_cli.eval.options import EvalOptions, MethodKind
from clue_cli.eval.plan import Plan, compared
from clue_cli.eval.published import SOURCE, published_for
from clue_cli.eval.results import (
    Average,
    Curves,
    MethodRecord,
    Outcome,
    PixelPoint,
    PublishedRecord,
    Reliability,
    Results,
    Scalar,
    SetRecord,
    TimingRecord,
)
from clue_cli.eval.sets import ChosenSet
from clue_cli.machine import cores, library_versions
from clue_cli.results.summary import harmless
from clue_cli.terminal import printable
from model.data.attacks import Attack
from model.datasets.sample import Kind, Problem
from model.evaluation import FIELDS, Estimate, ImageRow, f1_kept, probe, summarize
from model.evaluation.bootstrap import RESAMPLES, mean_estimates
from model.evaluation.image_scores import precision_recall_curve, reliability_curve, roc_curve

POINTS = 200
"""Most points of a curve in the result."""
PROBLEMS = 1000
"""Most problems of one outcome that are listed; a count of the rest follows."""

UNMEASURED = frozenset(
    {Kind.IMAGE_UNREADABLE, Kind.MAP_MISSING, Kind.MAP_UNREADABLE, Kind.MAP_NOT_FINITE, Kind.MAP_OUT_OF_RANGE}
)
"""Problems that leave an image without a figure; others (a mask of another size) only have to be known."""

Values = NDArray[np.float64]
Scored = tuple[float, float | None, str]
"""F1, IoU and source of an image."""
Images = dict[str, dict[str, str]]
"""Digests of the images that were measured: set → key → SHA-256, hex."""


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


def measured_of(
    log: MeasurementLog, chosen: ChosenSet, images: dict[str, str], method: Method, attack: Attack, seed: int
) -> list[Measurement]:
    """What the log holds of one method on one set under one attack."""
    settings = method.settings(attack, seed)
    units = (Unit(settings, chosen.name, images[entry.key]) for entry in chosen.samples if entry.key in images)
    return [measurement for _, measurement in log.read(units)]


def rows_of(
    log: MeasurementLog, chosen: ChosenSet, images: dict[str, str], method: Method, attack: Attack, seed: int
) -> list[Measurement]:
    """What was measured of one method on one set under one attack; the probe's scores are filled in."""
    found = measured_of(log, chosen, images, method, attack, seed)
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
    if method.kind == "classical":  # their maps have no calibrated 0.5
        summary.pixel["f1_best_of_set"] = _best_of_set(measurements)
    return Outcome(
        set=printable(chosen.name),
        attack=attack.name,
        simulated=attack.simulated,
        method=method.name,
        settings=method.settings(attack, seed),
        forged=summary.forged,
        authentic=summary.authentic,
        pixel=summary.pixel,
        image=summary.image,
        groups={by: {printable(name): found for name, found in of.items()} for by, of in summary.groups.items()},
        curves=curves(measurements),
        problems=problem_records(summary.problems, "; per_image.csv names all"),
        unmeasured=sum(map(_unmeasured, rows)),
    )


def average(
    attack: str,
    method: str,
    figures: Sequence[Sequence[Scored]],
    outcomes: Sequence[Outcome],
    seed: int,
    resamples: int = RESAMPLES,
) -> Average:
    """One method under one attack over several sets.

    Args:
        figures: F1, IoU and source of the scored images of each set; images without a source stand for themselves.
        outcomes: of the same sets.
    """
    pooled = [one for part in figures for one in part]
    f1, iou = np.array([one[:2] for one in pooled], np.float64).reshape(-1, 2).T
    sources = [one[2] or str(number) for number, one in enumerate(pooled)] if any(one[2] for one in pooled) else None
    means: dict[str, float] = {}
    for name in ("f1", "iou"):
        values = [value for one in outcomes if (value := one.pixel[name].value) is not None]
        if values:
            means[name] = float(np.mean(values))
    return Average(
        attack=attack,
        method=method,
        sets=sum(bool(part) for part in figures),
        weighted=mean_estimates({"f1": f1, "iou": iou}, seed, resamples, sources),
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
        roc = thinned(fpr, tpr)
        precision, recall = precision_recall_curve(scores, forged, np.ones(scores.size))
        precision_recall = thinned(recall, precision)
    return Curves(
        image_roc=roc,
        image_precision_recall=precision_recall,
        pixel=pixel_points([one for one in measurements if one.curve is not None]),
        reliability=reliability_of(scored),
    )


def reliability_of(rows: Sequence[ImageRow]) -> list[Reliability]:
    """The bins of a reliability diagram."""
    stated = [row for row in rows if row.probability is not None]
    bins = reliability_curve(
        np.array([row.probability for row in stated], np.float64), np.array([row.forged for row in stated], bool)
    )
    return [Reliability(said=said, was=was, n=n) for said, was, n in bins]


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


def _best_of_set(measurements: Sequence[Measurement]) -> Estimate:
    """The largest mean F1 of one threshold for all images, among those of the curves; chosen on the set itself."""
    kept = np.array([one.curve for one in measurements if one.curve is not None], np.float64)  # n×2×STEPS
    if not kept.size:
        return Estimate(None, 0)
    hits, alarms = kept[:, 0], kept[:, 1]
    f1 = 2 * hits / (hits + alarms + hits[:, :1])
    return Estimate(float(f1.mean(0)[1:].max()), len(kept))  # at 0 everything is marked


def problem_records(problems: Iterable[Problem], others: str = "") -> list[Problem]:
    """Each once, printable; beyond `PROBLEMS` only counted. `others`: where those can be read."""
    unique = list(dict.fromkeys(problems))
    records = [
        Problem(problem.kind, printable(problem.name), printable(problem.detail)) for problem in unique[:PROBLEMS]
    ]
    if len(unique) > PROBLEMS:
        more = len(unique) - PROBLEMS
        records.append(Problem(Kind.MORE, "", f"and {more} more{others}"))
    return records


def _unmeasured(row: ImageRow) -> bool:
    """A picture that clue cannot read does not keep another method's map of it from being scored."""
    return row.f1 is None and row.marked_area is None and any(problem.kind in UNMEASURED for problem in row.problems)


def thinned(x: Values, y: Values) -> list[tuple[float, float]]:
    """At most `POINTS` points, the first and the last among them."""
    kept = (
        np.unique(np.linspace(0, x.size - 1, min(x.size, POINTS)).round().astype(int)) if x.size else np.empty(0, int)
    )
    return [(float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True)]


def outcomes_and_averages(
    plan: Plan, log: MeasurementLog, images: Images, table: PerImageTable, resamples: int
) -> tuple[list[Outcome], list[Average]]:
    """All figures; `table` is filled on the way, so that every row is read once.

    Args:
        resamples: of the bootstrap.
    """
    outcomes: list[Outcome] = []
    scored: dict[tuple[str, str], list[list[Scored]]] = {}
    seed = plan.options.seed
    for chosen in plan.sets:
        done: dict[str, Outcome] = {}  # what an attack cannot change is summarized once
        plain: dict[str, list[ImageRow]] = {}
        for attack in plan.attacks_on(chosen.name):
            for method in plan.methods[chosen.name]:
                measurements = rows_of(log, chosen, images[chosen.name], method, attack, seed)
                rows, settings = [one.row for one in measurements], method.settings(attack, seed)
                table.add(chosen.name, attack.name, method.name, settings, rows)
                if settings in done:
                    found = done[settings].model_copy(update={"attack": attack.name, "simulated": attack.simulated})
                else:
                    found = done[settings] = outcome(measurements, chosen, method, attack, seed, resamples)
                    if attack.steps and method.name in plain:
                        found.pixel["f1_kept"] = f1_kept(plain[method.name], rows, seed=seed, resamples=resamples)
                if not attack.steps:
                    plain[method.name] = rows
                outcomes.append(found)
                kept = [(row.f1, row.iou, row.source) for row in rows if row.f1 is not None]
                scored.setdefault((attack.name, method.name), []).append(kept)
    table.finish()
    averages: list[Average] = []
    if len(plan.sets) > 1:
        for (attack_name, method_name), parts in scored.items():
            of_method = [one for one in outcomes if (one.attack, one.method) == (attack_name, method_name)]
            averages.append(average(attack_name, method_name, parts, of_method, plan.options.seed, resamples))
    return outcomes, averages


def conclude(
    plan: Plan,
    images: Images,
    figures: tuple[list[Outcome], list[Average]],
    resamples: int,
    *,
    started: str,
    interrupted: bool,
    timing: TimingRecord,
) -> Results:
    """What `results.json` holds.

    Args:
        figures: from `outcomes_and_averages`.
        resamples: of the bootstrap that gave their intervals.
        started: ISO 8601, from `now`.
        interrupted: whether the measurement was ended early.
    """
    options = plan.options
    outcomes, averages = figures
    kinds = {method.name: method.kind for methods in plan.methods.values() for method in methods}
    return Results(
        version=__version__,
        status="interrupted" if interrupted else "finished",
        started=started,
        finished=now(),
        command_line=list(options.command_line),
        configuration=_configuration(options, resamples),
        seed=options.seed,
        machine=machine(),
        sets=[set_record(chosen, images[chosen.name], plan.extra[chosen.name]) for chosen in plan.sets],
        absent=plan.absent,
        methods={
            name: [
                MethodRecord(name=m.name, kind=cast(MethodKind, m.kind), digest=m.digest, details=m.details)
                for m in methods
            ]
            for name, methods in plan.methods.items()
        },
        attacks=[attack.name for attack in plan.attacks],
        outcomes=outcomes,
        averages=averages,
        published=_published(plan),
        timing=timing,
        bars=[compared(bar, outcomes, kinds) for bar in plan.bars],
    )


def now() -> str:
    """The time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _configuration(options: EvalOptions, resamples: int) -> dict[str, Scalar]:
    return {
        "limit": options.limit,
        "strict": options.strict,
        "max_megapixels": options.max_megapixels,
        "pixel_threshold": MEASURE["threshold"],
        "resize": MEASURE["resize"],
        "score_of_maps": f"mean of the strongest {MEASURE['score_cells']} cells of 8×8 pixels",
        "bootstrap_resamples": resamples,
        "predictions": None if options.predictions is None else printable(str(options.predictions)),
        "root": None if options.root is None else printable(str(options.root)),
    }


def _published(plan: Plan) -> list[PublishedRecord]:
    return [
        PublishedRecord(
            method=one.method, set=one.set, f1=one.f1, iou=one.iou, source=f"{SOURCE}, {one.table}", note=one.note
        )
        for one in published_for({chosen.name for chosen in plan.sets})
    ]


def machine() -> dict[str, Scalar]:
    """What the figures were computed with."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        **library_versions(),
        "cores": cores(),
    }


def problems_in_words(row: ImageRow) -> str:
    """All that was wrong with an image."""
    return "; ".join(map(str, row.problems))


ABOUT = ("set", "attack", "method", "settings")
OF_ROW: dict[str, Callable[[ImageRow], object]] = {
    field: problems_in_words if field == "problems" else attrgetter(field) for field in FIELDS
}
"""Columns of `per_image.csv` after `ABOUT`, and what stands in them."""


class PerImageTable:
    """Writes the table row by row.

    Args:
        to: a binary stream; it stays open.
        columns: of a row, by their headings.
    """

    def __init__(self, to: BinaryIO, columns: Mapping[str, Callable[[ImageRow], object]] = OF_ROW) -> None:
        self._text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
        self._writer, self._columns = csv.writer(self._text), columns
        self._writer.writerow((*ABOUT, *columns))

    def add(self, name: str, attack: str, method: str, settings: str, rows: Iterable[ImageRow]) -> None:
        """Add the rows of one outcome."""
        for row in rows:
            values = [read(row) for read in self._columns.values()]
            self._writer.writerow([_cell(value) for value in (name, attack, method, settings, *values)])

    def finish(self) -> None:
        """Write what is left and let go of the stream."""
        self._text.flush()
        self._text.detach()


def _cell(value: object) -> str | int | float | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) or value is None:
        return value
    return harmless(printable(str(value)))
