"""`clue scan`: the options, one call, and the exit code."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.stop import graceful_stop
from clue_cli.errors import ExitCode, ForgedFound, NothingToScanError, UsageError
from clue_cli.scan.options import DType, FailOn, GifFrames, ScanOptions
from clue_cli.terminal import complain, printable, write_stdout

if TYPE_CHECKING:
    from clue_cli.scan.records import RunRecord

_DEFAULT = ScanOptions()
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

_MOST = 1_000_000
"""Of megapixels and MiB: beyond what any file holds, and within what the system can count as memory."""

_READING, _MODEL, _RESULTS, _TALK = "What is read", "Model", "Results", "Messages"


def _device(name: str) -> str:
    """The callback of `--device`; raises typer.BadParameter for what names no device."""
    if not _DEVICE.fullmatch(name):
        raise typer.BadParameter("expected auto, cpu, cuda or cuda:N")
    return name


def _path(word: str) -> Path:
    """The parser of a path; raises typer.BadParameter for an empty one."""
    if not word:  # a variable that is not set; pathlib would take it for the current folder
        raise typer.BadParameter("an empty path")
    return Path(word)


def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(parser=_path, metavar="PATH...", help="Evidence: files, folders and archives, in any mix."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=_path,
            metavar="DIR",
            help="The results folder: new, empty, or of an earlier scan.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A model of the package by name, or a path.", rich_help_panel=_MODEL)
    ] = _DEFAULT.model,
    device: Annotated[
        str, typer.Option(callback=_device, help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MODEL)
    ] = _DEFAULT.device,
    dtype: Annotated[
        DType, typer.Option(help="Number format of the network.", rich_help_panel=_MODEL)
    ] = _DEFAULT.dtype,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tiles in one batch on a GPU; on the CPU one.", show_default="automatic", rich_help_panel=_MODEL
        ),
    ] = _DEFAULT.batch,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Decoding processes.", show_default="automatic", rich_help_panel=_MODEL),
    ] = _DEFAULT.workers,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Mark pixels above this probability.",
            show_default="the model's own",
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.threshold,
    calibration: Annotated[
        Path | None,
        typer.Option(
            parser=_path,
            metavar="FILE",
            help="Thresholds from your own photos: what `clue calibrate` wrote.",
            show_default="the model's own",
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.calibration,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Also scan hidden files and folders.", rich_help_panel=_READING)
    ] = _DEFAULT.hidden,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow symbolic links.", rich_help_panel=_READING)
    ] = _DEFAULT.follow_links,
    archive_depth: Annotated[
        int,
        typer.Option(min=0, help="How deep archives in archives are opened; 0: none.", rich_help_panel=_READING),
    ] = _DEFAULT.archive_depth,
    gif_frames: Annotated[
        GifFrames, typer.Option(help="Which frames of a GIF are scanned.", rich_help_panel=_READING)
    ] = _DEFAULT.gif_frames,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=_MOST, help="Larger images fail undecoded.", rich_help_panel=_READING)
    ] = _DEFAULT.max_megapixels,
    max_pages: Annotated[
        int, typer.Option(min=1, help="Further pages of one file fail unread.", rich_help_panel=_READING)
    ] = _DEFAULT.max_pages,
    max_file_mib: Annotated[
        float, typer.Option(min=0.001, max=_MOST, help="Larger files fail unread (MiB).", rich_help_panel=_READING)
    ] = _DEFAULT.max_file_mib,
    no_heatmaps: Annotated[
        bool, typer.Option("--no-heatmaps", help="Keep no heatmaps.", rich_help_panel=_RESULTS)
    ] = not _DEFAULT.heatmaps,
    no_previews: Annotated[
        bool, typer.Option("--no-previews", help="Write no pictures for the page.", rich_help_panel=_RESULTS)
    ] = not _DEFAULT.previews,
    panels: Annotated[
        bool,
        typer.Option(
            "--panels",
            help="Also write maps of three classical methods: aids for an examiner, no part of the verdict.",
            rich_help_panel=_RESULTS,
        ),
    ] = _DEFAULT.panels,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start anew: first remove what earlier scans recorded in DIR, and only that.",
            rich_help_panel=_RESULTS,
        ),
    ] = _DEFAULT.overwrite,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.", rich_help_panel=_RESULTS)
    ] = _DEFAULT.retry_failed,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(help="Give this an exit code of its own.", show_default=False, rich_help_panel=_RESULTS),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no table; errors only.", rich_help_panel=_TALK)
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option("--json-lines", help="Print each record on stdout as a line of JSON.", rich_help_panel=_TALK),
    ] = False,
) -> None:
    """Scan evidence for forged regions and write masks, verdicts and a page to DIR.

    The evidence is only read. What DIR already holds for the same content, model and settings is not computed again.
    """
    options = ScanOptions(
        model=model,
        device=device,
        dtype=dtype,
        batch=batch,
        workers=workers,
        threshold=threshold,
        calibration=calibration,
        hidden=hidden,
        follow_links=follow_links,
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
        command_line=tuple(map(printable, ["clue", *sys.argv[1:]])),
    )
    _check_current_folder()
    with graceful_stop() as stop:
        run = _execute(paths, out, options, quiet=quiet, json_lines=json_lines, stop=stop)
    raise typer.Exit(_conclude(run, options))


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:  # the network's libraries end the process without a word about it
        raise UsageError("The current folder was deleted.", "Change to another one with cd.") from error


def _execute(
    paths: list[Path], out: Path, options: ScanOptions, *, quiet: bool, json_lines: bool, stop: threading.Event
) -> RunRecord:
    # Heavy: only here, so that `clue --help` answers at once.
    from clue_cli.console import shown_progress
    from clue_cli.scan.pipeline import scan as run_pipeline
    from clue_cli.scan.progress import JsonLines, Several, Silent

    data = [JsonLines(_StdoutLines())] if json_lines else []
    if quiet:
        return run_pipeline(paths, out, options, Several([Silent(), *data]), stop)
    with shown_progress(out) as shown:
        return run_pipeline(paths, out, options, Several([shown, *data]), stop)


class _StdoutLines:
    """Writes lines to stdout for as long as somebody reads them; the scan itself goes on."""

    def __init__(self) -> None:
        self._read = True

    def __call__(self, line: str) -> None:
        if self._read and not write_stdout(line):
            self._read = False
            complain("Nobody reads stdout any more. The scan goes on; the records are in the results folder.")


def _conclude(run: RunRecord, options: ScanOptions) -> ExitCode:
    from clue_cli.scan.outcome import exit_code

    code = exit_code(run.counts, interrupted=run.status == "interrupted", fail_on=options.fail_on)
    if code is ExitCode.NOTHING_TO_SCAN:
        raise NothingToScanError(
            f"There is no picture in the evidence ({run.counts.files} files, none of them an image).",
            "Hidden files and links are left out unless you ask for them: --hidden, --follow-links.",
        )
    if code is ExitCode.FORGED_FOUND:
        raise ForgedFound(f"{run.counts.forged} of {run.counts.images} images have the verdict `forged`.")
    if code is ExitCode.INTERRUPTED:
        complain("Interrupted.", "What was finished is recorded; the same command goes on from there.")
    return code
