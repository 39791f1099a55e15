"""A whole measurement: from options to a results folder.

options ─ plan ─ run ─ figures and contact sheets ─ page and results
"""

from __future__ import annotations

import threading
from pathlib import Path

from clue_cli.eval import page
from clue_cli.eval.assemble import rows_of
from clue_cli.eval.conclude import conclude, now, outcomes_and_averages
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.per_image import PerImageTable
from clue_cli.eval.plan import Plan
from clue_cli.eval.plots import draw
from clue_cli.eval.progress import EvalProgress
from clue_cli.eval.results import LOG, RESULTS, Results
from clue_cli.eval.results_folder import CONTACT, PAGE, PER_IMAGE, PLOTS, ResultsFolder
from clue_cli.eval.runner import Run
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.sheets import contact_sheets
from clue_cli.scan.folder import output_errors
from model.evaluation import inverted_set
from model.evaluation.bootstrap import RESAMPLES


def evaluate(out: Path, options: EvalOptions, progress: EvalProgress, stop: threading.Event | None = None) -> Results:
    """Measure, and write the results folder.

    Args:
        stop: set to end early; what is finished stays in the log, and the same call goes on from there.

    Raises:
        UsageError: an attack, a device or a combination of options that cannot be.
        NothingToScanError: a set or the predictions are not there.
        WeightsError: the model is missing or damaged.
        OutputError: the results folder cannot be written, is in use, or holds something else.
        DataProblemError: strict, and there was a problem.
    """
    started = now()
    plan, folder = Plan(out, options), ResultsFolder(out)
    with folder.in_use(overwrite=options.overwrite):
        return _measure(plan, folder, progress, stop or threading.Event(), started)


def _measure(plan: Plan, folder: ResultsFolder, progress: EvalProgress, stop: threading.Event, started: str) -> Results:
    if plan.network is not None and plan.network.checkpoint.note:
        progress.say(f"warning: {plan.network.checkpoint.note}", style="yellow")
    for chosen in plan.sets:
        forged = sum(entry.forged for entry in chosen.samples)
        progress.say(f"{chosen.name}: {forged} forged, {len(chosen.samples) - forged} authentic")
        _warn(plan, chosen, progress)
    with output_errors(folder.log), MeasurementLog(folder.log) as log:
        if log.unreadable:
            progress.say(f"warning: {log.unreadable} lines of {LOG} cannot be read; they are measured again")
        run = _run(plan, log, progress, stop)
        for chosen in plan.sets:
            _look_for_inverted(plan, chosen, log, run, progress)
        with folder.create(PER_IMAGE) as stream:
            figures = outcomes_and_averages(plan, log, run, PerImageTable(stream), RESAMPLES)
        results = conclude(plan, run, figures, RESAMPLES, started=started, interrupted=stop.is_set())
        plots = draw(results)
        sheets = {}
        if not stop.is_set():
            sheets = contact_sheets(plan, log, run)
            folder.replace_pictures(CONTACT, {name: sheet.jpeg for name, sheet in sheets.items()})
    folder.replace_pictures(PLOTS, {plot.name: plot.svg.encode() for plot in plots})
    folder.write(PAGE, page.render(results, plots, list(sheets.values())).encode("utf-8", "backslashreplace"))
    folder.write(RESULTS, results.model_dump_json(indent=1).encode() + b"\n")
    return results


def _run(plan: Plan, log: MeasurementLog, progress: EvalProgress, stop: threading.Event) -> Run:
    """Measure all that is missing in the log."""
    network = plan.network
    run = Run(
        plan.sets,
        plan.methods,
        plan.attacks,
        log,
        progress,
        stop,
        load=None if network is None else lambda: network.predictor,
        calibration=None if network is None else network.checkpoint.calibration,
        folders=plan.folders,
        seed=plan.options.seed,
        strict=plan.options.strict,
        max_megapixels=plan.options.max_megapixels,
    )
    run.run()
    return run


def _warn(plan: Plan, chosen: ChosenSet, progress: EvalProgress) -> None:
    """What listing the set has shown, its first ten, first of what is measured."""
    left_out = chosen.left_out
    found = sorted([*chosen.found.problems, *plan.extra[chosen.name]], key=lambda problem: problem.name in left_out)
    for problem in found[:10]:
        what = "warning, of an image that is not measured" if problem.name in left_out else "warning"
        progress.say(f"{what}: {problem}", style="yellow")
    if len(found) > 10:
        progress.say(f"warning: and {len(found) - 10} more, see {RESULTS}", style="yellow")


def _look_for_inverted(plan: Plan, chosen: ChosenSet, log: MeasurementLog, run: Run, progress: EvalProgress) -> None:
    """Whether most of the ground truths that were measured look inverted."""
    method = plan.methods[chosen.name][0]
    found = rows_of(log, chosen, run.images[chosen.name], method, plan.attacks[0], plan.options.seed)
    upside_down = inverted_set(chosen.name, (one.inverted for one in found))
    if upside_down is not None and upside_down not in chosen.found.problems:
        plan.note(chosen, [upside_down])
        progress.say(f"warning: {upside_down}", style="yellow")
