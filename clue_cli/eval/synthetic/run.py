"""A measurement of whole-picture detection: `clue_cli.eval.run` with another ground truth and other figures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from clue_cli.eval.aggregate import PerImageTable, now
from clue_cli.eval.measurements import Measurement, MeasurementLog
from clue_cli.eval.methods import Method, Shot
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.results import CARD, LOG, PAGE, PER_IMAGE, PLOTS, RESULTS, EvalFolder, check_task
from clue_cli.eval.run import Run, complete, warn_of
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.synthetic.aggregate import COLUMNS, conclude, outcomes_of
from clue_cli.eval.synthetic.plan import SyntheticPlan, measure
from clue_cli.eval.synthetic.results import SyntheticResults, figures_of
from clue_cli.eval.synthetic.show import draw, page
from clue_cli.eval.table import by_kind
from clue_cli.evidence.reader import sha256_file
from clue_cli.results.folder import output_errors
from clue_cli.terminal import printable
from model.datasets.generated import class_of
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import Ground, digest, ground
from model.evaluation.bootstrap import RESAMPLES
from model.predictor import Prediction
from model.reporter import Reporter
from model.synthetic.card import card


class SyntheticRun(Run):
    """What is missing in the log of one measurement, and how it is measured; arguments as of `Run`."""

    plan: SyntheticPlan

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._same: dict[str, dict[str, list[Sample]]] = {chosen.name: {} for chosen in self.plan.sets}

    def _shots(self, found: tuple[ChosenSet, Sample]) -> Iterator[Shot]:
        chosen, entry = found
        with suppress(OSError):  # measuring says so
            content = sha256_file(entry.image)
            with self._lock:
                self._same[chosen.name].setdefault(content, []).append(entry)
        yield from super()._shots(found)

    def repeated(self, chosen: ChosenSet) -> list[Problem]:
        """Pictures of which an earlier one, by key, has the same bytes."""
        problems = []
        for entries in self._same[chosen.name].values():
            first, *others = sorted(entries, key=lambda entry: entry.key)
            for entry in others:
                of_two = {class_of(entry), class_of(first)}
                kind = Kind.SAME_TWICE if len(of_two) == 1 else Kind.SAME_IN_TWO_CLASSES
                problems.append(Problem(kind, entry.key, f"{class_of(entry)}; {first.key} is {class_of(first)}"))
        return sorted(problems, key=lambda problem: problem.name)

    def _digest(self, entry: Sample) -> str:
        """With class and generator, which a list may change."""
        about = f"{digest([entry])} {class_of(entry)} {entry.part!a}"
        return hashlib.sha256(about.encode()).hexdigest()

    def _ground(self, entry: Sample) -> Ground:
        """The header alone: there is no mask to miss."""
        return ground(replace(entry, forged=False), read_head=self.pictures.header)

    def _measurement(self, shot: Shot, method: Method, prediction: Prediction[Shot] | None) -> Measurement:
        return measure(shot, method, self.plan)


def evaluate_synthetic(
    out: Path, options: EvalOptions, progress: Reporter, stop: threading.Event | None = None
) -> SyntheticResults:
    """Measure, and write the results folder; arguments and errors as of `clue_cli.eval.run.evaluate`.

    Raises:
        MethodError: a method is missing or damaged.
    """
    started = now()
    plan, folder = SyntheticPlan(out, options), EvalFolder(out)
    with folder.in_use(overwrite=options.overwrite):
        check_task(out, "synthetic")
        return _measure(plan, folder, progress, stop or threading.Event(), started)


def _measure(
    plan: SyntheticPlan, folder: EvalFolder, progress: Reporter, stop: threading.Event, started: str
) -> SyntheticResults:
    def warn(text: str) -> None:
        progress.note(f"warning: {text}", "warning")

    for chosen in plan.sets:
        classes = [class_of(entry) for entry in chosen.samples]
        words = [f"{classes.count(label)} {label}" for label in ("real", "generated", "laundered") if label in classes]
        progress.note(f"{chosen.name}: {', '.join(words)}")
        warn_of(plan, chosen, progress)
    for name, detector in plan.detectors.items():
        if not detector.method.calibration.fitted:
            warn(f"{name} is not calibrated: it has no verdicts, and no accuracy at a threshold of its own")
    with output_errors(folder.log), MeasurementLog(folder.log) as log:
        if unreadable := log.damaged + log.torn:
            warn(f"{unreadable} lines of {LOG} cannot be read; they are measured again")
        run = SyntheticRun(plan, log, progress, stop, [], warn)
        run.run()
        for chosen in plan.sets:
            repeated = run.repeated(chosen)
            plan.note(chosen, repeated)
            for line in by_kind(chosen.name, {(problem.kind, printable(problem.name)) for problem in repeated}):
                warn(line)
        images = complete(plan, log, run.images) if stop.is_set() else run.images
        with folder.create(PER_IMAGE) as stream:
            figures = outcomes_of(plan, log, images, PerImageTable(stream, COLUMNS), RESAMPLES)
    results = conclude(
        plan, images, figures, RESAMPLES, started=started, interrupted=stop.is_set(), timing=run.timing.record()
    )
    plots = draw(results)
    folder.replace_pictures(PLOTS, {plot.name: plot.svg.encode() for plot in plots})
    folder.write(PAGE, page(results, plots).encode("utf-8", "backslashreplace"))
    _write_cards(plan, folder, results)
    folder.write(RESULTS, results.model_dump_json(indent=1).encode() + b"\n")
    return results


def _write_cards(plan: SyntheticPlan, folder: EvalFolder, results: SyntheticResults) -> None:
    """The card of every method that has a folder, with what was measured of it; without one, none of an earlier run."""
    cards = [
        card(detector.method, figures_of(results, name))
        for name, detector in plan.detectors.items()
        if detector.method.folder is not None
    ]
    if cards:
        folder.write(CARD, "\n".join(cards).encode("utf-8", "backslashreplace"))
    else:
        folder.remove(CARD)
