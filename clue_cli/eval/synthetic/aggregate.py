"""From the log to the result: figures of every method on every set under every attack, and `per_image.csv`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np

from clue_cli import __version__
from clue_cli.eval.aggregate import (
    Images,
    PerImageTable,
    machine,
    measured_of,
    now,
    problem_records,
    problems_in_words,
    reliability_of,
    set_digest,
    thinned,
)
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.methods import Method
from clue_cli.eval.published import PUBLISHED_DETECTION
from clue_cli.eval.results import Scalar, TimingRecord
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.synthetic.plan import BASELINES, CONSTANT, SyntheticPlan, filled
from clue_cli.eval.synthetic.results import (
    Counts,
    DetectionCurves,
    DetectorRecord,
    GeneratedSet,
    GeneratorRecord,
    PublishedDetection,
    SyntheticOutcome,
    SyntheticResults,
)
from clue_cli.terminal import printable
from model.data.attacks import Attack
from model.datasets.generated import Label, class_of
from model.datasets.sample import Sample
from model.evaluation import ImageRow
from model.evaluation.detection import detect_figures, is_laundered
from model.evaluation.image_scores import roc_curve

SHORTCUT = 0.6
"""A baseline that sees no pixel is warned of if its AUC is above this, its whole interval included."""


def class_of_row(row: ImageRow) -> Label:
    """The class of a row, as `model.datasets.generated.class_of`."""
    return "laundered" if is_laundered(row) else "generated" if row.forged else "real"


COLUMNS: dict[str, Callable[[ImageRow], object]] = {
    "key": attrgetter("key"),
    "class": class_of_row,
    "generator": attrgetter("part"),
    **{name: attrgetter(name) for name in ("format", "width", "height", "score", "probability", "verdict")},
    "called_generated": attrgetter("decided"),
    "problems": problems_in_words,
}
"""Columns of `per_image.csv` after set, attack, method and settings; `generator` of a real picture: where it lies."""


def outcomes_of(
    plan: SyntheticPlan, log: MeasurementLog, images: Images, table: PerImageTable, resamples: int
) -> tuple[list[SyntheticOutcome], list[str], dict[str, dict[str, dict[str, int]]]]:
    """All figures; `table` is filled on the way.

    Args:
        resamples: of the bootstrap.

    Returns:
        The outcomes, what makes the classes differ beside their content, and the formats of each set by class.
    """
    outcomes: list[SyntheticOutcome] = []
    warnings: list[str] = []
    formats: dict[str, dict[str, dict[str, int]]] = {}
    for chosen in plan.sets:
        done: dict[str, SyntheticOutcome] = {}  # what an attack cannot change is summarized once
        for attack in plan.attacks_on(chosen.name):
            for method in plan.methods[chosen.name]:
                settings = method.settings(attack, plan.options.seed)
                rows = filled(method, measured_of(log, chosen, images[chosen.name], method, attack, plan.options.seed))
                table.add(chosen.name, attack.name, method.name, settings, rows)
                formats.setdefault(chosen.name, _formats(rows))
                if settings in done:
                    found = done[settings].model_copy(update={"attack": attack.name, "simulated": attack.simulated})
                else:
                    found = done[settings] = _outcome(plan, chosen, rows, method, attack, settings, resamples)
                outcomes.append(found)
        warnings += _shortcuts(chosen.name, formats[chosen.name], [*done.values()])
    table.finish()
    return outcomes, warnings, formats


def _outcome(
    plan: SyntheticPlan,
    chosen: ChosenSet,
    rows: Sequence[ImageRow],
    method: Method,
    attack: Attack,
    settings: str,
    resamples: int,
) -> SyntheticOutcome:
    found = detect_figures(rows, seen_by(plan, method), seed=plan.options.seed, resamples=resamples)
    judged = [row for row in rows if row.score is not None and not is_laundered(row)]
    scores, truth = np.array([row.score for row in judged], np.float64), np.array([row.forged for row in judged], bool)
    fpr, tpr, _ = roc_curve(scores, truth, np.ones(scores.size))
    overall = found.overall
    if method.name == CONSTANT:  # 0.5 is no answer of it
        overall = {name: figure for name, figure in overall.items() if name != "accuracy_at_half"}
    return SyntheticOutcome(
        set=printable(chosen.name),
        attack=attack.name,
        simulated=attack.simulated,
        method=method.name,
        settings=settings,
        pictures=_counted([class_of_row(row) for row in rows]),
        overall=overall,
        generators=[
            GeneratorRecord(
                name=printable(one.name),
                status=one.status,
                real=one.real,
                generated=one.generated,
                figures=one.figures,
            )
            for one in found.generators
        ],
        means=found.means,
        laundered=found.laundered,
        curves=DetectionCurves(roc=thinned(fpr, tpr), reliability=reliability_of(judged)),
        problems=problem_records([p for row in rows for p in row.problems], "; per_image.csv names all"),
        unmeasured=0 if method.kind == "probe" else sum(row.score is None for row in rows),
    )


def seen_by(plan: SyntheticPlan, method: Method) -> list[str] | None:
    """The generators that a method learned from; None: not known."""
    detector = plan.detectors.get(method.name)
    names = None if detector is None else detector.method.training.get("generators")
    return [printable(str(name)) for name in names] if isinstance(names, list | tuple) else None


def conclude(
    plan: SyntheticPlan,
    images: Images,
    figures: tuple[list[SyntheticOutcome], list[str], dict[str, dict[str, dict[str, int]]]],
    resamples: int,
    *,
    started: str,
    interrupted: bool,
    timing: TimingRecord,
) -> SyntheticResults:
    """What `results.json` holds; arguments as of `clue_cli.eval.aggregate.conclude`."""
    options = plan.options
    outcomes, warnings, formats = figures
    return SyntheticResults(
        version=__version__,
        status="interrupted" if interrupted else "finished",
        started=started,
        finished=now(),
        command_line=list(options.command_line),
        configuration=_configuration(plan, resamples),
        seed=options.seed,
        machine=machine(),
        sets=[_set_record(plan, chosen, images[chosen.name], formats[chosen.name]) for chosen in plan.sets],
        methods={name: [_method_record(plan, method) for method in methods] for name, methods in plan.methods.items()},
        attacks=[attack.name for attack in plan.attacks],
        outcomes=outcomes,
        published=[
            PublishedDetection(
                method=one.method,
                metric=one.metric,
                value=one.value,
                over=one.over,
                source=one.source,
                note=one.note,
            )
            for one in PUBLISHED_DETECTION
        ],
        warnings=warnings,
        timing=timing,
    )


def _configuration(plan: SyntheticPlan, resamples: int) -> dict[str, Scalar]:
    options = plan.options
    return {
        "limit": options.limit,
        "strict": options.strict,
        "max_megapixels": options.max_megapixels,
        "bootstrap_resamples": resamples,
        "predictions": None if options.predictions is None else printable(str(options.predictions)),
    }


def _set_record(
    plan: SyntheticPlan, chosen: ChosenSet, images: dict[str, str], formats: dict[str, dict[str, int]]
) -> GeneratedSet:
    found = chosen.found
    left_out = {entry.key for entry in found.samples}.difference(images)
    problems = [*found.problems, *plan.extra[chosen.name]]
    return GeneratedSet(
        name=chosen.name,
        layout=found.layout,
        folder=printable(str(found.folder)),
        measured=_counts([entry for entry in chosen.samples if entry.key in images]),
        held=_counts(found.samples),
        formats=formats,
        digest=set_digest(images),
        problems=problem_records(problem for problem in problems if problem.name not in left_out),
        elsewhere=problem_records(problem for problem in problems if problem.name in left_out),
        ignored=found.ignored,
    )


def _method_record(plan: SyntheticPlan, method: Method) -> DetectorRecord:
    detector = plan.detectors.get(method.name)
    kind = {"detector": "method", "predictions": "predictions"}.get(method.kind, "baseline")
    details = dict(method.details) if method.name not in BASELINES else {"knows": BASELINES[method.name]}
    return DetectorRecord.model_validate(
        {
            "name": method.name,
            "kind": kind,
            "digest": method.digest,
            "details": details,
            "generators": seen_by(plan, method),
            "limits": [] if detector is None else [printable(text) for text in detector.method.limits],
        }
    )


def _counts(samples: Sequence[Sample]) -> Counts:
    return _counted([class_of(sample) for sample in samples])


def _counted(classes: Sequence[Label]) -> Counts:
    found = Counter(classes)
    return Counts(real=found["real"], generated=found["generated"], laundered=found["laundered"])


def _formats(rows: Sequence[ImageRow]) -> dict[str, dict[str, int]]:
    """Class → format → pictures."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(class_of_row(row), Counter())[row.format or "unreadable"] += 1
    return {label: dict(sorted(found[label].items())) for label in ("real", "generated", "laundered") if label in found}


def _shortcuts(name: str, formats: dict[str, dict[str, int]], outcomes: Sequence[SyntheticOutcome]) -> list[str]:
    """What tells the classes apart without a look at a pixel."""
    lines = []
    real, generated = formats.get("real", {}), formats.get("generated", {})
    if real and generated:
        shares = [{form: count / sum(of.values()) for form, count in of.items()} for of in (real, generated)]
        distance = sum(abs(shares[0].get(form, 0) - shares[1].get(form, 0)) for form in {*real, *generated}) / 2
        if distance >= 0.05:
            words = [", ".join(f"{count} {form}" for form, count in of.items()) for of in (real, generated)]
            lines.append(
                f"{printable(name)}: the classes differ in file format: real {words[0]}; generated {words[1]}."
            )
    for one in outcomes:
        figure = one.overall.get("image_auc")
        if one.method in BASELINES and figure is not None and figure.low is not None and figure.low > SHORTCUT:
            lines.append(
                f"{one.set}: {one.method} ({BASELINES[one.method]}) reaches an AUC of {figure.value:.3f} without "
                "seeing a pixel: the classes differ in compression, and a method's figures may rest on that. Compare "
                "them after --attack jpeg:70, which gives both classes the same last compression."
            )
    return lines
