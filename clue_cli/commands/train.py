"""`clue train`: the options, one call, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clue_cli.commands.options import Quiet, check_current_folder, path
from clue_cli.commands.stop import graceful_stop
from clue_cli.errors import ExitCode, UsageError
from clue_cli.terminal import complain, printable, say
from clue_cli.training.dry_run import SHEET, look
from clue_cli.training.run import execute, first_process
from clue_cli.training.told import told
from model.presets.spec import Adapt, NoiseSchedule
from model.training.options import Branches, DiceOver, Precision, TrainingOptions

if TYPE_CHECKING:
    from model.training.task import Outcome

_DEFAULT = TrainingOptions(steps=1)
_DATA, _LENGTH, _MODEL, _OPTIMIZER = "Data and place", "How long", "Network", "Optimizer and losses"
_CHECKS, _MACHINE = "Checks and saves", "Machine"

_Adaptation = Annotated[
    Adapt | None, typer.Option(help="What of it learns; else as the preset says.", rich_help_panel=_MODEL)
]


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter("expected numbers from 0 to 1 with commas, such as 0.01,0.05") from error


def train(
    data: Annotated[
        Path, typer.Option(parser=path, metavar="FILE", help="What to learn from: mix.yaml.", rich_help_panel=_DATA)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="The runs folder: new, or of this training. A --dry-run can do without.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help=f"Look through the data, write {SHEET} to DIR or here, count parameters; train nothing.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="With --dry-run: decode all files, so that any damage shows. Takes longer.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer.", rich_help_panel=_LENGTH)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="By the clock, pauses left out.", rich_help_panel=_LENGTH)
    ] = None,
    preset: Annotated[
        str, typer.Option(help="A preset or base model by name, or a YAML file.", rich_help_panel=_MODEL)
    ] = "mini",
    init: Annotated[
        str | None, typer.Option(metavar="MODEL", help="First weights: a name or a path.", rich_help_panel=_MODEL)
    ] = None,
    adapt_sd3: _Adaptation = _DEFAULT.adapt_sd3,
    adapt_sam: _Adaptation = _DEFAULT.adapt_sam,
    branches: Annotated[Branches, typer.Option(help="Both, or one alone.", rich_help_panel=_MODEL)] = _DEFAULT.branches,
    noise: Annotated[
        NoiseSchedule | None,
        typer.Option(help="On the latent; else as the preset says.", rich_help_panel=_MODEL),
    ] = _DEFAULT.noise,
    shift: Annotated[
        float | None, typer.Option(help="Of the noise levels; 3 in the paper.", rich_help_panel=_MODEL)
    ] = _DEFAULT.shift,
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="T,T", help="Noise levels before the shift, 0 to 1.", show_default=False, rich_help_panel=_MODEL
        ),
    ] = None,
    fresh_head: Annotated[
        bool,
        typer.Option("--fresh-head", help="Of --init take the branches only, not the head.", rich_help_panel=_MODEL),
    ] = False,
    batch: Annotated[int, typer.Option(help="Pictures, in each process.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.batch,
    accumulate: Annotated[int, typer.Option(help="Batches in a step.", rich_help_panel=_OPTIMIZER)] = (
        _DEFAULT.accumulate
    ),
    lr: Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.lr,
    weight_decay: Annotated[float, typer.Option(help="Of matrices only.", rich_help_panel=_OPTIMIZER)] = (
        _DEFAULT.weight_decay
    ),
    warmup: Annotated[float, typer.Option(help="Share of the training.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.warmup,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.", rich_help_panel=_OPTIMIZER)] = (
        _DEFAULT.clip
    ),
    ema: Annotated[float, typer.Option(help="Of the weights; 0: none.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.ema,
    bce_weight: Annotated[float, typer.Option(help="λ1 at the start.", rich_help_panel=_OPTIMIZER)] = (
        _DEFAULT.bce_weight
    ),
    dice_weight: Annotated[float, typer.Option(help="λ2 at the start.", rich_help_panel=_OPTIMIZER)] = (
        _DEFAULT.dice_weight
    ),
    dice: Annotated[
        DiceOver, typer.Option(help="Sums of Dice over the batch (paper) or each image.", rich_help_panel=_OPTIMIZER)
    ] = _DEFAULT.dice,
    weights_rate: Annotated[
        float, typer.Option(help="How fast λ1, λ2 follow the validation; 0: fixed.", rich_help_panel=_OPTIMIZER)
    ] = _DEFAULT.weights_rate,
    seed: Annotated[int, typer.Option(help="Of weights, samples, noise.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.seed,
    validate_every: Annotated[int, typer.Option(help="In steps.", rich_help_panel=_CHECKS)] = _DEFAULT.validate_every,
    validation_samples: Annotated[int, typer.Option(help="At least so many.", rich_help_panel=_CHECKS)] = (
        _DEFAULT.validation_samples
    ),
    calibration_samples: Annotated[
        int, typer.Option(help="At most so many, for score and confidence; 0: none.", rich_help_panel=_CHECKS)
    ] = _DEFAULT.calibration_samples,
    save_every: Annotated[int, typer.Option(help="In steps.", rich_help_panel=_CHECKS)] = _DEFAULT.save_every,
    precision: Annotated[
        Precision, typer.Option(help="Mixed precision.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.precision,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option(help="auto: a GPU.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.device,
    workers: Annotated[
        int, typer.Option(help="Processes that make batches.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.workers,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.", rich_help_panel=_MACHINE)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on a mix of data, or go on with a training.

    The same command again goes on exactly where it stopped. DIR/best is the best model by validation F1, for
    `clue scan --model`; DIR/last the last one. On several GPUs: accelerate launch -m clue_cli train …; in several
    processes on CPUs: torchrun --nproc_per_node 2 -m clue_cli train …
    """
    check_current_folder()
    words: dict[str, Any] = {
        "steps": steps,
        "minutes": minutes,
        "adapt_sd3": adapt_sd3,
        "adapt_sam": adapt_sam,
        "branches": branches,
        "noise": noise,
        "shift": shift,
        "levels": None if levels is None else _levels(levels),
        "batch": batch,
        "accumulate": accumulate,
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip": clip,
        "ema": ema,
        "bce_weight": bce_weight,
        "dice_weight": dice_weight,
        "dice": dice,
        "weights_rate": weights_rate,
        "seed": seed,
        "validate_every": validate_every,
        "validation_samples": validation_samples,
        "calibration_samples": calibration_samples,
        "save_every": save_every,
        "precision": precision,
        "device": device,
        "workers": workers,
        "fresh_head": fresh_head,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if out is None and not dry_run:
        raise UsageError("--out is missing: the folder that the training writes to.", "Give --out DIR.")
    out = out or Path()
    if decode and not dry_run:
        raise UsageError("--decode is for a --dry-run; training decodes what it draws.", "Add --dry-run.")
    if dry_run and steps is None and minutes is None:
        words["steps"] = 1
    with told():
        options = TrainingOptions(**words)
        if dry_run:
            raise typer.Exit(look(data, out, preset, options, init=init, decode=decode, quiet=quiet))
        with graceful_stop() as stop:
            outcome = execute(data, out, preset, init, options, quiet=quiet, stop=stop)
    raise typer.Exit(_conclude(outcome, out, quiet))


def _conclude(outcome: Outcome, out: Path, quiet: bool) -> ExitCode:
    if not first_process():
        return ExitCode.INTERRUPTED if outcome.interrupted else ExitCode.OK
    if outcome.damaged and not quiet:
        say(f"{outcome.damaged} times a damaged picture was skipped; log.jsonl lists them.")
    if outcome.interrupted:
        complain(f"Interrupted at step {outcome.step}.", "All is saved; the same command goes on from there.")
        return ExitCode.INTERRUPTED
    if quiet:
        return ExitCode.OK
    best = printable(str(out / "best"))
    say(f"Finished after {outcome.step} steps. Best validation F1 {outcome.best_f1:.4f}: clue scan --model {best}")
    return ExitCode.OK
