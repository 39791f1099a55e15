"""`clue train`: the training run, and the dry run that checks whether it could start. Imports torch."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Literal

from clue_cli.errors import ExitCode, OutputError
from clue_cli.terminal import counted, printable, sentence, write_stdout
from model.branches import from_scratch
from model.checkpoint import inspect
from model.config import ConfigError
from model.data.calibration_pictures import CalibrationPictures
from model.data.description import contact_sheet, describe, forged_area_lines
from model.data.made import MadeStream
from model.data.made_pictures import MadePictures
from model.data.materials import materials_of
from model.data.mix import Mix, Shape, load_mix
from model.data.stream import Stream
from model.images.pixels import DamagedFileError
from model.preset import Preset
from model.presets import preset_of
from model.query import text_encoders
from model.registry import find
from model.reporter import SILENT, Reporter
from model.storage import find_base
from model.training.errors import OptionsError
from model.training.feed import Feed
from model.training.network import count_parameters, planned, prepare_network, with_options
from model.training.options import TrainingOptions
from model.training.queries import digest_of
from model.training.run_folder import SHEET
from model.training.task import Outcome, Task
from model.training.trainer import train
from model.training.validation import fixed_batches


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
        out: the run folder.
        preset: a name, or a file.
        init: a model to take the initial weights from.
        options: training options.
        reporter: receives the events.
        stop: once set, the training saves and ends.

    Raises:
        TrainingError, ConfigError, CheckpointError, BasesError: the training cannot start or resume.
    """
    mix, network = _read(data, preset, out, options)
    if not first_process():
        reporter = SILENT
    reporter.stage("Reading the data", "")
    training, validation = (_stream_of(mix, side, options, out / "pool") for side in ("train", "validation"))
    wanted = options.calibration_samples > 0 and first_process()
    calibration = _calibration_pictures(mix, options) if wanted else None
    # Both splits list all files, so most problems appear in both
    problems = len({*training.problems, *validation.problems})
    if problems:
        some = counted(problems, "problem")
        reporter.note(f"Some of the data is left out ({some}); --dry-run shows which.", "warning")
    for name in training.absent:
        reporter.note(f"{name} has no image to train on; the other sources take its share.", "warning")
    for line in training.empty_masks() if reporter is not SILENT else []:
        reporter.note(f"{line} (empty_masks).", "warning")
    texts = _texts(training, network, mix, options)
    task = Task(
        out=out,
        preset=network,
        options=options,
        training=training,
        validation=validation,
        calibration=calibration,
        data={
            "mix": mix.digest,
            "training": training.digest(),
            "validation": validation.digest(),
            **({"texts": digest_of(texts)} if texts else {}),
        },
        init=init,
        texts=texts,
    )
    return train(task, reporter, stop)


def look(
    data: Path, out: Path, preset: str, options: TrainingOptions, *, init: str | None, decode: bool, reporter: Reporter
) -> ExitCode:
    """The dry run: describe the data on stdout, write the contact sheet, raise the errors that training would raise.

    Args:
        data: the mix.
        out: folder for the contact sheet.
        preset: a name, or a file.
        options: training options.
        init: a model to take the initial weights from.
        decode: decode all files instead of a sample.
        reporter: receives the events.

    Raises:
        OutputError: the sheet cannot be written.
        TrainingError, ConfigError, CheckpointError, BasesError: training could not start.
    """
    from accelerate import Accelerator  # of the extra `train`

    mix, network = _read(data, preset, out, options)
    fitted = with_options(network, options)
    if init is not None:
        inspect(init)
        if from_scratch(fitted):  # else this would load gigabytes that a dry run does not need
            prepare_network(fitted, options, init)
    described = describe(mix, decode=decode, reporter=reporter)
    reporter.finish()
    for line in (line for source in described for line in source.lines()):
        write_stdout(line + "\n")
    if not decode:
        write_stdout("only headers and some masks were read; --decode decodes all files, which takes longer\n")
    training, validation = (_stream_of(mix, side, options) for side in ("train", "validation"))
    if texts := _texts(training, network, mix, options):
        base = inspect(init).base if init is not None else ""
        text_encoders(fitted, options.branches, find(base) if base else find_base(fitted))
        write_stdout(f"queries: {counted(len(texts), 'text')}, each asked in {options.queries:.0%} of its samples\n")
    reporter.stage("Measuring the area of forgeries", "")
    areas = forged_area_lines(training)
    reporter.stage("Looking for calibration photos", "")
    calibration = _calibration_pictures(mix, options)
    reporter.finish()
    for line in areas:
        write_stdout(line + "\n")
    found = f"from {calibration.photos} photos" if not calibration.problem else f"none: {calibration.problem}"
    write_stdout(printable(f"score and confidence: {found}") + "\n")
    unreadable = _write_sheet(training, out, reporter)
    alone = Accelerator(cpu=True)
    batches = fixed_batches(Feed(validation, fitted, options.batch, options.seed), options, alone, reporter)
    reporter.finish()
    if problem := Feed(training, fitted, options.batch, options.seed)[0].problem:
        raise OptionsError(f"Nothing to learn from: {problem}.", "Check the images of the mix.")
    if unreadable is not None:
        raise unreadable
    masks = [mask for batch in batches for mask in batch.masks]
    write_stdout(f"validation: {len(masks)} samples, {sum(bool(mask.any()) for mask in masks)} of them forged\n")
    learn, everything = count_parameters(planned(fitted, options))
    write_stdout(f"{network.name}: {learn:,} of {everything:,} parameters are trainable\n")
    return ExitCode.OK


def first_process() -> bool:
    """Whether this process prints messages."""
    return os.environ.get("RANK", "0") == "0"  # set by `accelerate launch`


def _write_sheet(training: Stream | MadeStream, out: Path, reporter: Reporter) -> OptionsError | None:
    """Write the contact sheet and print its path. Returns the error if no picture could be read.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        contact_sheet(training, out / SHEET, reporter=reporter)
    except DamagedFileError as error:
        return OptionsError(sentence(error), "Check the images of the mix.")
    except OSError as error:
        raise OutputError(f"{out / SHEET} cannot be written: {error.strerror or error}.") from error
    finally:
        reporter.finish()
    write_stdout(f"samples as training sees them: {printable(str(out / SHEET))}\n")
    return None


def _stream_of(
    mix: Mix, side: Literal["train", "validation"], options: TrainingOptions, pool: Path | None = None
) -> Stream | MadeStream:
    """The samples of one side: those that the mix describes, or those that the recipe makes of it.

    Args:
        pool: folder for made pictures; None: they are kept in memory.
    """
    if options.made is None:
        return Stream(mix, side, options.seed)
    return MadeStream(mix, side, options.seed, options.made, options.batch, pool)


def _texts(training: Stream | MadeStream, network: Preset, mix: Mix, options: TrainingOptions) -> tuple[str, ...]:
    """The texts that the samples may be asked about; none without the option.

    Raises:
        OptionsError: the preset has no text encoders.
        ConfigError: no source has texts.
    """
    if not options.queries or not isinstance(training, Stream):
        return ()
    if "sd3" not in network.backbones or from_scratch(network):
        raise OptionsError(
            f"queries is {options.queries:g}, and {network.name} has no text encoders.",
            "Set queries to 0, or train a preset on base weights such as sd3-medium.",
        )
    texts = tuple(training.texts())
    if not texts:
        found = "no list of the training has a column `text` with a caption in it"
        raise ConfigError(mix.where("sources"), found, "captions of what is forged, for queries; or queries of 0")
    odd = next((text for text in texts if any("\ud800" <= character <= "\udfff" for character in text)), None)
    if odd is not None:
        raise ConfigError(mix.where("sources"), f"the text {odd[:60]!r} has half a surrogate pair", "Unicode text")
    return texts


def _calibration_pictures(mix: Mix, options: TrainingOptions) -> CalibrationPictures | MadePictures:
    """The pictures that the score is fitted on in the end.

    Raises:
        ConfigError: the recipe makes them, and there are no photos for them.
    """
    if options.finish is None or options.made is None:
        return CalibrationPictures(mix, options.seed)
    return MadePictures(materials_of(mix, "calibration", options.made.large_side))


def _read(data: Path, preset: str, out: Path, options: TrainingOptions) -> tuple[Mix, Preset]:
    """The mix and the preset, checked against each other and against the output folder.

    Raises:
        ConfigError: one of them is wrong.
        OptionsError: they do not fit, or `out` lies in a folder of the mix.
    """
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
