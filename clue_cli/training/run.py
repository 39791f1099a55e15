"""Runs a training: reads the mix and the preset, sets up data and progress, and starts the loop."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clue_cli.terminal import counted
from model.reporter import SILENT, Reporter
from model.training.errors import OptionsError

if TYPE_CHECKING:
    from model.data.calibration_pictures import CalibrationPictures
    from model.data.made import MadeStream
    from model.data.made_pictures import MadePictures
    from model.data.mix import Mix
    from model.data.stream import Stream
    from model.preset import Preset
    from model.training.options import TrainingOptions
    from model.training.task import Outcome


def execute(
    data: Path,
    out: Path,
    preset: str,
    init: str | None,
    options: TrainingOptions,
    *,
    reporter: Reporter,
    stop: threading.Event,
) -> Outcome:
    """Train, or resume.

    Args:
        data: the mix.
        out: the runs folder.
        preset: a name, or a file.
        init: a model to take the initial weights from.
        options: training options.
        reporter: receives the events.
        stop: once set, the training saves and ends.

    Raises:
        TrainingError, ConfigError, CheckpointError, BasesError: the training cannot start or go on.
    """
    # Heavy: only here, so that `clue --help` answers at once.
    from model.training.task import Task
    from model.training.trainer import train

    mix, network = read(data, preset, out, options)
    if not first_process():
        reporter = SILENT
    reporter.note("Reading the data.")
    training, validation = (stream_of(mix, side, options, out / "pool") for side in ("train", "validation"))
    wanted = options.calibration_samples > 0 and first_process()
    calibration = calibration_pictures(mix, options) if wanted else None
    # Both splits list all files, so most problems appear in both
    problems = len({*training.problems, *validation.problems})
    if problems:
        some = counted(problems, "problem")
        reporter.note(f"Some of the data is left out ({some}); --dry-run shows which.", "warning")
    for name in training.absent:
        reporter.note(f"{name} has no image to train on; the other sources take its share.", "warning")
    for line in training.empty_masks() if reporter is not SILENT else []:
        reporter.note(f"{line} (empty_masks).", "warning")
    task = Task(
        out=out,
        preset=network,
        options=options,
        training=training,
        validation=validation,
        calibration=calibration,
        data={"mix": mix.digest, "training": training.digest(), "validation": validation.digest()},
        init=init,
    )
    return train(task, reporter, stop)


def stream_of(
    mix: Mix, side: Literal["train", "validation"], options: TrainingOptions, pool: Path | None = None
) -> Stream | MadeStream:
    """The samples of one side: those that the mix describes, or those that the recipe makes of it.

    Args:
        pool: folder for made pictures; None: they are kept in memory.
    """
    from model.data.made import MadeStream
    from model.data.stream import Stream

    if options.made is None:
        return Stream(mix, side, options.seed)
    return MadeStream(mix, side, options.seed, options.made, options.batch, pool)


def calibration_pictures(mix: Mix, options: TrainingOptions) -> CalibrationPictures | MadePictures:
    """The pictures that the score is fitted on in the end.

    Raises:
        ConfigError: the recipe makes them, and there are no photos for them.
    """
    from model.data.calibration_pictures import CalibrationPictures
    from model.data.made_pictures import MadePictures
    from model.data.materials import materials_of

    if options.finish is None or options.made is None:
        return CalibrationPictures(mix, options.seed)
    return MadePictures(materials_of(mix, "calibration", options.made.large_side))


def read(data: Path, preset: str, out: Path, options: TrainingOptions) -> tuple[Mix, Preset]:
    """The mix and the preset, checked against each other and against the output folder.

    Raises:
        ConfigError: one of them is wrong.
        OptionsError: they do not fit, or `out` lies in a folder of the mix.
    """
    from model.data.mix import Shape, load_mix
    from model.presets import preset_of

    mix, network = load_mix(data), preset_of(preset)
    for source, folder in mix.folders():
        if out.resolve().is_relative_to(folder.resolve()):
            raise OptionsError(
                f"--out {out} lies in the data folder {folder}, so training would read its own output: {source.where}.",
                "Name a folder outside the data.",
            )
    multiple = network.tile.multiple
    made = options.made.sizes if options.made is not None else None
    for number, shape in enumerate(mix.shapes if made is None else [Shape(*size) for size in made]):
        if shape.height % multiple or shape.width % multiple:
            where = mix.where("shapes", number) if made is None else "The recipe"
            raise OptionsError(
                f"{where}: the shape {shape.height}×{shape.width} does not fit the preset {network.name}.",
                f"Its sides must be multiples of {multiple} pixels.",
            )
    return mix, network


def first_process() -> bool:
    """Whether this process prints messages."""
    return os.environ.get("RANK", "0") == "0"  # set by `accelerate launch`
