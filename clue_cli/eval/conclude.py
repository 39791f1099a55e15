"""The end of a measurement: all its figures in one `Results`, from the log."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from clue_cli import __version__
from clue_cli.eval.assemble import average, outcome, rows_of, set_record, status_of
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.methods import MEASURE, Method
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.per_image import PerImageTable
from clue_cli.eval.plan import Plan
from clue_cli.eval.published import SOURCE, published_for
from clue_cli.eval.results import Average, MethodRecord, Outcome, PublishedRecord, Results, Scalar, TimingRecord
from clue_cli.eval.runner import Run
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.timing import Timing
from clue_cli.terminal import printable
from model.data.attacks import Attack


def outcomes_and_averages(
    plan: Plan, log: MeasurementLog, run: Run, table: PerImageTable, resamples: int
) -> tuple[list[Outcome], list[Average]]:
    """All figures; `table` is filled on the way, so that every row is read once.

    Args:
        resamples: of the bootstrap.
    """
    outcomes: list[Outcome] = []
    f1_of: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for chosen in plan.sets:
        done: dict[str, Outcome] = {}
        for attack in plan.attacks:
            for method in plan.methods[chosen.name]:
                found = _outcome(plan, log, run, chosen, method, attack, done, table, resamples)
                outcomes.append(found[0])
                f1_of.setdefault((attack.name, method.name), []).append(found[1])
    table.finish()
    averages: list[Average] = []
    if len(plan.sets) > 1:
        for (attack_name, method_name), parts in f1_of.items():
            of_method = [one for one in outcomes if (one.attack, one.method) == (attack_name, method_name)]
            averages.append(average(attack_name, method_name, parts, of_method, plan.options.seed, resamples))
    return outcomes, averages


def conclude(
    plan: Plan,
    run: Run,
    figures: tuple[list[Outcome], list[Average]],
    resamples: int,
    *,
    started: str,
    interrupted: bool,
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
    return Results(
        version=__version__,
        status=status_of(interrupted),
        started=started,
        finished=now(),
        command_line=list(options.command_line),
        configuration=_configuration(options, resamples),
        seed=options.seed,
        machine=_machine(),
        sets=[set_record(chosen, run.images[chosen.name], plan.extra[chosen.name]) for chosen in plan.sets],
        absent=plan.absent,
        methods={
            name: [MethodRecord(name=m.name, kind=m.kind, digest=m.digest, details=m.details) for m in methods]
            for name, methods in plan.methods.items()
        },
        attacks=[attack.name for attack in plan.attacks],
        outcomes=outcomes,
        averages=averages,
        published=_published(plan),
        timing=_timing(run.timing),
    )


def now() -> str:
    """The time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _outcome(
    plan: Plan,
    log: MeasurementLog,
    run: Run,
    chosen: ChosenSet,
    method: Method,
    attack: Attack,
    done: dict[str, Outcome],
    table: PerImageTable,
    resamples: int,
) -> tuple[Outcome, NDArray[np.float64]]:
    """One outcome and the F1 and IoU of its images, n×2; what an attack cannot change is summarized once."""
    seed = plan.options.seed
    measurements = rows_of(log, chosen, run.images[chosen.name], method, attack, seed)
    rows = [one.row for one in measurements]
    settings = method.settings(attack, seed)
    table.add(chosen.name, attack.name, method.name, settings, rows)
    if settings in done:
        found = done[settings].model_copy(update={"attack": attack.name, "simulated": attack.simulated})
    else:
        found = outcome(measurements, chosen, method, attack, seed, resamples)
        done[settings] = found
    pairs = [(row.f1, row.iou) for row in rows if row.f1 is not None]
    return found, np.array(pairs, np.float64).reshape(-1, 2)


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


def _timing(timing: Timing) -> TimingRecord:
    return TimingRecord(
        wall_seconds=round(timing.wall, 3),
        network_seconds=round(timing.network, 3),
        share_outside_network=timing.outside,
        loading_seconds=round(timing.loading, 3),
        predictions=timing.pictures,
        seconds_by_step={step: round(seconds, 3) for step, seconds in timing.steps.items()},
    )


def _machine() -> dict[str, Scalar]:
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "cores": os.cpu_count(),
    }
