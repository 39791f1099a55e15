"""The dry run: what a mix holds, what of it is damaged, and what training would see of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clue_cli.errors import ExitCode, OutputError
from clue_cli.terminal import PatientStderr, printable, write_stdout
from clue_cli.training.run import read
from model.training.options import TrainingOptions

if TYPE_CHECKING:
    from model.data.description import Looked

SHEET = "contact-sheet.png"


def look(data: Path, out: Path, preset: str, options: TrainingOptions, *, decode: bool, quiet: bool) -> ExitCode:
    """Describe the data on stdout, and write the sheet.

    Args:
        data: the mix.
        out: folder of the sheet.
        preset: a name, or a file.
        options: of the training.
        decode: decode all files, not some.
        quiet: no progress.

    Raises:
        OutputError: the sheet cannot be written.
        What `clue_cli.training.told` turns into what a person is told.
    """
    from model.data.calibration_pictures import CalibrationPictures
    from model.data.contact_sheet import contact_sheet
    from model.data.description import describe
    from model.data.stream import Stream
    from model.training.network import count_parameters, planned, with_options

    mix, network = read(data, preset, out)
    with _looking(quiet) as looked:
        description = describe(mix, decode=decode, looked=looked)
    for line in description.lines():
        write_stdout(line + "\n")
    if not decode:
        write_stdout("headers and some masks were read; --decode decodes all files, which takes longer\n")
    calibration = CalibrationPictures(mix, options.seed)
    found = f"from {calibration.photos} photos" if not calibration.problem else f"none: {calibration.problem}"
    write_stdout(printable(f"score and confidence: {found}") + "\n")
    training = Stream(mix, "train", options.seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
        contact_sheet(training, out / SHEET)
    except OSError as error:
        raise OutputError(f"{out / SHEET} cannot be written: {error.strerror or error}.") from error
    write_stdout(f"samples as training sees them: {printable(str(out / SHEET))}\n")
    learn, everything = count_parameters(planned(with_options(network, options), options))
    write_stdout(f"{network.name}: {learn:,} of {everything:,} parameters learn\n")
    return ExitCode.OK


@contextmanager
def _looking(quiet: bool) -> Iterator[Looked]:
    """A bar on stderr for each source, on a terminal; lines now and then elsewhere; nothing if quiet."""
    from tqdm import tqdm

    bars: dict[str, tqdm[Any]] = {}

    def looked(name: str, done: int, count: int) -> None:
        if name not in bars:
            stderr = PatientStderr()
            pace = 0.5 if stderr.isatty() else 10.0
            bars[name] = tqdm(total=count, desc=printable(name), unit="file", file=stderr, mininterval=pace, delay=2)
        bars[name].update()
        if done == count:
            bars[name].close()

    yield (lambda name, done, count: None) if quiet else looked
    for bar in bars.values():
        bar.close()
