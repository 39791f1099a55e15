"""`clue eval`: the options, one call, and the exit code."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import (
    MOST,
    Batch,
    Compiled,
    Device,
    Devices,
    EngineName,
    ModelName,
    NumberFormat,
    Quiet,
    RayAddress,
    RayCores,
    RayWorkers,
    RuntimeName,
    check_current_folder,
    chosen_devices,
    chosen_engine,
    command_line,
    graceful_stop,
    path,
)
from clue_cli.errors import ExitCode, UsageError
from clue_cli.eval.options import ATTACKS, FUNCTIONS, METHODS, SETS_OF_METHODS, EvalOptions, Task
from clue_cli.terminal import complain, counted, write_stdout

if TYPE_CHECKING:
    from clue_cli.eval.results import Results
    from clue_cli.eval.synthetic.results import SyntheticResults

EPILOG = "\n\n".join(["", "[bold]Attacks[/bold]", *(f"{name}: {words}" for name, words in ATTACKS.items())])
"""What the help says after the examples."""

_DEFAULT = EvalOptions()
_WHAT, _RESULTS, _OTHER = "What to measure", "Results", "Instead of measuring"
_WIDE = 160
"""Columns of a table that is not shown on a terminal."""


def _method(words: list[str] | None) -> list[str]:
    found: list[str] = []
    for word in words or []:
        if is_folder(word):  # its name may hold a comma
            found.append(word)
        else:
            found += [part.strip() for part in word.split(",") if part.strip()]
    return found


def _check_methods(words: list[str]) -> None:
    wrong = next((word for word in words if word not in METHODS), None)
    if wrong is not None:
        raise typer.BadParameter(f"{wrong!r}; expected {', '.join(METHODS)}", param_hint="'--method'")


def is_folder(word: str) -> bool:
    """Whether a word names a folder; it may be no name that the file system takes."""
    try:
        return Path(word).is_dir()
    except (OSError, ValueError):
        return False


def evaluate(
    task: Annotated[
        Task,
        typer.Option(
            metavar="localization|synthetic",
            help="Question to measure: where a picture was edited, or whether the whole picture was generated.",
            rich_help_panel=_WHAT,
        ),
    ] = _DEFAULT.task,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            "--bench",
            "-b",
            metavar="NAME[,NAME…]|all|PATH",
            help="Benchmarks to measure on: names or groups (autosplice, weibo), all that are present, `made` "
            "for pictures made from photos (`made:0.1`: a tenth of them), or your own folder or list. With --task "
            "synthetic: a folder with GENERATOR/0_real/ and GENERATOR/1_fake/, or a list.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="DIR",
            envvar="CLUE_DATA",
            help="Folder that holds the benchmarks.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            callback=_method,
            metavar="NAME",
            help=f"Methods to measure: {', '.join(METHODS)}; with --task synthetic: traces, reconstruction, or the "
            "folder of a trained method. Every table includes the baselines.",
            show_default="mini, traces",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="DIR|FILE",
            help="Folder with another method's maps to score (8- or 16-bit PNG, or NPY), named like the images; with "
            "--task synthetic: a .csv of path and score, from 0 to 1.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:VALUE",
            help="Distortion applied to the images first, such as jpeg:70 (listed below). Can be repeated.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    bars: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|MODEL",
            help="Bars to compare the figures with: a YAML file, or `mini`. Without --bench and --attack, what they "
            "name is measured.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of images per set, drawn with --seed; the others are only listed.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Random seed of attacks, image selection and bootstrap.", rich_help_panel=_WHAT),
    ] = _DEFAULT.seed,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Treat a problem in the data or the predictions as an error.", rich_help_panel=_WHAT
        ),
    ] = False,
    max_megapixels: Annotated[
        float,
        typer.Option(
            min=0.001, max=MOST, help="Largest image, mask or map to read, in megapixels.", rich_help_panel=_WHAT
        ),
    ] = _DEFAULT.max_megapixels,
    model: ModelName = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    devices: Devices = None,
    dtype: NumberFormat = _DEFAULT.dtype,
    batch: Batch = _DEFAULT.batch,
    compile: Compiled = _DEFAULT.compile,
    runtime: RuntimeName = _DEFAULT.runtime,
    engine: EngineName = _DEFAULT.engine,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    ray_cores: RayCores = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="Results folder: a new or empty one, or that of an earlier measurement.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard the earlier results in DIR.", rich_help_panel=_RESULTS)
    ] = False,
    show: Annotated[
        bool,
        typer.Option(
            "--list",
            help="List the benchmarks and which of them are present; with --bench, show their details.",
            rich_help_panel=_OTHER,
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print --list as JSON.", rich_help_panel=_OTHER)] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Test whether two results on the same images differ.", rich_help_panel=_OTHER),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of results.json.", rich_help_panel=_OTHER)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Measure methods on benchmarks: scores with intervals, next to baselines and the paper's scores.

    Results that DIR already holds for the same content, model, attack and
    settings are reused.
    """
    check_current_folder()
    chosen = [name for name, given in (("--list", show), ("--compare", compare), ("--schema", schema)) if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other.", "Ask for one of them.")
    if as_json and not show:
        raise UsageError("--json belongs to --list.", "The figures of a measurement are in DIR/results.json.")
    if task == "localization" and not compare:
        _check_methods(method or [])
    if show and task == "synthetic":
        _show_layouts(as_json=as_json)
    elif show:
        _show_list(root, bench or [], as_json=as_json)
    elif schema:
        _show_schema(task)
    elif compare:
        _compare(*compare, method or [], seed)
    else:
        if not (bench or bars) or out is None:
            raise UsageError(
                f"{'--out' if bench or bars else '--bench'} is missing.",
                "Example: clue eval --bench coverage --root DIR --out results/",
            )
        options = EvalOptions(
            task=task,
            bench=tuple(bench or ()),
            root=root,
            model=model,
            device=device,
            devices=chosen_devices(devices, device),
            **chosen_engine(engine, ray_address, ray_workers, ray_cores, devices),
            dtype=dtype,
            batch=batch,
            compile=compile,
            runtime=runtime,
            attacks=tuple(attack or ()),
            bars=bars,
            methods=tuple(method or ()),
            predictions=predictions,
            limit=limit,
            seed=seed,
            strict=strict,
            max_megapixels=max_megapixels,
            overwrite=overwrite,
            command_line=command_line(),
        )
        raise typer.Exit(_measure(out, options, quiet=quiet))


def _measure(out: Path, options: EvalOptions, *, quiet: bool) -> ExitCode:
    # Heavy: only here, so that `clue --help` answers at once
    from clue_cli.progress import ShownReporter

    results: Results | SyntheticResults
    with graceful_stop() as stop, ShownReporter(quiet=quiet) as reporter:
        if options.task == "synthetic":
            from clue_cli.eval.synthetic import show
            from clue_cli.eval.synthetic.run import evaluate_synthetic

            results = evaluate_synthetic(out, options, reporter, stop)
            text = "" if quiet else show.render(results, width=_width(), colour=_colour())
        else:
            from clue_cli.eval import table
            from clue_cli.eval.run import evaluate as run

            results = run(out, options, reporter, stop)
            text = "" if quiet else table.render(results, width=_width(), colour=_colour())
    if not quiet:
        write_stdout(text)
        reporter.note(f"page: {out / 'index.html'}")
    return _conclude(results)


def _conclude(results: Results | SyntheticResults) -> ExitCode:
    if results.status == "interrupted":
        complain("Interrupted.", "Finished images are recorded; repeat the command to resume.")
        return ExitCode.INTERRUPTED
    without = sum(one.unmeasured for one in results.outcomes)
    if without:
        complain(
            f"{counted(without, 'score')} of single images missing.", "The result and per_image.csv say which and why."
        )
        return ExitCode.SOME_FAILED
    return ExitCode.OK


def _show_list(root: Path | None, words: list[str], *, as_json: bool) -> None:
    from clue_cli.eval.table import facts, listing

    write_stdout(facts(root, words) if as_json else listing(root, words, width=_width(), colour=_colour()))


def _show_layouts(*, as_json: bool) -> None:
    from model.datasets.generated import LAYOUTS

    if as_json:
        write_stdout(json.dumps(LAYOUTS, indent=1) + "\n")
    else:
        write_stdout("".join(f"{name}: {words}.\n" for name, words in LAYOUTS.items()))


def _show_schema(task: Task) -> None:
    from clue_cli.eval.results import Results
    from clue_cli.eval.synthetic.results import SyntheticResults

    kind = SyntheticResults if task == "synthetic" else Results
    write_stdout(json.dumps(kind.model_json_schema(), indent=2) + "\n")


def _compare(a: Path, b: Path, methods: list[str], seed: int) -> None:
    from clue_cli.eval.compare import compare_folders, describe

    if len(methods) > 1 or any(word in SETS_OF_METHODS for word in methods):
        raise UsageError("--compare looks at one method at a time.", "Name one with --method, or leave it out.")
    method = FUNCTIONS.get(methods[0], methods[0]) if methods else None
    write_stdout(describe(compare_folders(a, b, method=method, seed=seed)))


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _width() -> int:
    return shutil.get_terminal_size((_WIDE, 24)).columns if sys.stdout.isatty() else _WIDE
