"""The flow of a measurement, on one page.

    images of a set ─ digest ─ known from before? ─┬─ yes: taken over
                                                    └─ no: decode ─ attack ─ network ─ figures ─ a line in the log

Reading, decoding and attacks are in threads before the network, figures in threads behind it; channels between them are
bounded, and so is what is in memory. The network runs in the caller's thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clue_cli.engine.channel import Budget, Channel
from clue_cli.engine.threads import Threads
from clue_cli.errors import DataProblemError
from clue_cli.eval import page
from clue_cli.eval.aggregate import Images, PerImageTable, conclude, now, outcomes_and_averages, rows_of
from clue_cli.eval.contact_sheet import contact_sheets
from clue_cli.eval.measurements import Measurement, MeasurementLog, Unit, pixel_curve
from clue_cli.eval.methods import SCORE_CELLS, Method
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.plan import Plan
from clue_cli.eval.plots import draw
from clue_cli.eval.predictions import PredictionFolder
from clue_cli.eval.results import LOG, RESULTS, Results, TimingRecord
from clue_cli.eval.results_folder import CONTACT, PAGE, PER_IMAGE, PLOTS, EvalFolder
from clue_cli.eval.sets import ChosenSet
from clue_cli.results.folder import output_errors
from model.calibration import Calibration, image_score
from model.data.attacks import Attack, AttackError
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import (
    Ground,
    ImageRow,
    digest,
    ground,
    inverted_set,
    measure,
)
from model.evaluation.bootstrap import RESAMPLES
from model.images.maps import Map, is_finite, to_size
from model.images.pixels import DamagedFileError, Pixels
from model.prediction import OutOfMemory, Prediction
from model.reporter import Reporter
from model.verdict import judge

if TYPE_CHECKING:  # diffusers and segment_anything take seconds to import; a resumed run may not need them
    from model.predictor import Predictor

PIXEL_BUDGET = 1200 * 1024 * 1024
"""Bytes of pictures and maps in memory at once."""
BYTES_PER_PIXEL = 32
"""Of one picture on its way: 3 of pixels, 4 of map, 8 of sorted values, 1 of truth, and what methods copy."""


@dataclass(slots=True)
class Timing:
    """Where the time of this run went. Threads overlap: the sums of several can exceed the wall clock.

    Attributes:
        wall: seconds from the first picture at the network to the last line in the log; loading the model is before.
        network: seconds of it in the network.
        pictures: predictions of the network in this run.
        steps: seconds of all threads by step.
    """

    wall: float = 0.0
    network: float = 0.0
    pictures: int = 0
    loading: float = 0.0
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "attack", "measure"), 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def outside(self) -> float | None:
        """Share of the wall clock in which the network did not run; None if it did not run at all."""
        return max(0.0, 1 - self.network / self.wall) if self.network and self.wall else None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a step; from any thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.steps[name] += time.perf_counter() - start

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


@dataclass(frozen=True, slots=True)
class Shot:
    """One image under one attack, and the methods that are still to be measured on it.

    Attributes:
        pixels: H×W×3 uint8, as stored, attacked; None if they could not be had.
        ground: header and ground truth, the same under every attack.
        native: height and width before the attack.
        problem: why there are no pixels.
    """

    chosen: ChosenSet
    entry: Sample
    image: str
    attack: Attack
    methods: tuple[Method, ...]
    pixels: Pixels | None
    ground: Ground
    native: tuple[int, int] = (0, 0)
    problem: Problem | None = None
    cost: int = 0


def measure_shot(
    shot: Shot,
    method: Method,
    prediction: Prediction[Shot] | None,
    pictures: Pictures,
    *,
    calibration: Calibration | None = None,
    folder: PredictionFolder | None = None,
) -> Measurement:
    """The figures of one method; what went wrong is named in their row, and never raised.

    Args:
        prediction: of the network; None if it did not run.
        pictures: reads the maps of `folder`.
        calibration: of the network; needed where it ran.
        folder: predictions for the shot's set; needed by the method that measures them.
    """
    if method.kind == "predictions":
        assert folder is not None
        found = _prediction(shot, folder, pictures)
    else:
        found = _figures(shot, method, prediction, calibration)
    return replace(found, inverted=shot.ground.inverted)


def _figures(
    shot: Shot, method: Method, prediction: Prediction[Shot] | None, calibration: Calibration | None
) -> Measurement:
    pixels = shot.pixels
    if method.kind == "probe":
        row = _row(shot, None)
        about = ImageRow(row.key, row.forged, row.manipulation, row.format, row.width, row.height)
        header = shot.ground.header
        return Measurement(about, signature=header.signature if header else "")
    if not method.sees_pixels:
        function = method.function
        if function is None or shot.native == (0, 0):
            return _failed(shot)
        return _scored(shot, function(np.broadcast_to(np.uint8(0), (*shot.native, 3))), shot.native)
    if pixels is None or (method.kind == "network" and prediction is None):
        return _failed(shot)
    if method.function is not None:
        return _scored(shot, method.function(pixels), pixels.shape[:2], curve=True)
    assert prediction is not None and calibration is not None
    heatmap = prediction.heatmap
    said: dict[str, Any] = {}
    with suppress(ValueError):  # not finite: `measure` says so
        finding = judge(pixels, heatmap, prediction.features, calibration)
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        covered = calibration.of(prediction.features).covers(megapixels)
        said = {
            "score": finding.score,
            "probability": calibration.p_forged(finding.score) if covered else None,
            "decided": finding.verdict == "forged",
        }
    return _with_curve(_row(shot, heatmap, seen=pixels.shape[:2], **said), shot, heatmap)


def _prediction(shot: Shot, folder: PredictionFolder, pictures: Pictures) -> Measurement:
    path, why = folder.find(shot.entry)
    if path is None:
        row = _row(shot, None)
        if why:
            row = _replaced(row, Problem(Kind.MAP_MISSING, shot.entry.key, why))
        return Measurement(row)
    try:
        values = pictures.map(path)
    except DamagedFileError as error:
        return Measurement(_replaced(_row(shot, None), Problem(Kind.MAP_UNREADABLE, shot.entry.key, str(error))))
    return _scored(shot, values, shot.native if shot.native != (0, 0) else None, curve=True)


def _row(shot: Shot, heatmap: Map | None, **said: Any) -> ImageRow:
    return measure(shot.entry, heatmap, known=shot.ground, **said)


def _scored(shot: Shot, values: Map, seen: tuple[int, int] | None, *, curve: bool = False) -> Measurement:
    """A map that comes without an image-level score: see `methods.SCORE_CELLS`."""
    said: dict[str, Any] = {}
    if values.ndim == 2 and values.size and is_finite(values):
        score = image_score(values, SCORE_CELLS)
        said = {"score": score, "decided": score > 0.5}
    row = _row(shot, values, seen=seen, **said)
    if any(problem.kind is Kind.MAP_OUT_OF_RANGE for problem in row.problems):
        row = replace(row, score=None, decided=None)
    return _with_curve(row, shot, values) if curve else Measurement(row)


def _with_curve(row: ImageRow, shot: Shot, heatmap: Map) -> Measurement:
    truth = shot.ground.truth
    if row.f1 is None or truth is None:
        return Measurement(row)
    return Measurement(row, pixel_curve(to_size(heatmap, *truth.shape), truth))


def _failed(shot: Shot) -> Measurement:
    """No map, because there were no pixels, or no memory for them."""
    problem = shot.problem or Problem(Kind.IMAGE_UNREADABLE, shot.entry.key)
    return Measurement(_replaced(_row(shot, None), problem), failed=True)


def _replaced(row: ImageRow, problem: Problem) -> ImageRow:
    """The row with this problem in place of "prediction missing" and of what else was said of the same kind."""
    others = [p for p in row.problems if p.kind not in (Kind.MAP_MISSING, problem.kind)]
    return replace(row, problems=(*others, problem))


class Run:
    """The threads of one measurement and what they share.

    Args:
        sets: what is measured on.
        methods: the methods of each set, by its name.
        attacks: one after the other on each picture.
        log: where figures go.
        load: loads the network; called when it is first needed.
        calibration: of the network.
        folders: predictions, by the set's name.

    Attributes:
        images: digests of the images of each set, by key; complete unless `stop` was set.
    """

    def __init__(
        self,
        sets: Sequence[ChosenSet],
        methods: dict[str, list[Method]],
        attacks: Sequence[Attack],
        log: MeasurementLog,
        progress: Reporter,
        stop: threading.Event,
        *,
        load: Callable[[], Predictor] | None = None,
        calibration: Calibration | None = None,
        folders: dict[str, PredictionFolder] | None = None,
        seed: int = 0,
        strict: bool = False,
        max_megapixels: float = 250.0,
    ) -> None:
        self.sets, self.methods, self.attacks, self.log = sets, methods, attacks, log
        self.progress, self.stop, self.load, self.calibration = progress, stop, load, calibration
        self.folders, self.seed, self.strict = folders or {}, seed, strict
        self.max_megapixels = max_megapixels
        self.images: Images = {chosen.name: {} for chosen in sets}
        self.timing = Timing()
        cores = os.cpu_count() or 1
        self.readers = self.measurers = max(1, min(4, cores // 2))
        self.shots: Channel[Shot] = Channel(4, self.readers)
        self.measured: Channel[tuple[Shot, Prediction[Shot] | None]] = Channel(4)
        self.budget = Budget(PIXEL_BUDGET)
        self.threads = Threads(self.shots, self.measured, self.budget)
        self._began = 0.0
        self._lock = threading.Lock()
        self._waiting = iter([(chosen, entry) for chosen in sets for entry in chosen.samples])

    def run(self) -> None:
        """Measure all that is missing.

        Raises:
            DataProblemError: strict, and there was a problem.
            ClueError: the network cannot be loaded.
            OSError: the log cannot be written.
        """
        self.progress.stage("", "images", sum(len(chosen.samples) for chosen in self.sets) * len(self.attacks))
        with Pictures(self.readers, self.max_megapixels) as pictures:
            for _ in range(self.readers):
                self.threads.start("clue-eval-read", lambda: self._read(pictures), self.shots)
            for _ in range(self.measurers):
                self.threads.start("clue-eval-measure", lambda: self._measure(pictures))
            with self.threads.guarded():
                self._predict()
                self.measured.close()
            if self.threads.errors:
                pictures.close()
            self.threads.join()
        if self._began:
            self.timing.wall = time.perf_counter() - self._began
        self.threads.raise_first()

    def _next(self) -> tuple[ChosenSet, Sample] | None:
        with self._lock:
            return None if self.stop.is_set() or self.threads.errors else next(self._waiting, None)

    def _read(self, pictures: Pictures) -> None:
        while (found := self._next()) is not None:
            chosen, entry = found
            with self.timing.step("read"):
                try:
                    image = digest([entry])
                except DamagedFileError as error:
                    image = f"unreadable: {entry.key!a}"
                    problem: Problem | None = Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error))
                else:
                    problem = None
            with self._lock:
                self.images[chosen.name][entry.key] = image
            missing = [(attack, self._missing(chosen, image, attack)) for attack in self.attacks]
            todo = [(attack, methods) for attack, methods in missing if methods]
            self.progress.advance(len(missing) - len(todo), reused=True)
            if todo:
                self._send(pictures, chosen, entry, image, todo, problem)

    def _missing(self, chosen: ChosenSet, image: str, attack: Attack) -> tuple[Method, ...]:
        """What is to be done under this attack; what an attack cannot change is done with the first one."""
        return tuple(
            method
            for method in self.methods[chosen.name]
            if (method.sees_pixels or attack is self.attacks[0])
            and not self.log.known(Unit(method.settings(attack, self.seed), chosen.name, image))
        )

    def _send(
        self,
        pictures: Pictures,
        chosen: ChosenSet,
        entry: Sample,
        image: str,
        todo: list[tuple[Attack, tuple[Method, ...]]],
        problem: Problem | None,
    ) -> None:
        pixels = None
        with self.timing.step("decode"):
            if problem is None:
                try:
                    pixels = pictures.pixels(entry)
                except DamagedFileError as error:
                    problem = Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error))
            known = ground(entry, pictures.truth, pictures.header)
        native = pixels.shape[:2] if pixels is not None else (0, 0)
        for attack, methods in todo:
            if self.stop.is_set():
                return
            largest = max(native[0] * native[1], 0 if known.truth is None else known.truth.size)
            shot = Shot(chosen, entry, image, attack, methods, None, known, native, problem, largest * BYTES_PER_PIXEL)
            self.budget.acquire(shot.cost)
            if pixels is not None:
                try:
                    with self.timing.step("attack"):
                        shot = replace(shot, pixels=attack.apply(pixels, self.seed))
                except AttackError as error:
                    unable = Problem(Kind.IMAGE_UNREADABLE, entry.key, f"{attack.name}: {error}")
                    shot = replace(shot, problem=unable)
                shot = self._grown(shot)
            self.shots.put(shot)

    def _grown(self, shot: Shot) -> Shot:
        """The shot with the memory that it needs if the attack has enlarged it."""
        cost = 0 if shot.pixels is None else shot.pixels.shape[0] * shot.pixels.shape[1] * BYTES_PER_PIXEL
        if cost <= shot.cost:
            return shot
        self.budget.release(shot.cost)  # who waits holds nothing, so that others go on
        self.budget.acquire(cost)
        return replace(shot, cost=cost)

    def _predict(self) -> None:
        """Run the network over the shots that ask for it, in the caller's thread; the others pass by."""
        shots = iter(self.shots)
        first = next(shots, None)
        if first is None:
            return
        predictor = None
        if self.load is not None:
            started = time.perf_counter()
            predictor = self.load()
            self.timing.loading = time.perf_counter() - started
        self._began = time.perf_counter()

        def images() -> Iterator[tuple[Shot, Pixels] | None]:
            shot: Shot | None = first
            while shot is not None:
                if self.stop.is_set():
                    self.budget.release(shot.cost)
                elif shot.pixels is None or all(method.kind != "network" for method in shot.methods):
                    self.measured.put((shot, None))
                else:
                    yield shot, shot.pixels
                if not self.shots.ready():
                    yield None  # the next may wait for the memory of this one
                shot = next(shots, None)

        if predictor is None:
            for _ in images():
                pass
            return
        for prediction in predictor.predict(images()):
            shot = prediction.key
            if isinstance(prediction, OutOfMemory):
                problem = Problem(Kind.IMAGE_UNREADABLE, shot.entry.key, f"out of memory: {prediction.message}")
                self.measured.put((replace(shot, problem=problem), None))
                continue
            self.timing.network += prediction.seconds
            self.timing.pictures += 1
            self.measured.put((shot, prediction))

    def _measure(self, pictures: Pictures) -> None:
        for shot, prediction in self.measured:
            with self.timing.step("measure"):
                for method in shot.methods:
                    folder = self.folders.get(shot.chosen.name)
                    measurement = measure_shot(
                        shot, method, prediction, pictures, calibration=self.calibration, folder=folder
                    )
                    if self.strict and measurement.row.problems:
                        raise DataProblemError(
                            f"{shot.chosen.name}, {method.name}: {measurement.row.problems[0]}.",
                            "Repair it, or leave --strict out: then it is named in the result.",
                        )
                    unit = Unit(method.settings(shot.attack, self.seed), shot.chosen.name, shot.image)
                    self.log.append(unit, shot.attack.name, method.name, measurement)
            self.budget.release(shot.cost)
            self.progress.advance()


def evaluate(out: Path, options: EvalOptions, progress: Reporter, stop: threading.Event | None = None) -> Results:
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
    plan, folder = Plan(out, options), EvalFolder(out)
    with folder.in_use(overwrite=options.overwrite):
        return _measure(plan, folder, progress, stop or threading.Event(), started)


def _measure(plan: Plan, folder: EvalFolder, progress: Reporter, stop: threading.Event, started: str) -> Results:
    if plan.network is not None and plan.network.checkpoint.note:
        progress.note(f"warning: {plan.network.checkpoint.note}", "warning")
    for chosen in plan.sets:
        forged = sum(entry.forged for entry in chosen.samples)
        progress.note(f"{chosen.name}: {forged} forged, {len(chosen.samples) - forged} authentic")
        _warn(plan, chosen, progress)
    with output_errors(folder.log), MeasurementLog(folder.log) as log:
        if unreadable := len(log.damaged) + log.torn:
            progress.note(f"warning: {unreadable} lines of {LOG} cannot be read; they are measured again")
        run = _run(plan, log, progress, stop)
        images = _complete(plan, log, run.images) if stop.is_set() else run.images
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
            sheets = contact_sheets(plan, log, images)
            folder.replace_pictures(CONTACT, {name: sheet.jpeg for name, sheet in sheets.items()})
    folder.replace_pictures(PLOTS, {plot.name: plot.svg.encode() for plot in plots})
    folder.write(PAGE, page.render(results, plots, list(sheets.values())).encode("utf-8", "backslashreplace"))
    folder.write(RESULTS, results.model_dump_json(indent=1).encode() + b"\n")
    return results


def _run(plan: Plan, log: MeasurementLog, progress: Reporter, stop: threading.Event) -> Run:
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


def _warn(plan: Plan, chosen: ChosenSet, progress: Reporter) -> None:
    """What listing the set has shown, its first ten, first of what is measured."""
    left_out = chosen.left_out
    found = sorted([*chosen.found.problems, *plan.extra[chosen.name]], key=lambda problem: problem.name in left_out)
    for problem in found[:10]:
        what = "warning, of an image that is not measured" if problem.name in left_out else "warning"
        progress.note(f"{what}: {problem}", "warning")
    if len(found) > 10:
        progress.note(f"warning: and {len(found) - 10} more, see {RESULTS}", "warning")


def _complete(plan: Plan, log: MeasurementLog, images: Images) -> Images:
    """The images that every method has measured under every attack: an interruption leaves some half done."""
    seed = plan.options.seed

    def done(name: str, image: str) -> bool:
        units = {Unit(m.settings(attack, seed), name, image) for m in plan.methods[name] for attack in plan.attacks}
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
