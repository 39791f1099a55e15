"""`clue`: the commands and their help, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from clue_cli import __version__
from clue_cli.commands.options import Group
from clue_cli.errors import ClueError, ExitCode
from clue_cli.terminal import complain, printable, say, sentence, steady_streams, write_stdout

_debug: ContextVar[bool] = ContextVar("debug", default=False)

_EXIT_CODES = "\n\n".join(
    [
        "[bold]Exit codes[/bold]",
        "0 all files read and judged · 1 some files failed · 2 wrong command line",
        "3 nothing to scan · 4 weights missing · 5 results not writable",
        "6 with --fail-on forged or generated: an image is so · 7 training failed",
        "8 signature or time stamp does not hold · 70 defect in clue · 130 interrupted",
    ]
)


def _example(*lines: str) -> str:
    return "\n\n".join(["[bold]Examples[/bold]" if len(lines) > 1 else "[bold]Example[/bold]", *lines])


class _Listed(NamedTuple):
    """A command: the line of the overview, its examples, and the function or group in a module of `commands`."""

    help: str
    epilog: str
    module: str
    function: str = ""


_COMMANDS = {
    "scan": _Listed(
        "Scan evidence for forged regions and write masks, verdicts and an HTML page to DIR.",
        _example(
            "clue scan ./evidence --out results/",
            "clue scan case7.zip photo.jpg --out results/ --fail-on forged",
            "clue scan ./evidence --out results/ --also synthetic",
            "clue scan ./evidence --out results/ --json-lines --quiet | jq -r .locator",
            "Repeating the command resumes an interrupted scan; one Ctrl-C stops it gracefully.",
        )
        + "\n\n"
        + _EXIT_CODES,
        "scan",
    ),
    "calibrate": _Listed(
        "Set the threshold of `forged` so that few of your own untouched photos are called forged by mistake.",
        _example(
            "clue calibrate --authentic ./my-photos --out calib.json",
            "clue calibrate --authentic ./my-photos --forged ./my-forgeries --out calib.json --fpr 0.05",
            "clue scan ./evidence --out results/ --calibration calib.json",
        ),
        "calibrate",
    ),
    "eval": _Listed(
        "Measure methods on benchmarks: scores with intervals, next to baselines and the paper's scores.",
        _example(
            "clue eval --list --root ./benchmarks",
            "clue eval --list --bench coverage",
            "clue eval --bench coverage,columbia --root ./benchmarks --out results/",
            "clue eval --bench casia1 --attack none --attack grid:imdl-jpeg --method mini,classical --out results/",
            "clue eval --bench ./my-set --predictions ./maps --out other/ --strict",
            "clue eval --compare results/ other/",
            "clue eval --task synthetic --bench ./generated --method traces --out synthetic/",
        ),
        "eval",
        "evaluate",
    ),
    "train": _Listed(
        "Train a model on a mix of data sets, or resume a training.",
        _example(
            "clue train --data mix.yaml --out runs/first --dry-run",
            "clue train --data mix.yaml --out runs/first --minutes 60 --precision bf16",
            "clue train --data mix.yaml --out runs/second --steps 2000 --init runs/first/best --set lr=1e-4",
            "accelerate launch -m clue_cli train --data mix.yaml --out runs/third --preset sd3-medium --steps 20000",
        ),
        "train",
    ),
    "forge": _Listed(
        "Make forgeries with masks from authentic photos, and authentic pictures with the same histories.",
        _example(
            "clue forge ./my-photos --out forged/ -n 500",
            "clue forge ./my-photos --masks ./objects --out forged/ -n 500 --size 512x512 --kinds splice,copy_move",
            "Repeating the command resumes an interrupted run; a larger -n adds pictures.",
        ),
        "forge",
    ),
    "merge": _Listed(
        "Join results folders of the same settings, such as those of shards, as one scan would have written them.",
        _example(
            "clue scan ./evidence --out part1/ --shard 1/2",
            "clue scan ./evidence --out part2/ --shard 2/2",
            "clue merge part1/ part2/ --out results/",
        ),
        "merge",
    ),
    "sign": _Listed(
        "Sign the manifest of a results folder, or have it time-stamped by an authority of your own.",
        _example(
            "clue sign results/ --key examiner.key",
            "clue sign results/ --timestamp-request",
            "clue sign results/ --timestamp answer.tsr",
        ),
        "sign",
    ),
    "verify": _Listed(
        "Compare a results folder, and the evidence, with the manifest that the scan wrote.",
        _example(
            "clue verify results/",
            "clue verify results/ --evidence ./evidence",
            "clue verify results/ --key examiner.pub --authority tsa-root.pem",
            "clue verify results/ --json | jq '.findings[] | select(.difference)'",
        )
        + "\n\n[bold]Exit codes[/bold]\n\n0 all as recorded · 1 something differs · 2 wrong command line · "
        "3 nothing that could be verified\n\n"
        "8 signature or time stamp does not hold",
        "verify",
    ),
    "report": _Listed(
        "Write the page of a results folder again, an additional page of selected records, or a PDF.",
        _example(
            "clue report results/",
            "clue report results/ --only forged --name for-the-prosecutor",
            "clue report results/ --where 'score>=0.8' --where 'camera_model~canon'",
            "clue report results/ --query 'select locator from regions where area_ratio > 0.2'",
            "clue report results/ --pdf case.pdf --only forged --title '4 Js 123/26' --language de",
        ),
        "results",
    ),
    "export": _Listed(
        "Write the records of a results folder in another format. The folder is only read.",
        _example(
            "clue export results/ --format csv --out findings.csv",
            "clue export results/ --format jsonl --only forged,inconclusive | jq -r .locator",
            "clue export results/ --format parquet --out results.parquet",
            "clue export results/ --format case --out case.jsonld",
            "clue export results/ --format coco --only forged --out regions.json",
        ),
        "results",
    ),
    "compare": _Listed(
        "Look for the pictures of a results folder in others: the same file, or a picture that looks alike.",
        _example(
            "clue compare case7/ case3/",
            "clue compare case7/ case3/ case5/ --out found.csv",
            "clue compare case7/ case3/ --fail-on differ --quiet",
        ),
        "compare",
    ),
    "query": _Listed(
        "Answer an SQL query over the records of a results folder or of a Parquet export of it.",
        _example(
            "clue query results/ 'select verdict, count(*) from images group by all'",
            "clue query results/ 'select locator, file.sha256 from images where score > 0.9' --format csv",
            "clue query results.parquet 'select code, count(*) from failures group by all' --format json",
            "clue query results/ 'describe images'",
        ),
        "query",
    ),
    "notes": _Listed(
        "Merge notes that people made on the page into a results folder, or list its notes.",
        _example("clue notes results/ notes.json", "clue notes results/"),
        "notes",
    ),
    "explain": _Listed(
        "Have a language model of your own explain flagged records, and check what it writes.",
        _example(
            "clue explain results/ --model ./llava-1.5-7b-hf",
            "clue explain results/ --model ./Qwen2.5-VL-7B-Instruct --only forged --limit 20",
            "clue report results/",
            "Repeating the command resumes an interrupted run.",
        ),
        "explain",
    ),
    "sample": _Listed(
        "Write sample evidence with known ground truth: authentic, spliced, copy-moved and inpainted pictures.",
        _example("clue sample ./evidence"),
        "sample",
    ),
    "schema": _Listed(
        "Print the JSON Schema of a record: a verdict file of `clue scan`, or a line of records.jsonl.",
        _example("clue schema > record.schema.json", "clue schema --run", "clue schema --fields"),
        "schema",
    ),
    "models": _Listed(
        "Manage base weights: list, register, download, verify, merge, export.",
        _example(
            "clue models list",
            "clue models add sd3-medium --sd3 ./stable-diffusion-3-medium-diffusers --sam sam_vit_h_4b8939.pth",
            "clue models add blip2 --folder ./blip2-opt-2.7b",
            "clue models merge runs/first/best --out deployed/",
            "clue models export mini --format onnx --out mini-onnx/",
        ),
        "models",
    ),
}


class _Commands(Group):
    """The commands above. A command's module is imported when it runs, completes an option, or shows its help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, listed in _COMMANDS.items():
            self.add_command(TyperCommand(name, help=listed.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in Typer; the command is the one of the module."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _command(ctx, name) if name else None, rest


def _command(ctx: Any, name: str) -> Any:
    listed = _COMMANDS[name]
    module = importlib.import_module(f"clue_cli.commands.{listed.module}")
    found, epilog = getattr(module, listed.function or name), listed.epilog + getattr(module, "EPILOG", "")
    parent = typer.Typer(cls=Group, rich_markup_mode="rich", callback=lambda: None)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name, epilog=epilog)
    else:
        parent.command(name, epilog=epilog)(found)
    group: Any = typer.main.get_command(parent)
    return group.get_command(ctx, name)


app = typer.Typer(
    name="clue",
    cls=_Commands,
    help="Find the forged regions of photographs. Evidence is only read; nothing is sent anywhere.",
    epilog=_example("clue scan ./evidence --out results/") + "\n\n" + _EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
