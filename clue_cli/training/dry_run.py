"""The dry run: describes a mix, finds damaged files, writes a contact sheet, and checks that training could start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clue_cli.errors import ExitCode, OutputError
from clue_cli.terminal import printable, sentence, write_stdout
from clue_cli.training.run import calibration_pictures, read, stream_of
from model.reporter import Reporter
from model.training.errors import OptionsError

if TYPE_CHECKING:
    from model.data.made import MadeStream
    from model.data.stream import Stream
    from model.preset import Preset
    from model.training.options import TrainingOptions

SHEET = "contact-sheet.png"


def look(
    data: Path, out: Path, preset: str, options: TrainingOptions, *, init: str | None, decode: bool, reporter: Reporter
) -> ExitCode:
    """Describe the data on stdout, write the contact sheet, and raise the errors that training would raise.

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
    from model.data.description import describe, forged_area_lines
    from model.training.network import count_parameters, planned, with_options

    mix, network = read(data, preset, out, options)
    fitted = with_options(network, options)
    if init is not None:
        _check_first_weights(fitted, options, init)
    description = describe(mix, decode=decode, reporter=reporter)
    reporter.finish()
    for line in description.lines():
        write_stdout(line + "\n")
    if not decode:
        write_stdout("only headers and some masks were read; --decode decodes all files, which takes longer\n")
    training, validation = (stream_of(mix, side, options) for side in ("train", "validation"))
    reporter.stage("Measuring the area of forgeries", "")
    areas = forged_area_lines(training)
    reporter.stage("Looking for calibration photos", "")
    calibration = calibration_pictures(mix, options)
    reporter.finish()
    for line in areas:
        write_stdout(line + "\n")
    found = f"from {calibration.photos} photos" if not calibration.problem else f"none: {calibration.problem}"
    write_stdout(printable(f"score and confidence: {found}") + "\n")
    unreadable = _write_sheet(training, out, reporter)
    reporter.stage("Making the validation samples", "")
    pictures, forged = _validated_on(training, validation, fitted, options)
    reporter.finish()
    if unreadable is not None:
        raise unreadable
    write_stdout(f"validation: {pictures} samples, {forged} of them forged\n")
    learn, everything = count_parameters(planned(fitted, options))
    write_stdout(f"{network.name}: {learn:,} of {everything:,} parameters are trainable\n")
    return ExitCode.OK


def _check_first_weights(preset: Preset, options: TrainingOptions, init: str) -> None:
    """Refuse a model that the training could not start from.

    Raises:
        CheckpointError: it is missing, damaged, or of another preset.
    """
    from model.branches import from_scratch
    from model.checkpoint import inspect
    from model.training.network import prepare_network

    inspect(init)
    if from_scratch(preset):  # else this would load gigabytes that a dry run does not need
        prepare_network(preset, options, init)


def _write_sheet(training: Stream | MadeStream, out: Path, reporter: Reporter) -> OptionsError | None:
    """Write the contact sheet and print its path. Returns the error if no picture could be read.

    Raises:
        OutputError: it cannot be written.
    """
    from model.data.contact_sheet import contact_sheet
    from model.images.pixels import DamagedFileError

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


def _validated_on(
    training: Stream | MadeStream, validation: Stream | MadeStream, preset: Preset, options: TrainingOptions
) -> tuple[int, int]:
    """How many samples a training would validate on, and how many of them are forged.

    Raises:
        OptionsError: the training would not begin.
    """
    from accelerate import Accelerator

    from model.training.feed import Feed
    from model.training.validation import fixed_batches

    fixed = fixed_batches(Feed(validation, preset, options.batch, options.seed), options, Accelerator(cpu=True))
    problem = Feed(training, preset, options.batch, options.seed)[0].problem
    if problem:
        raise OptionsError(f"Nothing to learn from: {problem}.", "Check the images of the mix.")
    masks = [mask for batch in fixed for mask in batch.masks]
    return len(masks), sum(bool(mask.any()) for mask in masks)
