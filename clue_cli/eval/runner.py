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
from dataclasses import replace
from typing import TYPE_CHECKING

from clue_cli.errors import DataProblemError
from clue_cli.eval.measurements import MeasurementLog, Unit
from clue_cli.eval.methods import Method
from clue_cli.eval.pictures import Pictures, Pixels
from clue_cli.eval.predictions import PredictionFolder
from clue_cli.eval.progress import EvalProgress
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.shot import Shot, measure_shot
from clue_cli.eval.timing import Timing
from clue_cli.scan.channel import Budget, Channel
from clue_cli.scan.threads import Threads
from model.calibration import Calibration
from model.data.attacks import Attack, AttackError
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import UnreadablePicture, digest, ground
from model.prediction import OutOfMemory, Prediction

if TYPE_CHECKING:  # diffusers and segment_anything take seconds to import; a resumed run may not need them
    from model.predictor import Predictor

PIXEL_BUDGET = 1200 * 1024 * 1024
"""Bytes of pictures and maps in memory at once."""
BYTES_PER_PIXEL = 32
"""Of one picture on its way: 3 of pixels, 4 of map, 8 of sorted values, 1 of truth, and what methods copy."""


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
        progress: EvalProgress,
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
        self.images: dict[str, dict[str, str]] = {chosen.name: {} for chosen in sets}
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
        self.progress.begin(sum(len(chosen.samples) for chosen in self.sets) * len(self.attacks))
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
                except UnreadablePicture as error:
                    image = f"unreadable: {entry.key!a}"
                    problem: Problem | None = Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error))
                else:
                    problem = None
            with self._lock:
                self.images[chosen.name][entry.key] = image
            missing = [(attack, self._missing(chosen, image, attack)) for attack in self.attacks]
            todo = [(attack, methods) for attack, methods in missing if methods]
            self.progress.done(len(missing) - len(todo), taken_over=True)
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
                except UnreadablePicture as error:
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
            self.progress.done()
