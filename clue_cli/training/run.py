"""A training from a mix: the data, the preset, who is told, and the loop."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from clue_cli.terminal import PatientStderr, printable, say
from model.training.errors import OptionsError
from model.training.options import TrainingOptions

if TYPE_CHECKING:
    from model.data.mix import Mix
    from model.presets import Preset
    from model.training.log import Listener
    from model.training.task import Outcome


def execute(
    data: Path,
    out: Path,
    preset: str,
    init: str | None,
    options: TrainingOptions,
    *,
    quiet: bool,
    stop: threading.Event,
) -> Outcome:
    """Train, or go on.

    Args:
        data: the mix.
        out: the runs folder.
        preset: a name, or a file.
        init: a model whose weights are the first ones.
        options: of the training.
        quiet: say nothing.
        stop: once set, the training saves and ends.

    Raises:
        What `clue_cli.training.told` turns into what a person is told.
    """
    # Heavy: only here, so that `clue --help` answers at once.
    from model.data.calibration_pictures import CalibrationPictures
    from model.data.stream import Stream
    from model.training.log import Silent
    from model.training.progress import Display
    from model.training.task import Task
    from model.training.trainer import train

    mix, network = read(data, preset, out)
    listener: Listener = Silent() if quiet else Display(PatientStderr(), printable)
    if first_process() and not quiet:
        say("Reading the data.")
    training, validation = Stream(mix, "train", options.seed), Stream(mix, "validation", options.seed)
    wanted = options.calibration_samples > 0 and first_process()
    calibration = CalibrationPictures(mix, options.seed) if wanted else None
    # Each side lists all files, so that it tells most problems as well
    problems = len({*training.problems, *validation.problems})
    if problems and first_process() and not quiet:
        some = "1 problem" if problems == 1 else f"{problems} problems"
        say(f"Not all of the data is used ({some}); --dry-run shows what is left out.")
    for name in training.absent if first_process() and not quiet else []:
        say(printable(f"{name} has no image to train on; the other sources take its share."))
    for line in training.empty_masks() if first_process() and not quiet else []:
        say(printable(f"{line} (empty_masks)."))
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
    return train(task, listener, stop)


def read(data: Path, preset: str, out: Path) -> tuple[Mix, Preset]:
    """The mix and the preset, which fit each other; nothing of the mix is where training writes.

    Raises:
        MixError, PresetError: one of them is wrong.
        OptionsError: they do not fit, or `out` lies in a folder of the mix.
    """
    from model.data.mix_file import load_mix
    from model.presets.files import preset_of

    mix, network = load_mix(data), preset_of(preset)
    for source, folder in mix.folders():
        if out.resolve().is_relative_to(folder.resolve()):
            raise OptionsError(
                f"--out {out} lies in {folder}, and pictures of the training would be trained on: {source.where}.",
                "Give a folder outside of the data.",
            )
    multiple = network.tile.multiple
    for shape in mix.shapes:
        if shape.height % multiple or shape.width % multiple:
            raise OptionsError(
                f"{shape.where}: the shape {shape.height}×{shape.width} does not fit the preset {network.name}.",
                f"Its sides must be multiples of {multiple} pixels.",
            )
    return mix, network


def first_process() -> bool:
    """Whether this process is the one that talks."""
    return os.environ.get("RANK", "0") == "0"  # set by `accelerate launch`
