"""`clue scan`: the options, one call, and the exit code."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    command_line,
    graceful_stop,
    listed_paths,
    moment,
    path,
    path_or_url,
    synthetic_method,
)
from clue_cli.errors import ExitCode, ForgedFound, NothingToScanError, UsageError
from clue_cli.networks import DEFAULT_METHOD
from clue_cli.scan import FailOn, GifFrames, ScanOptions
from clue_cli.terminal import complain, counted, printable, write_stdout

if TYPE_CHECKING:
    from minisign import SecretKey

    from clue_cli.evidence.selection import Selection
    from clue_cli.evidence.shard import Shard
    from clue_cli.records import RunRecord
    from clue_cli.remote import Url
    from clue_cli.scan.calibration_file import Task

_DEFAULT = ScanOptions()
_RESULTS = "Results"


def scan(
    out: Annotated[
        Any,  # Path or Url
        typer.Option(
            "--out",
            "-o",
            parser=path_or_url,
            metavar="DIR",
            help="Results folder: a new or empty one, or that of an earlier scan; also in a store, as "
            "s3://BUCKET/PREFIX.",
        ),
    ],
    paths: Annotated[
        list[Any] | None,  # of Path and Url: Typer knows no unions
        typer.Argument(
            parser=path_or_url,
            metavar="PATH...",
            help="Evidence to scan: files, folders and archives, in any combination, also in stores such as "
            "s3://BUCKET/PREFIX (needs the extra [bold]s3[/]).",
            show_default=False,
        ),
    ] = None,
    model: ModelName = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    devices: Devices = None,
    dtype: NumberFormat = _DEFAULT.dtype,
    batch: Batch = _DEFAULT.batch,
    compile: Compiled = _DEFAULT.compile,
    runtime: RuntimeName = _DEFAULT.runtime,
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
        list[Path] | None,
        typer.Option(
            parser=path,
            metavar="FILE",
            help="Calibration file written by `clue calibrate`; it sets the thresholds. Can be given once for the "
            "model and once for the method of --also.",
            show_default="the model's own",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(
            metavar="synthetic[:METHOD]",
            help="Also ask whether the whole picture was generated. METHOD is a name, such as traces or "
            "reconstruction, or the folder of a method of your own. The answer never changes the other verdict.",
            show_default=f"not asked; METHOD is {DEFAULT_METHOD}",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Experimental: what to look for, such as 'the number plate', with a model on SD3 base weights that "
            "have text encoders. No verdict is then more than inconclusive, because no error rate is measured with "
            "queries. Needs the extra [bold]models[/].",
            show_default="nothing is asked",
            rich_help_panel=NETWORK,
        ),
    ] = _DEFAULT.query,
    files_from: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="LIST",
            help="Also scan the paths in LIST, one per line or separated by null bytes; - is standard input.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Scan only what matches, such as '*.jpg' or 'DCIM/*'. Can be repeated. Compared with paths below PATH "
            "and in archives, and with names; * matches / too, and case does not matter.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out what matches. Can be repeated.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Scan only files changed at this date or time or later. An archive counts as one file.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="FILE",
            help="List of hashes of pictures to leave out, from hashdeep, sha256sum or the NSRL, or one hash per line.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    alert: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="FILE",
            help="List of hashes of pictures to flag, in the same formats. A picture on both lists is scanned.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER/COUNT",
            help="Scan only one of COUNT parts of the evidence, such as 2/8. Give each a DIR of its own, and join them "
            "with `clue merge`.",
            show_default="everything",
            rich_help_panel=READING,
        ),
    ] = None,
    hidden: Hidden = _DEFAULT.hidden,
    follow_links: FollowLinks = _DEFAULT.follow_links,
    include_results: Annotated[
        bool,
        typer.Option(
            "--include-results",
            help="Also scan folders that an earlier scan, eval or forge of clue wrote.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.include_results,
    archive_depth: ArchiveDepth = _DEFAULT.archive_depth,
    gif_frames: Annotated[
        GifFrames, typer.Option(help="Frames to scan of an animated GIF, PNG, WebP or AVIF.", rich_help_panel=READING)
    ] = _DEFAULT.gif_frames,
    video: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="SECONDS",
            help="Open videos and examine one keyframe in every SECONDS. No verdict is then more than inconclusive, "
            "because the model did not learn from videos. Needs the extra [bold]video[/].",
            show_default="videos are counted and not opened",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.video,
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
    decode_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=86400,
            metavar="SECONDS",
            help="Longest time for decoding one page. What takes longer is recorded as a failure.",
            rich_help_panel=READING,
        ),
    ] = _DEFAULT.decode_timeout,
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
    hashes: Annotated[
        str | None,
        typer.Option(
            "--hash",
            metavar="NAME[,NAME]",
            help="Hashes of the evidence to record beside SHA-256: md5, sha1.",
            show_default="SHA-256 alone",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="KEY",
            help="Sign the manifest at the end with this secret key, a file of minisign. Its passphrase is asked for "
            "at the start, or taken from the environment variable CLUE_PASSPHRASE.",
            show_default="not signed",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
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
            help="forged, generated: exit with code 6 if an image has this verdict. unread: exit with code 1 if a file "
            "that can hold pictures, such as a disk image or a video, was not opened.",
            show_default=False,
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    engine: EngineName = _DEFAULT.engine,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    ray_cores: RayCores = None,
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
    listed = listed_paths(files_from) if files_from else []
    if not paths and not files_from:
        raise typer.BadParameter("Name a PATH to scan, or a list of them with --files-from.", param_hint="PATH...")
    synthetic = _method(also)
    if FailOn.GENERATED in (fail_on or ()) and synthetic is None:
        raise UsageError("--fail-on generated needs the question to be asked.", "Add --also synthetic.")
    own: dict[Task, Path] = {}
    if calibration:
        from clue_cli.scan.calibration_file import by_task

        own = by_task(calibration)
    options = ScanOptions(
        model=model,
        device=device,
        devices=chosen_devices(devices, device),
        **chosen_engine(engine, ray_address, ray_workers, ray_cores, devices),
        dtype=dtype,
        compile=compile,
        runtime=runtime,
        batch=batch,
        synthetic=synthetic,
        workers=workers,
        threshold=threshold,
        calibration=own.get("localization"),
        synthetic_calibration=own.get("synthetic"),
        query=query,
        hidden=hidden,
        follow_links=follow_links,
        include_results=include_results,
        listed=tuple(listed),
        files_from=None if files_from is None else printable(str(files_from)),
        selection=_selection(include, exclude, since),
        since=since,
        **_hash_lists(known=known, alert=alert),
        shard=None if shard is None else _shard(shard),
        archive_depth=archive_depth,
        gif_frames=gif_frames,
        max_megapixels=max_megapixels,
        max_pages=max_pages,
        max_file_mib=max_file_mib,
        video=video,
        decode_timeout=decode_timeout,
        heatmaps=not no_heatmaps,
        previews=not no_previews,
        panels=panels,
        hashes=() if hashes is None else _hashes(hashes),
        overwrite=overwrite,
        retry_failed=retry_failed,
        fail_on=frozenset(fail_on or ()),
        command_line=command_line(),
    )
    check_current_folder()
    with _key(sign) as key, graceful_stop() as stop:
        run = _execute(paths or [], out, options, quiet=quiet, json_lines=json_lines, stop=stop, key=key)
    raise typer.Exit(_conclude(run))


def _method(also: str | None) -> str | None:
    """The method that `--also` names; None: the second question is not asked."""
    if also is None:
        return None
    method = synthetic_method(also)
    if method is None:
        raise UsageError(
            f"--also {also!r} is no question.", "Write --also synthetic, or --also synthetic:METHOD for another method."
        )
    return method


def _hashes(text: str) -> tuple[str, ...]:
    """The hashes that `--hash` names; SHA-256 is always recorded."""
    names = {name.strip().lower().replace("-", "") for name in text.split(",")} - {"sha256"}
    if unknown := sorted(names - {"md5", "sha1"}):
        raise UsageError(f"--hash does not know {printable(unknown[0])!r}.", "It knows md5 and sha1.")
    return tuple(sorted(names))


def _key(sign: Path | None) -> AbstractContextManager[SecretKey | None]:
    """The key to sign with, which is wiped at the end."""
    if sign is None:
        return nullcontext()
    from clue_cli.custody.signature import read_secret_key

    key: AbstractContextManager[SecretKey] = read_secret_key(sign)
    return key


def _selection(include: list[str] | None, exclude: list[str] | None, since: str | None) -> Selection | None:
    if not include and not exclude and since is None:
        return None
    from clue_cli.evidence.selection import Selection

    return Selection(tuple(include or ()), tuple(exclude or ()), None if since is None else moment(since))


def _shard(text: str) -> Shard:
    from clue_cli.evidence.shard import Shard

    try:
        return Shard.parse(text.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="--shard") from error


def _hash_lists(**paths: Path | None) -> dict[str, Any]:
    given = {name: path for name, path in paths.items() if path is not None}
    if not given:
        return {}
    from clue_cli.evidence.hash_lists import read_hash_list

    return {name: read_hash_list(path) for name, path in given.items()}


def _execute(
    paths: list[Path | Url],
    out: Path | Url,
    options: ScanOptions,
    *,
    quiet: bool,
    json_lines: bool,
    stop: threading.Event,
    key: SecretKey | None,
) -> RunRecord:
    from clue_cli.machine import no_collection

    # Heavy: only here, so that `clue --help` answers at once.
    with no_collection(keep=True):
        from clue_cli.progress import ShownReporter
        from clue_cli.scan.pipeline import scan as run_pipeline

    with ShownReporter(quiet=quiet, write_result=_StdoutLines() if json_lines else None) as reporter:
        signing = {} if key is None else {"key": key}
        return run_pipeline(paths, out, options, reporter, stop, **signing)


class _StdoutLines:
    """Writes lines to stdout for as long as somebody reads them; the scan itself goes on."""

    def __init__(self) -> None:
        self._read = True

    def __call__(self, line: str) -> None:
        if self._read and not write_stdout(line):
            self._read = False
            complain("Nobody reads stdout any more. The scan continues; the records are in the results folder.")


def _conclude(run: RunRecord) -> ExitCode:
    from clue_cli.evidence.formats import not_opened

    code = ExitCode(run.exit_code or ExitCode.OK)
    if code is ExitCode.NOTHING_TO_SCAN:
        raise NothingToScanError(
            " ".join(
                [
                    f"There is no picture in the evidence ({counted(run.counts.files, 'file')}, none an image).",
                    *filter(None, [not_opened(run.not_opened)]),
                ]
            ),
            "Hidden files and links are skipped by default: --hidden and --follow-links include them.",
        )
    if code is ExitCode.FORGED_FOUND:
        asked = f", and {run.counts.generated} the answer `generated`" if run.synthetic is not None else ""
        raise ForgedFound(f"{run.counts.forged} of {run.counts.images} images have the verdict `forged`{asked}.")
    if code is ExitCode.INTERRUPTED:
        complain("Interrupted.", "Finished files are recorded; repeat the command to resume.")
    return code
