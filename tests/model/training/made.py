"""Samples that cost nothing, a preset that learns within seconds, and a task made of both."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.clue import CLUE
from model.data.calibration_pictures import CalibrationPictures, Label
from model.data.mix import Shape
from model.data.stream import Batch, TrainingSample
from model.preset import Preset
from model.reporter import SILENT, Level, Reporter
from model.score import OF_HEATMAP
from model.training.calibrate import Scored, look_at
from model.training.options import TrainingOptions, read_options
from model.training.run_folder import Row, read_log
from model.training.task import Task
from tests.tiny_model import TINY

QUICK: Preset = dataclasses.replace(
    TINY, name="quick", view=dataclasses.replace(TINY.view, matches=False), head=dataclasses.replace(TINY.head)
)


@dataclass
class Squares:
    """Grain with a brighter, finer square in two of three pictures.

    Attributes:
        damaged: per batch number, how many of its samples cannot be read.
        forged: whether any picture is.
    """

    seed: int = 0
    damaged: dict[int, int] = field(default_factory=dict)
    forged: bool = True
    sizes: tuple[tuple[int, int], ...] = ((64, 64),)

    @property
    def shapes(self) -> list[Shape]:
        return [Shape(*size) for size in self.sizes]

    def shape(self, index: int) -> Shape:
        return self.shapes[index % len(self.sizes)]

    def batch(self, index: int, count: int) -> Batch:
        rng, size = np.random.default_rng([self.seed, index]), self.sizes[index % len(self.sizes)]
        samples = []
        for number in range(count):
            pixels = rng.normal(100, 20, (*size, 3))
            mask = np.zeros(size, bool)
            top, left = rng.integers(0, 32, 2)
            if self.forged and number % 3 < 2:
                mask[top : top + 24, left : left + 24] = True
                pixels[mask] = rng.normal(180, 3, (int(mask.sum()), 3))
            samples.append(TrainingSample(pixels.clip(0, 255).astype(np.uint8), mask, "squares"))
        bad = self.damaged.get(index, 0)
        return Batch(samples[: max(0, count - bad)], [f"photo {index}.jpg: truncated"] * min(bad, 1))


@dataclass
class Labelled(CalibrationPictures):
    """Calibration pictures of grain, in pairs that differ in nothing but what is said of them."""

    problem: str = ""
    photos: int = 12

    def pictures(self, count: int) -> Iterator[tuple[Label, NDArray[np.uint8]]]:
        for index in range(0 if self.problem else count):
            grain = np.random.default_rng(index // 2).normal(128, 10, (64, 64 + index // 2 % 3, 3))
            yield Label(index // 2 % 2, index % 2 == 1), grain.clip(0, 255).astype(np.uint8)


def telling(
    model: CLUE, pictures: Iterable[tuple[Label, NDArray[np.uint8]]], stop: threading.Event, reporter: Reporter = SILENT
) -> Scored:
    """`look_at` with a network that knows: its features of forged pictures lie apart."""
    found = look_at(model, pictures, stop, reporter)
    grain = np.random.default_rng(0).normal(0, 1, (len(found.forged), len(OF_HEATMAP)))
    of_picture = found.features[:, len(OF_HEATMAP) :]
    return dataclasses.replace(found, features=np.hstack([grain + 2 * found.forged[:, None], of_picture]))


def options(**changes: Any) -> TrainingOptions:
    """Six steps on one thread."""
    quick: dict[str, Any] = {"batch": 3, "lr": 3e-3, "workers": 0, "device": "cpu", "validation_samples": 6}
    quick |= {"validate_every": 4, "save_every": 2}
    if "minutes" not in changes:
        quick["steps"] = 6
    return read_options(**(quick | changes))


def task(out: Path, preset: Preset = QUICK, **changes: Any) -> Task:
    """The default training of these tests; `changes` are of the options or of the task."""
    ours = {f.name for f in dataclasses.fields(Task)}
    parts: dict[str, Any] = {"out": out, "preset": preset, "training": Squares(1), "validation": Squares(2)}
    parts |= {key: value for key, value in changes.items() if key in ours}
    return Task(**({"options": options(**{k: v for k, v in changes.items() if k not in ours})} | parts))


class Stopper(Reporter):
    """Sets an event, or raises, after a step of the training."""

    def __init__(self, step: int, error: BaseException | None = None) -> None:
        self.step, self.error, self.stop = step, error, threading.Event()
        self.said: list[str] = []
        self.stages: list[str] = []
        self.at = 0

    def stage(self, title: str, unit: str, total: int | None = None, *, done: int = 0) -> None:
        self.stages.append(title)
        self.training, self.at = not title, done

    def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
        if not self.training:
            return
        self.at += n
        if n and self.at == self.step:
            self.stop.set()
            if self.error is not None:
                raise self.error

    def note(self, text: str, level: Level = "info") -> None:
        self.said.append(text)


def rows(folder: Path, kind: str) -> list[Row]:
    return [row for row in read_log(folder / "log.jsonl") if row["kind"] == kind]


def figures(folder: Path) -> list[Row]:
    """All rows about steps and validations, without the clock."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "waited")}
        for row in read_log(folder / "log.jsonl")
        if row["kind"] in ("step", "validation")
    ]


def weights(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "state.pt", weights_only=True)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
