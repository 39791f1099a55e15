"""A measurement: from the images of sets to a results folder, through the flow of `engine`.

images of a set ─ digest ─ known from before? ─┬─ yes: taken over
                                                └─ no: decode ─ attack ─ network ─ figures ─ a line in the log
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from clue_cli.engine import Answer, Flow
from clue_cli.errors import DataProblemError
from clue_cli.eval import page
from clue_cli.eval.aggregate import Images, PerImageTable, conclude, now, outcomes_and_averages, rows_of
from clue_cli.eval.measurements import Measurement, MeasurementLog, Unit
from clue_cli.eval.methods import Method, Shot, measure_shot
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.page import contact_sheets
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.plan import Plan
from clue_cli.eval.plots import draw
from clue_cli.eval.results import (
    CONTACT,
    LOG,
    PAGE,
    PER_IMAGE,
    PLOTS,
    RESULTS,
    EvalFolder,
    Results,
    TimingRecord,
    check_task,
)
from clue_cli.eval.sets import ChosenSet
from clue_cli.networks import Engine, Network
from clue_cli.results.folder import output_errors
from model.data.attacks import Attack, AttackError
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import digest, ground, inverted_set
from model.evaluation.bootstrap import RESAMPLES
from model.evaluation.ground import Ground, MadeSample
from model.images.pixels import DamagedFileError, Pixels
from model.predictor import OutOfMemory, Prediction
from model.reporter import Reporter

BYTES_PER_PIXEL = 32
"""Of one picture while it is measured: 3 of pixels, 4 of map, 8 of sorted values, 1 of truth, and what methods copy."""


@dataclass(slots=True)
class Timing:
    """Where the time of this run went. Threads overlap: the sums of several can exceed the wall clock.

    Attributes:
        wall: seconds from the first picture that is decoded to the last line in the log, loading the model left out.
        network: seconds of it in the network, of all devices together.
        devices: how many networks ran at once; None: an unknown number, on a cluster.
        pictures: predictions of the network in this run.
        loading: seconds that loading the model took.
        steps: seconds of all threads by step.
    """

    wall: float = 0.0
    network: float = 0.0
    devices: int | None = 1
    pictures: int = 0
    loading: float = 0.0
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "attack", "measure"), 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def outside(self) -> float | None:
        """Share of the wall clock in which the network did not run; None if it did not run, or on a cluster."""
        if not (self.network and self.wall and self.devices):
            return None
        return max(0.0, 1 - self.network / (self.wall * self.devices))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a step; from any thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.steps[name] += time.perf_counter() - start

    def predicted(self, seconds: float) -> None:
        """Add a prediction; from any thread."""
        with self._lock:
            self.network += seconds
            self.pictures += 1

    def record(self) -> TimingRecord:
        """For `results.json`."""
        return TimingRecord(
            wall_seconds=round(self.wall, 3),
            network_seconds=round(self.network, 3),
            share_outside_network=self.outside,
            loading_seconds=round(self.loading, 3),
            predictions=self.pictures,
            seconds_by_step={step: round(seconds, 3) for step, seconds in self.steps.items()},
        )


class Run:
    """What is missing in the log of one measurement, and how it is measured: source, decoding and sink of its flow.

    Args:
        plan: what is measured.
        log: where figures go.
        stop: set to end early.
        networks: one for each device; none if the network is not measured.
        warn: called with a sentence about the run as a whole.

    Attributes:
        images: digests of the images of each set, by key; complete unless `stop` was set.
        timing: of this run.
    """

    def __init__(
        self,
        plan: Plan,
        log: MeasurementLog,
        progress: Reporter,
        stop: threading.Event,
        networks: list[Network],
        warn: Callable[[str], None],
    ) -> None:
        self.plan, self.log, self.progress, self.stop, self.networks = plan, log, progress, stop, networks
        self.seed = plan.options.seed
        self.calibration = None if plan.network is None else plan.network.checkpoint.calibration
        self.images: Images = {chosen.name: {} for chosen in plan.sets}
        self.timing = Timing(devices=None if plan.options.engine is Engine.RAY else max(1, len(networks)))
        self.flow = Flow(networks, self._entries, self._shots, self._measure, warn, stop=stop)
        self.pictures = Pictures(self.flow.decoders, plan.options.max_megapixels)
        self._began: float | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Measure all that is missing.

        Raises:
            DataProblemError: strict, and there was a problem.
            ClueError: the network cannot be loaded, or no device is left.
            OSError: the log cannot be written.
        """
        total = sum(len(chosen.samples) * len(self.plan.attacks_on(chosen.name)) for chosen in self.plan.sets)
        self.progress.stage("", "images", total)
        self.flow.run(self.pictures)
        self.timing.loading = max((network.loading for network in self.networks), default=0.0)
        if self._began is not None:
            self.timing.wall = time.perf_counter() - self._began - self.timing.loading

    def _entries(self) -> Iterator[tuple[ChosenSet, Sample]]:
        return ((chosen, entry) for chosen in self.plan.sets for entry in chosen.samples)

    def _shots(self, found: tuple[ChosenSet, Sample]) -> Iterator[Shot]:
        """An image under each attack under which something is to be measured on it."""
        chosen, entry = found
        problem: Problem | None = None
        with self.timing.step("read"):
            try:
                image = self._digest(entry)
            except DamagedFileError as error:
                image = f"unreadable: {entry.key!a}"
                problem = Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error))
        with self._lock:
            self.images[chosen.name][entry.key] = image
        missing = [(attack, self._missing(chosen, image, attack)) for attack in self.plan.attacks_on(chosen.name)]
        todo = [(attack, methods) for attack, methods in missing if methods]
        self.progress.advance(len(missing) - len(todo), reused=True)
        if not todo:
            return
        pixels, known = None, Ground(None)
        with self.timing.step("decode"):
            try:
                if isinstance(entry, MadeSample):
                    entry, pixels, known = entry.make()
                elif problem is None:
                    pixels = self.pictures.pixels(entry)
            except DamagedFileError as error:
                problem = Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error))
            if not isinstance(found[1], MadeSample):
                known = self._ground(entry)
        self._began = self._began or time.perf_counter()
        native = pixels.shape[:2] if pixels is not None else (0, 0)
        for attack, methods in todo:
            if self.stop.is_set():
                return
            largest = max(native[0] * native[1], 0 if known.truth is None else known.truth.size)
            shot = Shot(chosen, entry, image, attack, methods, None, known, native, problem, largest * BYTES_PER_PIXEL)
            self.flow.budget.acquire(shot.cost)
            yield shot if pixels is None else self._attacked(shot, pixels)

    def _digest(self, entry: Sample) -> str:
        """Of all that a line in the log says of an image; raises DamagedFileError if it cannot be read."""
        return digest([entry])

    def _ground(self, entry: Sample) -> Ground:
        return ground(entry, self.pictures.truth, self.pictures.header)

    def _measurement(self, shot: Shot, method: Method, prediction: Prediction[Shot] | None) -> Measurement:
        folder = self.plan.folders.get(shot.chosen.name)
        return measure_shot(shot, method, prediction, self.pictures, calibration=self.calibration, folder=folder)

    def _missing(self, chosen: ChosenSet, image: str, attack: Attack) -> tuple[Method, ...]:
        """What is to be done under this attack; what an attack cannot change is done with the first one."""
        return tuple(
            method
            for method in self.plan.methods[chosen.name]
            if (method.sees_pixels or attack is self.plan.attacks[0])
            and not self.log.known(Unit(method.settings(attack, self.seed), chosen.name, image))
        )

    def _attacked(self, shot: Shot, pixels: Pixels) -> Shot:
        """The shot with its pixels, and the memory that it needs if the attack has enlarged them."""
        try:
            with self.timing.step("attack"):
                pixels = shot.attack.apply(pixels, self.seed)
        except AttackError as error:
            unable = Problem(Kind.IMAGE_UNREADABLE, shot.entry.key, f"{shot.attack.name}: {error}")
            return replace(shot, problem=unable)
        cost = max(shot.cost, pixels.shape[0] * pixels.shape[1] * BYTES_PER_PIXEL)
        if cost > shot.cost:
            self.flow.budget.release(shot.cost)  # who waits holds nothing, so that others go on
            self.flow.budget.acquire(cost)
        return replace(shot, pixels=pixels, cost=cost)

    def _measure(self, shot: Shot, answer: Answer[Shot] | None, device: str) -> None:
        prediction = None
        if isinstance(answer, Prediction):
            prediction = answer
            self.timing.predicted(answer.seconds)
        elif answer is not None:
            message = f"out of memory: {answer.message}" if isinstance(answer, OutOfMemory) else answer.message
            shot = replace(shot, problem=Problem(Kind.IMAGE_UNREADABLE, shot.entry.key, message))
        with self.timing.step("measure"):
            for method in shot.methods:
                measurement = self._measurement(shot, method, prediction)
                if self.plan.options.strict and measurement.row.problems:
                    raise DataProblemError(
                        f"{shot.chosen.name}, {method.name}: {measurement.row.problems[0]}.",
                        "Repair it, or leave --strict out: then it is named in the result.",
                    )
                unit = Unit(method.settings(shot.attack, self.seed), shot.chosen.name, shot.image)
                self.log.append(unit, shot.attack.name, method.name, measurement)
        self.progress.advance()


def evaluate(out: Path, options: EvalOptions, progress: Reporter, stop: threading.Event | None = None) -> Results:
    """Measure, and write the results folder.

    Args:
        stop: set to end early; what is finished stays in the log, and the same call continues from there.

    Raises:
        UsageError: an attack, a device or a combination of options that cannot be.
        NothingToScanError: a set or the predictions are not there.
        WeightsError: the model is missing or damaged.
        OutputError: the results folder cannot be written, is in use, or holds something else.
        DataProblemError: strict, and there was a problem.
    """
    started = now()
    plan, folder = Plan(out, options), EvalFolder(out)
    with folder.in_use(overwrite=options.overwrite):
        check_task(out, "localization")
        return _measure(plan, folder, progress, stop or threading.Event(), started)


def _measure(plan: Plan, folder: EvalFolder, progress: Reporter, stop: threading.Event, started: str) -> Results:
    def warn(text: str) -> None:
        progress.note(f"warning: {text}", "warning")

    networks: AbstractContextManager[list[Network]] = nullcontext([])
    if plan.network is not None:
        networks = plan.network.networks(warn)
        if plan.network.checkpoint.note:
            warn(plan.network.checkpoint.note)
    for chosen in plan.sets:
        forged = sum(entry.forged for entry in chosen.samples)
        progress.note(f"{chosen.name}: {forged} forged, {len(chosen.samples) - forged} authentic")
        warn_of(plan, chosen, progress)
    with output_errors(folder.log), MeasurementLog(folder.log) as log, networks as running:
        if unreadable := log.damaged + log.torn:
            warn(f"{unreadable} lines of {LOG} cannot be read; they are measured again")
        run = Run(plan, log, progress, stop, running, warn)
        run.run()
        images = complete(plan, log, run.images) if stop.is_set() else run.images
        for chosen in plan.sets:
            _look_for_inverted(plan, chosen, log, images[chosen.name], progress)
        with folder.create(PER_IMAGE) as stream:
            figures = outcomes_and_averages(plan, log, images, PerImageTable(stream), RESAMPLES)
        results = conclude(
            plan, images, figures, RESAMPLES, started=started, interrupted=stop.is_set(), timing=run.timing.record()
        )
        plots = draw(results)
        sheets = {}
        if not stop.is_set():
            sheets = contact_sheets(plan, log, images, running)
            folder.replace_pictures(CONTACT, {name: sheet.jpeg for name, sheet in sheets.items()})
    folder.replace_pictures(PLOTS, {plot.name: plot.svg.encode() for plot in plots})
    folder.write(PAGE, page.render(results, plots, list(sheets.values())).encode("utf-8", "backslashreplace"))
    folder.write(RESULTS, results.model_dump_json(indent=1).encode() + b"\n")
    return results


def warn_of(plan: Plan, chosen: ChosenSet, progress: Reporter) -> None:
    """Say what listing the set has shown, its first ten, first of what is measured."""
    left_out = chosen.left_out
    found = sorted([*chosen.found.problems, *plan.extra[chosen.name]], key=lambda problem: problem.name in left_out)
    for problem in found[:10]:
        what = "warning, of an image that is not measured" if problem.name in left_out else "warning"
        progress.note(f"{what}: {problem}", "warning")
    if len(found) > 10:
        progress.note(f"warning: and {len(found) - 10} more, see {RESULTS}", "warning")


def complete(plan: Plan, log: MeasurementLog, images: Images) -> Images:
    """The images that every method has measured under every attack: an interruption leaves some half done."""
    seed = plan.options.seed

    def done(name: str, image: str) -> bool:
        units = {
            Unit(m.settings(attack, seed), name, image) for m in plan.methods[name] for attack in plan.attacks_on(name)
        }
        return len(units) == sum(1 for _ in log.read(units))

    return {name: {key: image for key, image in of.items() if done(name, image)} for name, of in images.items()}


def _look_for_inverted(
    plan: Plan, chosen: ChosenSet, log: MeasurementLog, images: dict[str, str], progress: Reporter
) -> None:
    """Whether most of the ground truths that were measured look inverted."""
    method = plan.methods[chosen.name][0]
    found = rows_of(log, chosen, images, method, plan.attacks[0], plan.options.seed)
    upside_down = inverted_set(chosen.name, (one.inverted for one in found))
    if upside_down is not None and upside_down not in chosen.found.problems:
        plan.note(chosen, [upside_down])
        progress.note(f"warning: {upside_down}", "warning")
