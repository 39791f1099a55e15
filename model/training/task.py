"""What is to be trained, where a training is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.data.calibration_pictures import CalibrationPictures
from model.data.made_pictures import MadePictures
from model.preset import Preset
from model.training.feed import StreamLike
from model.training.options import TrainingOptions
from model.training.schedule import LossWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be trained, on what, and where to.

    Attributes:
        out: the run folder.
        preset: of the network, before the options.
        options: of the training.
        training, validation: two sides of the data, no source photo in both.
        calibration: pictures of a third side, to fit the score and its confidence on; None: no confidence.
        data: what identifies the data, in JSON types; a training resumes with the same data only.
        init: a model whose weights are the first ones.
        texts: of the training's samples, for queries.
    """

    out: Path
    preset: Preset
    options: TrainingOptions
    training: StreamLike
    validation: StreamLike
    calibration: CalibrationPictures | MadePictures | None = None
    data: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class Position:
    """Where a training is: with weights, average and optimizer, all that its next step depends on."""

    weights: LossWeights
    step: int = 0
    seconds: float = 0.0
    best_f1: float = -1.0
    best_step: int = -1
    validated_at: int = -1
    damaged: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: steps done.
        best_f1: of the model in `best/`; -1: none was validated yet.
        interrupted: it was stopped; the same command resumes it.
        damaged: pictures that were skipped.
    """

    step: int
    best_f1: float
    interrupted: bool
    damaged: int
