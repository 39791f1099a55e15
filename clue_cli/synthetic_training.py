"""`clue train --task synthetic`: the training run and the dry run. Imports torch."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from clue_cli.errors import ExitCode, OutputError
from clue_cli.terminal import counted, printable, write_stdout
from model.branches.sd3 import with_decoder
from model.config import ConfigError, legible
from model.data.description import write_sheet
from model.data.reconstructions import Pool, Reconstruct
from model.data.synthetic_mix import SyntheticMix, load_synthetic_mix
from model.data.synthetic_stream import SyntheticStream
from model.device import resolve
from model.images.pixels import Pixels
from model.reporter import Reporter
from model.synthetic.options import SyntheticOptions
from model.training.errors import OptionsError
from model.training.network import count_parameters
from model.training.run_folder import SHEET
from model.training.synthetic import SyntheticOutcome, SyntheticTask, make_learner, train_synthetic, validation_crops

SHOWN = 24
"""Crops on the contact sheet."""
MOST = 20
"""Problems that a dry run lists of each side."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The three sides of a mix; `calibration`: or why there is none."""

    training: SyntheticStream
    validation: SyntheticStream
    calibration: SyntheticStream | str

    @property
    def all(self) -> list[SyntheticStream]:
        return [self.training, self.validation] + ([] if isinstance(self.calibration, str) else [self.calibration])

    def problems(self) -> list[str]:
        """Of all sides, each once."""
        return list(dict.fromkeys(line for side in self.all for line in side.problems))


def execute(
    data: Path, out: Path, options: SyntheticOptions, *, reporter: Reporter, stop: threading.Event
) -> SyntheticOutcome:
    """Train, or resume.

    Args:
        data: the mix.
        out: the run folder.
        reporter: receives the events.
        stop: once set, the training saves and ends.

    Raises:
        TrainingError, ConfigError, MethodError, BasesError: the training cannot start or resume.
    """
    mix, device = _read(data, out), _device(options)
    reporter.stage("Loading the base model", "")
    learner = make_learner(options, device)
    reporter.stage("Reading the data", "")
    pool = Pool(out / "pool", identify=digest_of_autoencoder)
    sides = _sides_of(mix, options, learner.crop, pool)
    if problems := len(sides.problems()):
        some = counted(problems, "problem")
        reporter.note(f"Some of the data is left out ({some}); --dry-run shows which.", "warning")
    for name in sides.training.absent:
        reporter.note(f"{name} has no picture to train on; the other sources take its share.", "warning")

    def prepare(stop: threading.Event, reporter: Reporter) -> list[str]:
        wanted = [pair for side in sides.all for pair in side.windows()]
        return pool.prepare(wanted, reconstructor(str(device)), mix.max_megapixels, stop, reporter)

    task = SyntheticTask(
        out=out,
        options=options,
        learner=learner,
        device=device,
        training=sides.training,
        validation=sides.validation,
        calibration=sides.calibration,
        data={"mix": mix.digest, "training": sides.training.digest(), "validation": sides.validation.digest()},
        prepare=prepare,
    )
    return train_synthetic(task, reporter, stop)


def look(data: Path, out: Path, options: SyntheticOptions, *, decode: bool, reporter: Reporter) -> ExitCode:
    """The dry run: describe the data on stdout, write the contact sheet, raise the errors that training would raise.

    Args:
        data: the mix.
        out: folder for the contact sheet.
        decode: decode all files.
        reporter: receives the events.

    Raises:
        OutputError: the sheet cannot be written.
        TrainingError, ConfigError, MethodError, BasesError: training could not start.
    """
    mix, device = _read(data, out), _device(options)
    reporter.stage("Loading the base model", "")
    learner = make_learner(options, device)
    reporter.stage("Reading the data", "")
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(Path(folder), reconstructor(str(device)), digest_of_autoencoder)
        sides = _sides_of(mix, options, learner.crop, pool)
        reporter.finish()
        _describe(mix, sides, options)
        if decode:
            damaged = [line for side in sides.all for line in side.damaged(reporter)]
            reporter.finish()
            _listed("damaged", damaged)
        else:
            write_stdout("only headers were read; --decode decodes all files, which takes longer\n")
        reporter.stage("Drawing crops", "")
        crops = [crop for index in range(SHOWN // 2) for crop in sides.training.batch(index, 2).samples]
        few = options.model_copy(update={"validation_samples": 2 * len(sides.validation.generators)})
        checked = validation_crops(sides.validation, few)
        reporter.finish()
    if not crops or not checked:
        side = "validation" if crops else "train"
        raise OptionsError(f"No pair of pictures of the {side} side can be read.", "Check the pictures of the mix.")
    captions = [f"{'generated' if c.generated else 'real'}: {_ascii(c.group)}" for c in crops]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_sheet([(crop.pixels, line) for crop, line in zip(crops, captions, strict=True)], out / SHEET, 6)
    except OSError as error:
        raise OutputError(f"{out / SHEET} cannot be written: {error.strerror or error}.") from error
    write_stdout(f"samples as training sees them: {printable(str(out / SHEET))}\n")
    learn, everything = count_parameters(learner.network)
    steps = options.length(sides.training.pictures)
    write_stdout(f"{steps:,} steps of {options.batch * options.accumulate} crops of {learner.crop} pixels\n")
    write_stdout(f"{learn:,} of {everything:,} parameters are trainable\n")
    return ExitCode.OK


@cache
def digest_of_autoencoder(name: str) -> str:
    """SHA-256 of the VAE's file of registered base weights, hex.

    Raises:
        BasesError: it is not registered, changed, or without a decoder.
    """
    return with_decoder(name).digests()["vae"]


def reconstructor(device: str) -> Reconstruct:
    """What passes pictures through registered autoencoders, with noise on the latent; each is loaded when it is needed.

    It raises a BasesError if one is not registered, damaged, or has no decoder.
    """
    from model.predictor import Tile
    from model.rectified_flow import seeded_noise
    from model.synthetic.autoencoder import load_autoencoder

    loaded = cache(lambda name: load_autoencoder(name, device, torch.float32))

    def reconstruct(autoencoder: str, pixels: Pixels, strength: float, seed: int) -> Pixels:
        def noisy(z: torch.Tensor, tile: Tile) -> torch.Tensor:
            _, channels, height, width = z.shape
            noise = seeded_noise(seed, tile.top, tile.left, (channels, height, width))
            return z + strength * noise[None].to(z)

        return loaded(autoencoder).reconstruct(pixels, noisy if strength else None)

    return reconstruct


def _describe(mix: SyntheticMix, sides: _Sides, options: SyntheticOptions) -> None:
    for name, side in (("train", sides.training), ("validation", sides.validation), ("calibration", sides.calibration)):
        if isinstance(side, str):
            write_stdout(printable(f"{name}: none: {side}") + "\n")
            continue
        each = ", ".join(f"{legible(group)} {count}" for group, count in side.counts().items())
        write_stdout(f"{name}: {each}\n")
    for line in sides.training.formats():
        write_stdout(legible(line) + "\n")
    _listed("left out", sides.problems())


def _listed(title: str, lines: Sequence[str]) -> None:
    if lines:
        more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        write_stdout("".join(f"{legible(line)}\n" for line in [f"{title}: {len(lines)}", *lines[:MOST], *more]))


def _sides_of(mix: SyntheticMix, options: SyntheticOptions, crop: int, pool: Pool) -> _Sides:
    learned = options.laundered == "generated"
    training = SyntheticStream(mix, "train", options.seed, crop, pool, laundered=learned)
    validation = SyntheticStream(mix, "validation", options.seed, crop, pool)
    try:
        calibration: SyntheticStream | str = SyntheticStream(
            mix, "calibration", options.seed, crop, pool, laundered=learned
        )
    except ConfigError as error:
        calibration = error.found
    return _Sides(training, validation, calibration)


def _device(options: SyntheticOptions) -> torch.device:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise OptionsError("--task synthetic trains in one process.", "Start it without accelerate and torchrun.")
    return torch.device(resolve(options.device, "float32")[0])


def _read(data: Path, out: Path) -> SyntheticMix:
    """The mix, checked against the output folder.

    Raises:
        ConfigError: it is wrong.
        OptionsError: `out` lies in a folder of the mix.
    """
    mix = load_synthetic_mix(data)
    for source, folder in mix.paths():
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise OptionsError(
                f"--out {out} lies in the data folder {folder}, so training would read its own output: {source.where}.",
                "Name a folder outside the data.",
            )
    return mix


def _ascii(text: str) -> str:
    return legible(text).encode("ascii", "replace").decode()[:20]
