"""`clue train`: the options, one call, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clue_cli.commands.options import Quiet, check_current_folder, path, require_extra
from clue_cli.commands.stop import graceful_stop
from clue_cli.errors import ExitCode, UsageError
from clue_cli.terminal import complain, counted, printable, say
from clue_cli.training.dry_run import SHEET, look
from clue_cli.training.run import execute, first_process
from model.presets.spec import Adapt, NoiseSchedule
from model.training.options import Branches, DiceOver, Precision, TrainingOptions

if TYPE_CHECKING:
    from model.training.task import Outcome

_DEFAULT = TrainingOptions(steps=1)
_DATA, _LENGTH, _MODEL, _OPTIMIZER = "Data and output", "Length of the training", "Network", "Optimizer and losses"
_CHECKS, _MACHINE = "Validation and checkpoints", "Machine"


def _adaptation(branch: str) -> Any:
    return typer.Option(
        help=f"How the {branch} branch is trained.", show_default="the preset's", rich_help_panel=_MODEL
    )


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter("expected numbers from 0 to 1 with commas, such as 0.01,0.05") from error


def train(
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
            help=f"Check the data, write {SHEET} to DIR (default: the current folder), count parameters, and stop.",
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
    steps: Annotated[int | None, typer.Option(help="Length in optimizer steps.", rich_help_panel=_LENGTH)] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Length in minutes of wall-clock time, interruptions excluded.",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Name of a preset or base model, or a YAML file.", rich_help_panel=_MODEL)
    ] = "mini",
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Model to take the initial weights from: a name or a path.", rich_help_panel=_MODEL
        ),
    ] = None,
    adapt_sd3: Annotated[Adapt | None, _adaptation("SD3")] = _DEFAULT.adapt_sd3,
    adapt_sam: Annotated[Adapt | None, _adaptation("SAM")] = _DEFAULT.adapt_sam,
    branches: Annotated[
        Branches, typer.Option(help="Branches of the network to use.", rich_help_panel=_MODEL)
    ] = _DEFAULT.branches,
    noise: Annotated[
        NoiseSchedule | None,
        typer.Option(help="How noise is added to the latent.", show_default="the preset's", rich_help_panel=_MODEL),
    ] = _DEFAULT.noise,
    shift: Annotated[
        float | None,
        typer.Option(
            help="Shift s of the noise levels; 3 in the paper.", show_default="the preset's", rich_help_panel=_MODEL
        ),
    ] = _DEFAULT.shift,
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...",
            help="Noise levels before the shift, each from 0 to 1.",
            show_default="the preset's",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    fresh_head: Annotated[
        bool,
        typer.Option(
            "--fresh-head",
            help="Take only the branches from --init and initialize fusion and localization randomly.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    batch: Annotated[
        int, typer.Option(help="Images per batch and process.", rich_help_panel=_OPTIMIZER)
    ] = _DEFAULT.batch,
    accumulate: Annotated[
        int, typer.Option(help="Batches per optimizer step (gradient accumulation).", rich_help_panel=_OPTIMIZER)
    ] = (_DEFAULT.accumulate),
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=_OPTIMIZER)] = _DEFAULT.lr,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay, applied to weight matrices only.", rich_help_panel=_OPTIMIZER)
    ] = (_DEFAULT.weight_decay),
    warmup: Annotated[
        float,
        typer.Option(
            help="Fraction of the training during which the learning rate rises to its peak.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = _DEFAULT.warmup,
    clip: Annotated[
        float, typer.Option(help="Norm above which the gradient is clipped.", rich_help_panel=_OPTIMIZER)
    ] = (_DEFAULT.clip),
    ema: Annotated[
        float,
        typer.Option(
            help="Decay of the moving average of the weights; 0 turns averaging off.", rich_help_panel=_OPTIMIZER
        ),
    ] = _DEFAULT.ema,
    bce_weight: Annotated[
        float, typer.Option(help="Initial weight λ1 of the BCE loss.", rich_help_panel=_OPTIMIZER)
    ] = (_DEFAULT.bce_weight),
    dice_weight: Annotated[
        float, typer.Option(help="Initial weight λ2 of the Dice loss.", rich_help_panel=_OPTIMIZER)
    ] = (_DEFAULT.dice_weight),
    dice: Annotated[
        DiceOver,
        typer.Option(
            help="Whether Dice is computed over the whole batch (as in the paper) or per image.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = _DEFAULT.dice,
    weights_rate: Annotated[
        float,
        typer.Option(
            help="Rate at which λ1 and λ2 adapt to validation precision and recall; 0 keeps them fixed.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = _DEFAULT.weights_rate,
    seed: Annotated[
        int, typer.Option(help="Random seed of initial weights, samples and noise.", rich_help_panel=_OPTIMIZER)
    ] = _DEFAULT.seed,
    validate_every: Annotated[
        int, typer.Option(help="Optimizer steps between validations.", rich_help_panel=_CHECKS)
    ] = _DEFAULT.validate_every,
    validation_samples: Annotated[
        int, typer.Option(help="Minimum number of validation images.", rich_help_panel=_CHECKS)
    ] = (_DEFAULT.validation_samples),
    calibration_samples: Annotated[
        int,
        typer.Option(
            help="Maximum number of images for calibrating score and confidence after training; 0 skips it.",
            rich_help_panel=_CHECKS,
        ),
    ] = _DEFAULT.calibration_samples,
    save_every: Annotated[
        int, typer.Option(help="Optimizer steps between checkpoints.", rich_help_panel=_CHECKS)
    ] = _DEFAULT.save_every,
    precision: Annotated[
        Precision, typer.Option(help="Mixed precision; no means float32.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.precision,
    device: Annotated[
        Literal["auto", "cpu"],
        typer.Option(help="Device to train on; auto takes a GPU if there is one.", rich_help_panel=_MACHINE),
    ] = _DEFAULT.device,
    workers: Annotated[
        int,
        typer.Option(
            help="Number of data-loading processes; 0 loads in the training process.", rich_help_panel=_MACHINE
        ),
    ] = _DEFAULT.workers,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Recompute activations in the backward pass: less memory, more time.",
            rich_help_panel=_MACHINE,
        ),
    ] = False,
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
        raise UsageError("--out is missing: the run folder to write.", "Give --out DIR.")
    out = out or Path()
    if decode and not dry_run:
        raise UsageError(
            "--decode works only with --dry-run; training decodes every sample it draws.", "Add --dry-run."
        )
    if dry_run and steps is None and minutes is None:
        words["steps"] = 1
    require_extra("train", "accelerate", "cv2")
    from clue_cli.progress import ShownReporter

    options = TrainingOptions(**words)
    with ShownReporter(quiet=quiet) as reporter:
        if dry_run:
            raise typer.Exit(look(data, out, preset, options, init=init, decode=decode, reporter=reporter))
        with graceful_stop() as stop:
            outcome = execute(data, out, preset, init, options, reporter=reporter, stop=stop)
    raise typer.Exit(_conclude(outcome, out, quiet))


def _conclude(outcome: Outcome, out: Path, quiet: bool) -> ExitCode:
    if not first_process():
        return ExitCode.INTERRUPTED if outcome.interrupted else ExitCode.OK
    if outcome.damaged and not quiet:
        say(f"Damaged pictures were skipped {counted(outcome.damaged, 'time')}; log.jsonl lists them.")
    if outcome.interrupted:
        complain(f"Interrupted at step {outcome.step}.", "Everything is saved; repeat the command to resume.")
        return ExitCode.INTERRUPTED
    if quiet:
        return ExitCode.OK
    best = printable(str(out / "best"))
    say(f"Finished after {outcome.step} steps. Best validation F1 {outcome.best_f1:.4f}: clue scan --model {best}")
    return ExitCode.OK
