"""`clue train`: the options, one call, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clue_cli.commands.options import Quiet, check_current_folder, graceful_stop, path, require_extra
from clue_cli.errors import ExitCode, UsageError
from clue_cli.terminal import complain, counted, printable, say
from model.config import advising

if TYPE_CHECKING:
    from model.training.synthetic import SyntheticOutcome
    from model.training.task import Outcome

_DATA, _TRAINING = "Data and output", "Network and length"
_CHECKS, _MACHINE = "Validation and checkpoints", "Machine"


_NO_RECIPE = {"task", "data", "out", "dry_run", "decode", "preset", "init", "recipe", "change", "quiet"}
"""The other parameters of the command are options that a recipe has, too."""
_NOT_SYNTHETIC = ("preset", "init", "minutes", "gradient_checkpointing")
"""Parameters of the localization alone; `base` is of the other task alone."""
_MIX_ADVICE = "`clue schema --mix` describes the data file; --dry-run shows what clue finds in it."


def _typed(panel: str, help: str, *names: str, metavar: str | None = None) -> Any:
    """An option of `model.training.options`, which checks it."""
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=panel, metavar=metavar)


def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            parser=path,
            metavar="FILE",
            help="YAML file that describes the training data (`clue schema --mix` describes it).",
            rich_help_panel=_DATA,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="Run folder: a new one, or that of the training to resume. Optional with --dry-run.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the data, write contact-sheet.png to DIR (default: the current folder), count parameters, "
            "and stop.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="With --dry-run: decode every file to find damaged ones, which takes longer.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    task: Annotated[
        Literal["localization", "synthetic"],
        typer.Option(
            help="What is trained: a model that localizes forgeries, or a method that says whether a whole picture was "
            "generated.",
            rich_help_panel=_TRAINING,
        ),
    ] = "localization",
    preset: Annotated[
        str, typer.Option(help="Name of a preset or base model, or a YAML file.", rich_help_panel=_TRAINING)
    ] = "mini",
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Model to take the initial weights from: a name or a path.", rich_help_panel=_TRAINING
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Recipe: one in the package (model/training/recipes) or a YAML file. It holds the value of every "
            "option that is not given here.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    base: Annotated[
        str | None,
        _typed(
            _TRAINING, "With --task synthetic: base model to adapt, a registered name or a folder.", metavar="NAME|DIR"
        ),
    ] = None,
    adapt: Annotated[
        str | None,
        _typed(
            _TRAINING,
            "How the base model, or the SAM branch, is adapted: low-rank updates (lora), or the residual of the SVD of "
            "its weights (svd).",
            metavar="[lora|svd]",
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one option of the recipe, such as lr=1e-4 or adapt_sam=lora; may be given several times.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    steps: Annotated[int | None, _typed(_TRAINING, "Length in optimizer steps.")] = None,
    minutes: Annotated[
        float | None, _typed(_TRAINING, "Length in minutes of wall-clock time, interruptions excluded.")
    ] = None,
    batch: Annotated[int | None, _typed(_TRAINING, "Images per batch and process.")] = None,
    accumulate: Annotated[int | None, _typed(_TRAINING, "Batches per optimizer step (gradient accumulation).")] = None,
    seed: Annotated[int | None, _typed(_TRAINING, "Random seed of initial weights, samples and noise.")] = None,
    validate_every: Annotated[int | None, _typed(_CHECKS, "Optimizer steps between validations.")] = None,
    validation_samples: Annotated[int | None, _typed(_CHECKS, "Minimum number of validation images.")] = None,
    calibration_samples: Annotated[
        int | None,
        _typed(_CHECKS, "Maximum number of images for calibrating score and confidence after training; 0 skips it."),
    ] = None,
    save_every: Annotated[int | None, _typed(_CHECKS, "Optimizer steps between checkpoints.")] = None,
    precision: Annotated[
        str | None, _typed(_MACHINE, "Mixed precision; no means float32.", metavar="[no|bf16|fp16]")
    ] = None,
    device: Annotated[
        str | None, _typed(_MACHINE, "Device to train on; auto takes a GPU if there is one.", metavar="[auto|cpu]")
    ] = None,
    workers: Annotated[
        int | None, _typed(_MACHINE, "Number of data-loading processes; 0 loads in the training process.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        _typed(
            _MACHINE, "Recompute activations in the backward pass: less memory, more time.", "--gradient-checkpointing"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a model on a mix of data sets, or resume a training.

    Repeating the command resumes exactly where the training stopped. DIR/best
    is the model with the best validation F1, for `clue scan --model`; DIR/last
    is the latest one.

    Several GPUs: accelerate launch -m clue_cli train ...

    Several processes on CPUs: torchrun --nproc_per_node 2 -m clue_cli train ...
    """
    check_current_folder()
    if out is None and not dry_run:
        raise UsageError("--out is missing: the run folder to write.", "Give --out DIR.")
    out = out or Path()
    if decode and not dry_run:
        raise UsageError(
            "--decode works only with --dry-run; training decodes every sample it draws.", "Add --dry-run."
        )
    given = {name: v for name, v in context.params.items() if name not in _NO_RECIPE and v is not None}
    typed = {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"}
    other = [name for name in (_NOT_SYNTHETIC if task == "synthetic" else ("base",)) if name in typed]
    if other:
        raise UsageError(
            f"--{other[0].replace('_', '-')} is not an option of --task {task}.",
            "Leave it out, or give the other --task.",
        )
    require_extra("train", "accelerate", "cv2")
    from clue_cli.progress import ShownReporter
    from clue_cli.training import first_process  # torch: only here, so that `clue --help` is fast

    changes = change or []
    outcome: Outcome | SyntheticOutcome
    with ShownReporter(quiet=quiet) as reporter, advising(_MIX_ADVICE):
        if task == "synthetic":
            from clue_cli import synthetic_training
            from model.training.options import DEFAULTS, read_synthetic_options

            learned = read_synthetic_options(recipe or DEFAULTS[task], changes, **given)
            if dry_run:
                raise typer.Exit(synthetic_training.look(data, out, learned, decode=decode, reporter=reporter))
            with graceful_stop() as stop:
                outcome = synthetic_training.execute(data, out, learned, reporter=reporter, stop=stop)
        else:
            from clue_cli.training import execute, look
            from model.training.options import DEFAULT, read_options

            if branch := given.pop("adapt", None):
                changes = [*changes, f"adapt_sam={branch}"]
            options = read_options(recipe or DEFAULT, changes, dry_run=dry_run, **given)
            if dry_run:
                raise typer.Exit(look(data, out, preset, options, init=init, decode=decode, reporter=reporter))
            with graceful_stop() as stop:
                outcome = execute(data, out, preset, init, options, reporter=reporter, stop=stop)
    raise typer.Exit(_conclude(outcome, out, quiet=quiet, silent=not first_process()))


def _conclude(outcome: Outcome | SyntheticOutcome, out: Path, *, quiet: bool, silent: bool) -> ExitCode:
    if silent:
        return ExitCode.INTERRUPTED if outcome.interrupted else ExitCode.OK
    if outcome.damaged and not quiet:
        say(f"Damaged pictures were skipped {counted(outcome.damaged, 'time')}; log.jsonl lists them.")
    if outcome.interrupted:
        complain(f"Interrupted at step {outcome.step}.", "Everything is saved; repeat the command to resume.")
        return ExitCode.INTERRUPTED
    if quiet:
        return ExitCode.OK
    best = printable(str(out / "best"))
    done = f"Finished after {outcome.step} steps."
    if hasattr(outcome, "best_auc"):
        say(f"{done} Best mean AUC of the validation {outcome.best_auc:.4f}: clue scan --also synthetic:{best}")
    else:
        say(f"{done} Best validation F1 {outcome.best_f1:.4f}: clue scan --model {best}")
    return ExitCode.OK
