"""`clue`: the commands and their help, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from clue_cli import __version__
from clue_cli.commands.calibrate import calibrate
from clue_cli.commands.eval import evaluate
from clue_cli.commands.forge import forge
from clue_cli.commands.models import models
from clue_cli.commands.options import Group, path
from clue_cli.commands.results import export, report
from clue_cli.commands.scan import scan
from clue_cli.commands.train import train
from clue_cli.errors import ClueError, ExitCode, UsageError
from clue_cli.eval.options import ATTACKS
from clue_cli.terminal import complain, printable, say, sentence, steady_streams, write_stdout

_debug: ContextVar[bool] = ContextVar("debug", default=False)

_EXIT_CODES = "\n\n".join(
    [
        "[bold]Exit codes[/bold]",
        "0 all files read and judged · 1 some files failed · 2 wrong command line",
        "3 nothing to scan · 4 weights missing · 5 results not writable",
        "6 with --fail-on forged: an image is forged · 7 training failed",
        "70 defect in clue · 130 interrupted",
    ]
)

app = typer.Typer(
    name="clue",
    cls=Group,
    help="Find the forged regions of photographs. Evidence is only read; nothing is sent anywhere.",
    epilog="[bold]Example[/bold]\n\nclue scan ./evidence --out results/\n\n" + _EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _example(*lines: str) -> str:
    return "\n\n".join(["[bold]Examples[/bold]" if len(lines) > 1 else "[bold]Example[/bold]", *lines])


def _show_version(wanted: bool) -> None:
    if wanted:
        write_stdout(f"clue {__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="If clue itself fails, print the traceback instead of saving it to a file.")
    ] = False,
) -> None:
    """Options for every command."""
    _debug.set(debug)


app.command(
    epilog=_example(
        "clue scan ./evidence --out results/",
        "clue scan case7.zip photo.jpg --out results/ --fail-on forged",
        "clue scan ./evidence --out results/ --json-lines --quiet | jq -r .locator",
        "Repeating the command resumes an interrupted scan; one Ctrl-C stops it gracefully.",
    )
    + "\n\n"
    + _EXIT_CODES
)(scan)

app.command(
    epilog=_example(
        "clue calibrate --authentic ./my-photos --out calib.json",
        "clue calibrate --authentic ./my-photos --forged ./my-forgeries --out calib.json --fpr 0.05",
        "clue scan ./evidence --out results/ --calibration calib.json",
    )
)(calibrate)

app.command(
    name="eval",
    epilog=_example(
        "clue eval --list --root ./benchmarks",
        "clue eval --list --bench coverage",
        "clue eval --bench coverage,columbia --root ./benchmarks --out results/",
        "clue eval --bench casia1 --attack none --attack grid:imdl-jpeg --method mini,classical --out results/",
        "clue eval --bench ./my-set --predictions ./maps --out other/ --strict",
        "clue eval --compare results/ other/",
    )
    + "\n\n[bold]Attacks[/bold]\n\n"
    + "\n\n".join(f"{name}: {words}" for name, words in ATTACKS.items()),
)(evaluate)


app.command(
    epilog=_example(
        "clue train --data mix.yaml --out runs/first --dry-run",
        "clue train --data mix.yaml --out runs/first --minutes 60 --precision bf16",
        "clue train --data mix.yaml --out runs/second --steps 2000 --init runs/first/best --set lr=1e-4",
        "accelerate launch -m clue_cli train --data mix.yaml --out runs/third --preset sd3-medium --steps 20000",
    )
)(train)

app.command(
    epilog=_example(
        "clue forge ./my-photos --out forged/ -n 500",
        "clue forge ./my-photos --masks ./objects --out forged/ -n 500 --size 512x512 --kinds splice,copy_move",
        "Repeating the command resumes an interrupted run; a larger -n adds pictures.",
    )
)(forge)

app.command(
    epilog=_example(
        "clue report results/",
        "clue report results/ --only forged --name for-the-prosecutor",
        "clue report results/ --where 'score>=0.8' --where 'camera_model~canon'",
    )
)(report)

app.command(
    epilog=_example(
        "clue export results/ --format csv --out findings.csv",
        "clue export results/ --format jsonl --only forged,inconclusive | jq -r .locator",
    )
)(export)

app.add_typer(
    models,
    epilog=_example(
        "clue models list",
        "clue models add sd3-medium --sd3 ./stable-diffusion-3-medium-diffusers --sam sam_vit_h_4b8939.pth",
        "clue models merge runs/first/best --out deployed/",
    ),
)


@app.command(epilog=_example("clue sample ./evidence"))
def sample(
    folder: Annotated[
        Path | None, typer.Argument(parser=path, metavar="DIR", help="Folder to write; a new or empty one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=path, metavar="DIR", help="The same as DIR."),
    ] = None,
) -> None:
    """Write sample evidence with known ground truth: authentic, spliced, copy-moved and inpainted pictures."""
    from clue_cli.commands.sample import sample as write_sample

    chosen = folder or out
    if chosen is None or (folder and out):
        raise UsageError("Name one folder to write.", "Example: clue sample ./evidence")
    raise typer.Exit(write_sample(chosen))


@app.command(epilog=_example("clue schema > record.schema.json", "clue schema --run", "clue schema --fields"))
def schema(
    run: Annotated[bool, typer.Option("--run", help="Print the schema of run.json instead.")] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Print the schema of the calibration file instead.")
    ] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Print a Markdown table of all fields instead.")] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="Print the description of mix.yaml, the training data, instead.")
    ] = False,
    preset: Annotated[bool, typer.Option("--preset", help="Print the description of a preset's keys instead.")] = False,
) -> None:
    """Print the JSON Schema of a record: a verdict file of `clue scan`, or a line of records.jsonl."""
    from clue_cli.commands.schema import schema as print_schema

    raise typer.Exit(print_schema(run=run, calibration=calibration, fields=fields, mix=mix, preset=preset))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: the console script.

    Args:
        arguments: the words after `clue`; None for those the process was started with.
    """
    _debug.set(False)
    steady_streams()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="clue")
    except SystemExit as done:
        # Typer always leaves like this; it has shown wrong usage (2) itself.
        return done.code if isinstance(done.code, int) else ExitCode.OK
    except ClueError as error:
        complain(sentence(error), error.advice)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        _report_defect(error)
        return ExitCode.INTERNAL_ERROR
    return ExitCode.OK


def _report_defect(error: Exception) -> None:
    details = "".join(traceback.format_exception(error))
    summary = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    saved = None if _debug.get() else _save(details)
    if saved is None:
        say(*map(printable, details.splitlines()))
        complain(f"A defect in clue: {summary}", "Please report it with the lines above.")
    else:
        complain(
            f"A defect in clue: {summary}", f"Please report it with the file {saved}. What was finished is recorded."
        )


def _save(details: str) -> Path | None:
    """Save the details in the folder for temporary files; None if that cannot be written, e.g. because it is full."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="clue-defect-", suffix=".txt", delete=False
        ) as file:
            file.write(f"clue {__version__}, Python {sys.version}\n{details}")
    except OSError:
        return None
    return Path(file.name)
