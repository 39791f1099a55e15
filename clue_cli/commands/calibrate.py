"""`clue calibrate`: the options, one call, and the exit code."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import (
    MOST,
    READING,
    ArchiveDepth,
    Batch,
    Device,
    Devices,
    EngineName,
    FollowLinks,
    Hidden,
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
    path,
    synthetic_method,
)
from clue_cli.errors import ExitCode, NothingToScanError, OutputError, UsageError
from clue_cli.networks import Engine, Runtime
from clue_cli.progress import ShownReporter
from clue_cli.scan import ScanOptions
from clue_cli.terminal import counted, printable, say
from model.reporter import Reporter

if TYPE_CHECKING:
    from clue_cli.calibrate import Measured
    from clue_cli.networks import Network
    from clue_cli.scan.calibration_file import CalibrationFile

_DEFAULT = ScanOptions()


def calibrate(
    authentic: Annotated[
        list[Path],
        typer.Option(
            parser=path, metavar="PATH", help="Untouched photos: a folder, archive, file or list. Can be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", parser=path, metavar="FILE", help="Calibration file to write.")],
    forged: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path,
            metavar="PATH",
            help="Forged images, used to fit the confidence and measure the detection rate. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    fpr: Annotated[
        float,
        typer.Option(
            help="Highest false-positive rate: the share of authentic photos that may be called forged, from 0 to 1."
        ),
    ] = 0.01,
    task: Annotated[
        str,
        typer.Option(
            metavar="localization|synthetic[:METHOD]",
            help="Question to calibrate: where a picture was edited, or whether the whole picture was generated. "
            "METHOD is traces, reconstruction, or the folder of a trained method; --forged are generated pictures.",
            show_default="localization; METHOD is traces",
        ),
    ] = "localization",
    inconclusive: Annotated[
        float | None,
        typer.Option(
            help="Without --forged: the highest share of authentic photos that may miss the verdict `no_evidence`.",
            show_default="0.05, or --fpr if that is larger",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE.")] = False,
    model: ModelName = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    devices: Devices = None,
    dtype: NumberFormat = _DEFAULT.dtype,
    runtime: RuntimeName = _DEFAULT.runtime,
    batch: Batch = _DEFAULT.batch,
    hidden: Hidden = _DEFAULT.hidden,
    follow_links: FollowLinks = _DEFAULT.follow_links,
    archive_depth: ArchiveDepth = _DEFAULT.archive_depth,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=MOST, help="Largest image to use, in megapixels.", rich_help_panel=READING)
    ] = _DEFAULT.max_megapixels,
    max_file_mib: Annotated[
        float,
        typer.Option(
            min=0.001, max=MOST, help="Largest file or archive member to use, in MiB.", rich_help_panel=READING
        ),
    ] = _DEFAULT.max_file_mib,
    engine: EngineName = _DEFAULT.engine,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    ray_cores: RayCores = None,
    quiet: Quiet = False,
) -> None:
    """Set the threshold of `forged` so that few of your own untouched photos are called forged by mistake.

    The photos should have the same origin as the evidence: the same kinds of
    cameras, processing and compression. Do not hand-pick them, and use none
    that the model was trained on. With n photos, the smallest rate that can be
    promised is 1/(n+1).
    """
    check_current_folder()
    method = _method(task)
    if method is not None and (model, batch, runtime) != (_DEFAULT.model, _DEFAULT.batch, _DEFAULT.runtime):
        raise UsageError(
            "--model, --batch and --runtime belong to --task localization.",
            "A method is named with --task synthetic:METHOD.",
        )
    if method is not None and engine is Engine.RAY:
        raise UsageError(
            "--engine ray belongs to --task localization; a method of --task synthetic runs in this process.",
            "Leave --engine ray out.",
        )
    level = max(0.05, fpr) if inconclusive is None else inconclusive
    for name, rate in (("--fpr", fpr), ("--inconclusive", level)):
        if not 0 < rate < 1:  # NaN is neither
            raise typer.BadParameter(f"{rate:g} does not lie between 0 and 1", param_hint=name)
    if level < fpr:
        raise typer.BadParameter(f"{level:g} is less than --fpr {fpr:g}", param_hint="--inconclusive")
    _check_out(out, [*authentic, *(forged or [])], overwrite)
    options = ScanOptions(
        model=model,
        device=device,
        devices=chosen_devices(devices, device),
        **chosen_engine(engine, ray_address, ray_workers, ray_cores, devices),
        dtype=dtype,
        runtime=runtime,
        batch=batch,
        hidden=hidden,
        follow_links=follow_links,
        archive_depth=archive_depth,
        max_megapixels=max_megapixels,
        max_file_mib=max_file_mib,
    )
    made = _execute(authentic, forged or [], options, method, fpr, level, quiet=quiet)
    _write(made, out)
    if not quiet:
        say("", made.statement, "", *_summary(made, out))
    failed = any(left.code not in _NO_FAILURE for left in made.left_out)
    raise typer.Exit(ExitCode.SOME_FAILED if failed else ExitCode.OK)


def _method(task: str) -> str | None:
    """The method that `--task` names; None: the network is calibrated."""
    if task == "localization":
        return None
    method = synthetic_method(task)
    if method is None:
        raise typer.BadParameter(
            f"{task!r}; expected localization, synthetic or synthetic:METHOD", param_hint="'--task'"
        )
    return method


_NO_FAILURE = frozenset({"duplicate", "further_page", "not_judged"})


def _check_out(out: Path, photos: list[Path], overwrite: bool) -> None:
    """Refuse, before any work, an output file that cannot be written, exists, or lies among the photos."""
    shown = printable(str(out))
    real = Path(os.path.realpath(out))
    if any(real.is_relative_to(os.path.realpath(path)) for path in photos):
        raise UsageError(f"{shown} lies among the photos.", "They are only read: choose another place with --out.")
    if out.is_dir() or not real.parent.is_dir():
        raise OutputError(f"{shown} cannot be written: {'it' if out.is_dir() else 'its folder'} is "
                          f"{'a folder' if out.is_dir() else 'not there'}.", "Name a file with --out.")  # fmt: skip
    if not overwrite and os.path.lexists(out):
        raise OutputError(f"{shown} is there already.", "Choose another name with --out, or replace it: --overwrite.")


def _execute(
    authentic: list[Path],
    forged: list[Path],
    options: ScanOptions,
    method: str | None,
    fpr: float,
    level: float,
    *,
    quiet: bool,
) -> CalibrationFile:
    # Heavy: only here, so that `clue --help` answers at once.
    from clue_cli.calibrate import DetectionScores, Scores, check_enough, fit
    from clue_cli.evidence.walk import check_paths
    from clue_cli.networks import find_devices, find_model, networks_for
    from clue_cli.networks.synthetic import SecondQuestion
    from model.synthetic import describe

    check_paths([*authentic, *forged])
    described = None if method is None else describe(method)
    checkpoint = find_model(options.model) if described is None else None
    reporter = ShownReporter(quiet=quiet)
    if checkpoint is not None and checkpoint.note:
        reporter.note(checkpoint.note)

    def warn(text: str) -> None:
        reporter.note(f"warning: {text}", "warning")

    devices, dtype = find_devices(options, options.dtype, warn)
    if described is not None and len(devices) > 1:
        raise UsageError("--task synthetic runs on one device.", "Name it with --device.")
    found: list[Measured] = []
    detector = None if described is None else SecondQuestion(described, devices[0], dtype)
    running: AbstractContextManager[list[Network]] = nullcontext([])
    if checkpoint is not None:
        running = networks_for(checkpoint, devices, dtype, options, warn)
    with reporter, running as networks:
        for kind, paths in (("authentic", authentic), ("forged", forged)):
            if not paths:
                continue
            reporter.stage(kind, "images")
            ours = kind == "forged"
            run: Scores
            if detector is not None:
                run = DetectionScores(paths, options, detector, reporter, warn, forged=ours)
            else:
                assert checkpoint is not None
                run = Scores(paths, options, networks, checkpoint.calibration, reporter, warn, forged=ours)
            found.append(run.run())
            _note_counts(reporter, found[-1])
            if not found[-1].images:
                raise NothingToScanError(
                    f"No {kind} photo could be used ({len(found[-1].left_out):,} left out, "
                    f"{counted(found[-1].not_pictures, 'file')} without a picture).",
                    "Hidden files and links are skipped by default: --hidden and --follow-links include them.",
                )
            check_enough(len(found[0].images), fpr)
    subject = described if described is not None else checkpoint
    assert subject is not None
    return fit(
        found[0],
        found[1] if forged else None,
        fpr=fpr,
        inconclusive_rate=level,
        model=subject,
        device=devices[0],
        dtype=str(dtype if detector is None else detector.dtype).removeprefix("torch."),
        runtime=None if options.runtime is Runtime.TORCH else options.runtime.version,
        paths=([printable(str(path)) for path in authentic], [printable(str(path)) for path in forged]),
    )


def _note_counts(reporter: Reporter, found: Measured) -> None:
    without = counted(found.not_pictures, "file")
    reporter.advance(0, f"{len(found.left_out):,} left out, {without} without a picture")
    reporter.finish()
    for note in found.notes:
        reporter.note(note)
    if found.skipped:
        what = "hidden file, folder or link" if found.skipped == 1 else "hidden files, folders or links"
        reporter.note(f"Not read: {found.skipped:,} {what} (--hidden, --follow-links).")


def _write(made: CalibrationFile, out: Path) -> None:
    from clue_cli.results.folder import output_errors
    from model.whole_file import whole_file

    with output_errors(out), whole_file(out, sync=True) as stream:
        absent = {"runtime"} if made.runtime is None else None
        stream.write(made.model_dump_json(indent=1, exclude=absent).encode() + b"\n")


def _summary(made: CalibrationFile, out: Path) -> list[str]:
    called = made.NOUNS[0]
    if made.no_evidence_below < made.score_threshold:
        lines = [
            f"{called} if the score is above {made.score_threshold:.6g}, no evidence if it is not above "
            f"{made.no_evidence_below:.6g}, inconclusive in between"
        ]
    else:
        lines = [f"{called} if the score is above {made.score_threshold:.6g}, else no evidence; none is inconclusive"]
        if made.forged is None:
            lines.append("an --inconclusive above --fpr would leave scores in between inconclusive")
    if made.forged is not None:
        lines.append(
            f"confidence refitted: expected calibration error {made.forged.expected_calibration_error:.3f}, "
            f"Brier score {made.forged.brier:.3f} (5-fold cross-validation)"
        )
    also = "" if made.TASK == "localization" else f" --also synthetic:{printable(made.model_name)}"
    return [*lines, f"{printable(str(out))}: use it with `clue scan{also} --calibration`."]
