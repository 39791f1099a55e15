"""What is done once the training is over: the kept models get their calibration."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, inspect
from model.data.made_pictures import MadePictures
from model.device import ran_out_of_memory
from model.reporter import Reporter
from model.storage import load, save
from model.training.calibrate import CalibrationLike, NoCalibrationError, calibration_of, look_at
from model.training.log import Row
from model.training.operating_point import (
    across_halves,
    chosen,
    look_at_made,
    rounded,
    scored_at,
    shifted,
)
from model.training.state import writing
from model.training.task import Task
from model.whole_file import write_text


def no_calibration(task: Task) -> str:
    """Why the score cannot be fitted, in words; empty: it can."""
    if task.calibration is None:
        return "there are no pictures to fit it on"
    return task.calibration.problem if task.options.calibration_samples else "--calibration-samples is 0"


def calibrate_kept(
    folders: Sequence[Path], task: Task, device: str, reporter: Reporter, stop: threading.Event
) -> Row | None:
    """Fit the score of kept models that are one, and store it beside each; or why there is none.

    Args:
        folders: of the models. One that is not there any more is passed over.
        task: what was trained.
        device: where the network runs.
        reporter: receives notes.
        stop: once set, it is given up.

    Returns:
        What the log says of it; None: it was given up.

    Raises:
        CannotWriteError: the calibration cannot be stored; the models are as they were.
        CheckpointError: a model is damaged.
    """
    kept = [folder for folder in folders if (folder / CONFIG_FILE).is_file()]
    calibration, problem, more = None, no_calibration(task), Row()
    if kept and task.calibration is not None and not problem:
        reporter.note(f"Fitting the score of {' and '.join(folder.name for folder in kept)}.")
        try:
            if isinstance(task.calibration, MadePictures):
                calibration, more = operated(kept, task.calibration, task, device, stop)
            else:
                calibration = calibrated(kept[0], task.calibration, task.options.calibration_samples, device, stop)
        except NoCalibrationError as error:
            problem = str(error)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            problem = "there was no memory for it"
        if stop.is_set():
            return None
    if problem and problem != no_calibration(task):  # that was known, and said, at the beginning
        reporter.note(f"No confidence: {problem}.")
    for folder in kept:
        with writing(folder):
            finish(folder, calibration, problem)
    row: Row = {"models": [folder.name for folder in kept]} | more
    return row | ({"problem": problem} if calibration is None else calibration.figures or {})


def calibrated(
    folder: Path, pictures: CalibrationLike, count: int, device: str, stop: threading.Event
) -> Calibration | None:
    """The calibration of a kept model, as it lies on the disk, rounded weights and all.

    Args:
        folder: of the model.
        pictures: to fit and to measure on.
        count: how many, at most.
        device: where the network runs.
        stop: once set, it is given up.

    Returns:
        None: it was given up.

    Raises:
        NoCalibrationError: the pictures give none.
        CheckpointError: the model is damaged.
    """
    if pictures.problem:
        raise NoCalibrationError(pictures.problem)
    model = load(inspect(str(folder)), device, torch.float32)
    scored = look_at(model, pictures.pictures(count), stop)
    if stop.is_set():
        return None
    calibration = calibration_of(
        scored, "held-out-photos-of-the-mix", "pictures from photos that were neither trained nor validated on"
    )
    return replace(calibration, figures=(calibration.figures or {}) | {"photos": float(pictures.photos)})


def operated(
    folders: Sequence[Path], pictures: MadePictures, task: Task, device: str, stop: threading.Event
) -> tuple[Calibration | None, Row]:
    """Give kept models that are one their operating point, and find their calibration there.

    A model that has an operating point from before, because the training was stopped here, gets a new one in its place.

    Returns:
        The calibration, None: it was given up; and what the log says of the operating point.

    Raises:
        NoCalibrationError: the pictures give no calibration; the models may have their operating point.
        CannotWriteError: a model cannot be stored; it is as it was.
    """
    recipe = task.options.finish
    assert recipe is not None
    scale = min(1.0, task.options.calibration_samples / max(1, sum(recipe.counts.values())))
    counts = {str(group): round(count * scale) for group, count in recipe.counts.items()}
    checkpoint = inspect(str(folders[0]))
    model = load(checkpoint, device, torch.float32)
    shifted(model, -float(checkpoint.training.get("logit_shift", 0.0)), task.preset.regions)
    looked = look_at_made(model, pictures.made(recipe.seed, counts, 0), stop)
    if stop.is_set():
        return None, {}
    shift, regions, pixels = chosen(looked, recipe, task.preset.regions, task.preset.edges)
    shifted(model, shift, regions)
    for folder in folders:
        training = inspect(str(folder)).training | {"logit_shift": shift}
        with writing(folder):
            save(folder, model, Calibration(), training, as_one=True)
    scored, groups = scored_at(looked, shift)
    calibration = calibration_of(
        scored,
        "held-out-photos-of-the-mix",
        "untouched and made pictures from photos that were neither trained nor validated on",
    )
    row: Row = {"logit_shift": shift, "regions": asdict(regions), "pixels": rounded(pixels)}
    row["across_halves"] = across_halves(scored, groups)
    figures = (calibration.figures or {}) | {"photos": float(pictures.photos)}
    return replace(calibration, figures=figures), row


def finish(folder: Path, calibration: Calibration | None = None, problem: str = "") -> None:
    """Store the calibration of a model beside its weights.

    Args:
        folder: of a model, as `model.storage.save` writes it.
        calibration: fitted on pictures that were neither trained nor tested on; None: the defaults, which give no
            confidence.
        problem: why there is none, in words; it is part of what the model says of its training.

    Raises:
        OSError: the folder cannot be written; the model is as it was.
    """
    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    config["calibration"] = (calibration or Calibration()).to_dict()
    config["training"].pop("no_confidence", None)
    if calibration is None and problem:
        config["training"]["no_confidence"] = problem
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / CONFIG_FILE, text)
