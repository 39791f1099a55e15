"""The dry run: describes a mix, finds damaged files, writes a contact sheet, and checks that training could start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clue_cli.errors import ExitCode, OutputError
from clue_cli.terminal import PatientStderr, printable, write_stdout
from clue_cli.training.run import calibration_pictures, read, stream_of
from model.training.errors import OptionsError

if TYPE_CHECKING:
    from model.data.description import Looked
    from model.data.made import MadeStream
    from model.data.stream import Stream
    from model.images.pixels import DamagedFileError
    from model.presets import Preset
    from model.training.options import TrainingOptions

SHEET = "contact-sheet.png"


def look(
    data: Path, out: Path, preset: str, options: TrainingOptions, *, init: str | None, decode: bool, quiet: bool
) -> ExitCode:
    """Describe the data on stdout, write the contact sheet, and raise the errors that training would raise.

    Args:
        data: the mix.
        out: folder for the contact sheet.
        preset: a name, or a file.
        options: training options.
        init: a model to take the initial weights from.
        decode: decode all files instead of a sample.
        quiet: show no progress.

    Raises:
        OutputError: the sheet cannot be written.
        The errors that `clue_cli.training.told` translates: a split without an image, nothing forged to validate on,
            and so on.
    """
    from model.data.description import describe, forged_area_lines
    from model.training.network import count_parameters, planned, with_options

    mix, network = read(data, preset, out, options)
    fitted = with_options(network, options)
    if init is not None:
        _check_first_weights(fitted, options, init)
    with _looking(quiet) as looked:
        description = describe(mix, decode=decode, looked=looked)
    for line in description.lines():
        write_stdout(line + "\n")
    if not decode:
        write_stdout("only headers and some masks were read; --decode decodes all files, which takes longer\n")
    training, validation = (stream_of(mix, side, options) for side in ("train", "validation"))
    for line in forged_area_lines(training):
        write_stdout(line + "\n")
    calibration = calibration_pictures(mix, options)
    found = f"from {calibration.photos} photos" if not calibration.problem else f"none: {calibration.problem}"
    write_stdout(printable(f"score and confidence: {found}") + "\n")
    unreadable = _write_sheet(training, out)
    pictures, forged = _validated_on(training, validation, fitted, options)
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


def _write_sheet(training: Stream | MadeStream, out: Path) -> DamagedFileError | None:
    """Write the contact sheet and print its path. Returns the error if no picture could be read.

    Raises:
        OutputError: it cannot be written.
    """
    from model.data.contact_sheet import contact_sheet
    from model.images.pixels import DamagedFileError

    try:
        out.mkdir(parents=True, exist_ok=True)
        contact_sheet(training, out / SHEET)
    except DamagedFileError as error:
        return error
    except OSError as error:
        raise OutputError(f"{out / SHEET} cannot be written: {error.strerror or error}.") from error
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


@contextmanager
def _looking(quiet: bool) -> Iterator[Looked]:
    """A progress bar on stderr for each source on a terminal, occasional lines elsewhere, nothing if quiet."""
    from tqdm import tqdm

    bars: dict[str, tqdm[Any]] = {}

    def looked(name: str, done: int, count: int) -> None:
        if name not in bars:
            stderr = PatientStderr()
            pace = 0.5 if stderr.isatty() else 10.0
            bars[name] = tqdm(total=count, desc=printable(name), unit=" files", file=stderr, mininterval=pace, delay=2)
        bars[name].update()
        if done == count:
            bars[name].close()

    yield (lambda name, done, count: None) if quiet else looked
    for bar in bars.values():
        bar.close()
