"""`clue scan`: the options, one call, and the exit code."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import (
    MESSAGES,
    MOST,
    NETWORK,
    READING,
    ArchiveDepth,
    Batch,
    Compiled,
    Device,
    Devices,
    FollowLinks,
    Hidden,
    ModelName,
    NumberFormat,
    Quiet,
    check_current_folder,
    chosen_devices,
    command_line,
    graceful_stop,
    path,
)
from clue_cli.errors import ExitCode, ForgedFound, NothingToScanError
from clue_cli.scan import FailOn, GifFrames, ScanOptions
from clue_cli.terminal import complain, counted, write_stdout

if TYPE_CHECKING:
    from clue_cli.records import RunRecord

_DEFAULT = ScanOptions()
_RESULTS = "Results"


def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=path, metavar="PATH...", help="Evidence to scan: files, folders and archives, in any combination."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="Results folder: a new or empty one, or that of an earlier scan.",
        ),
    ],
    model: ModelName = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    devices: Devices = None,
    dtype: NumberFormat = _DEFAULT.dtype,
    batch: Batch = _DEFAULT.batch,
    compile: Compiled = _DEFAULT.compile,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Number of decoding processes.", show_default="automatic", rich_help_panel=NETWORK
        ),
    ] = _DEFAULT.workers,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Probability above which a pixel is marked as forged.",
            show_default="the model's own",
            rich_help_panel=NETWORK,
        ),
    ] = _DEFAULT.threshold,
    calibration: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="FILE",
            help="Calibration file written by `clue calibrate`; it sets the thresholds.",
            show_default="the model's own",
            rich_help_panel=NETWORK,
        ),
    ] = _DEFAULT.calibration,
    hidden: Hidden = _DEFAULT.hidden,
    follow_links: FollowLinks = _DEFAULT.follow_links,
    include_results: Annotated[
        bool,
        typer.Option(
            "--include-results",
            help="Also scan masks, heatmaps, verdicts, previews and panels that an earlier scan left in the evidence.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.include_results,
    archive_depth: ArchiveDepth = _DEFAULT.archive_depth,
    gif_frames: Annotated[
        GifFrames, typer.Option(help="Frames to scan of an animated GIF, PNG, WebP or AVIF.", rich_help_panel=READING)
    ] = _DEFAULT.gif_frames,
    max_megapixels: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=MOST,
            help="Largest image to decode, in megapixels. Larger images are recorded as failures.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.max_megapixels,
    max_pages: Annotated[
        int,
        typer.Option(
            min=1,
            help="Most pages to read from one file. Further pages are recorded as failures.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.max_pages,
    max_file_mib: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=MOST,
            help="Largest file or archive member to read, in MiB. Larger ones are recorded as failures.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.max_file_mib,
    no_heatmaps: Annotated[
        bool, typer.Option("--no-heatmaps", help="Do not write heatmaps.", rich_help_panel=_RESULTS)
    ] = not _DEFAULT.heatmaps,
    no_previews: Annotated[
        bool,
        typer.Option(
            "--no-previews", help="Do not write the preview pictures that the page shows.", rich_help_panel=_RESULTS
        ),
    ] = not _DEFAULT.previews,
    panels: Annotated[
        bool,
        typer.Option(
            "--panels",
            help="Also write the maps of three classical methods. They help an examiner and do not affect the verdict.",
            rich_help_panel=_RESULTS,
        ),
    ] = _DEFAULT.panels,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start over: first remove the results of earlier scans from DIR, and nothing else.",
            rich_help_panel=_RESULTS,
        ),
    ] = _DEFAULT.overwrite,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Retry files that failed in an earlier scan.", rich_help_panel=_RESULTS),
    ] = _DEFAULT.retry_failed,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(
            help="Exit with code 6 if an image has this verdict.", show_default=False, rich_help_panel=_RESULTS
        ),
    ] = None,
    quiet: Quiet = False,
    json_lines: Annotated[
        bool,
        typer.Option("--json-lines", help="Print each record to stdout as one line of JSON.", rich_help_panel=MESSAGES),
    ] = False,
) -> None:
    """Scan evidence for forged regions and write masks, verdicts and an HTML page to DIR.

    The evidence is only read. Results that DIR already holds for the same
    content, model and settings are reused.
    """
    options = ScanOptions(
        model=model,
        device=device,
        devices=chosen_devices(devices, device),
        dtype=dtype,
        compile=compile,
        batch=batch,
        workers=workers,
        threshold=threshold,
        calibration=calibration,
        hidden=hidden,
        follow_links=follow_links,
        include_results=include_results,
        archive_depth=archive_depth,
        gif_frames=gif_frames,
        max_megapixels=max_megapixels,
        max_pages=max_pages,
        max_file_mib=max_file_mib,
        heatmaps=not no_heatmaps,
        previews=not no_previews,
        panels=panels,
        overwrite=overwrite,
        retry_failed=retry_failed,
        fail_on=frozenset(fail_on or ()),
        command_line=command_line(),
    )
    check_current_folder()
    with graceful_stop() as stop:
        run = _execute(paths, out, options, quiet=quiet, json_lines=json_lines, stop=stop)
    raise typer.Exit(_conclude(run))


def _execute(
    paths: list[Path], out: Path, options: ScanOptions, *, quiet: bool, json_lines: bool, stop: threading.Event
) -> RunRecord:
    # Heavy: only here, so that `clue --help` answers at once.
    from clue_cli.progress import ShownReporter
    from clue_cli.scan.pipeline import scan as run_pipeline

    with ShownReporter(quiet=quiet, write_result=_StdoutLines() if json_lines else None) as reporter:
        return run_pipeline(paths, out, options, reporter, stop)


class _StdoutLines:
    """Writes lines to stdout for as long as somebody reads them; the scan itself goes on."""

    def __init__(self) -> None:
        self._read = True

    def __call__(self, line: str) -> None:
        if self._read and not write_stdout(line):
            self._read = False
            complain("Nobody reads stdout any more. The scan continues; the records are in the results folder.")


def _conclude(run: RunRecord) -> ExitCode:
    code = ExitCode(run.exit_code or ExitCode.OK)
    if code is ExitCode.NOTHING_TO_SCAN:
        raise NothingToScanError(
            f"There is no picture in the evidence ({counted(run.counts.files, 'file')}, none an image).",
            "Hidden files and links are skipped by default: --hidden and --follow-links include them.",
        )
    if code is ExitCode.FORGED_FOUND:
        raise ForgedFound(f"{run.counts.forged} of {run.counts.images} images have the verdict `forged`.")
    if code is ExitCode.INTERRUPTED:
        complain("Interrupted.", "Finished files are recorded; repeat the command to resume.")
    return code
