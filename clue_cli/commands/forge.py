"""`clue forge`: the options, one call, and the exit code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clue_cli.commands.options import READING, Hidden, Quiet, check_current_folder, graceful_stop, path, require_extra
from clue_cli.errors import ExitCode, UsageError, WeightsError
from clue_cli.forging.options import DEFAULT_KINDS, KINDS, ForgeOptions
from clue_cli.terminal import complain, counted, printable, say

if TYPE_CHECKING:
    from clue_cli.forging.run import ForgeRun

_DEFAULT = ForgeOptions()
_DEFAULT_KINDS = ",".join(DEFAULT_KINDS)
_SIZE = re.compile(r"(\d{1,5})(?:[x×](\d{1,5}))?")
_SIDES = range(64, 8193)

_PICTURES, _MODELS = "Output pictures", "Your own models"


def _size(word: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(word)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(side in _SIDES for side in sides):
        raise typer.BadParameter(f"{word!r}; expected 512x384 (width, height) or 512, sides from 64 to {_SIDES[-1]}")
    return sides


def _kinds(word: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(part.strip() for part in word.split(",")))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}; expected some of {','.join(KINDS)}, separated by commas")
    return kinds


def forge(
    photos: Annotated[
        list[Path],
        typer.Argument(
            parser=path, metavar="PHOTOS...", help="Authentic photos: files and folders. They are only read."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="Folder to write: a new or empty one, or that of the run to resume.",
        ),
    ],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=10_000_000, help="Total number of pictures in DIR.")
    ] = _DEFAULT.count,
    masks: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="DIR",
            help="Folder with object masks, white on black, named after their photos: cat_2.png for cat.jpg.",
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULT.masks,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**63 - 1, help="Random seed; the same seed gives the same pictures.", rich_help_panel=_PICTURES
        ),
    ] = _DEFAULT.seed,
    size: Annotated[
        Any,
        typer.Option(
            parser=_size,
            metavar="WxH|SIDE",
            help="Crop and scale the photos to this size, in pixels.",
            show_default="whole photos",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Use whole photos at their own resolution; this is the default.", rich_help_panel=_PICTURES
        ),
    ] = False,
    kinds: Annotated[
        Any,
        typer.Option(
            parser=_kinds,
            metavar="LIST",
            help=f"Kinds of forgery, separated by commas: {', '.join(KINDS)}.",
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULT_KINDS,
    authentic: Annotated[
        float, typer.Option(min=0, max=1, help="Share of authentic pictures, from 0 to 1.", rich_help_panel=_PICTURES)
    ] = _DEFAULT.authentic,
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Largest photo to use, in megapixels.", rich_help_panel=READING)
    ] = _DEFAULT.max_megapixels,
    hidden: Hidden = _DEFAULT.hidden,
    inpainter: Annotated[
        Path | None,
        typer.Option(
            parser=path, metavar="PATH", help="Folder of a diffusers inpainting pipeline.", rich_help_panel=_MODELS
        ),
    ] = _DEFAULT.inpainter,
    autoencoder: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="PATH|NAME",
            help="Folder of a diffusers AutoencoderKL, or registered base weights such as sd3-medium.",
            rich_help_panel=_MODELS,
        ),
    ] = _DEFAULT.autoencoder,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Number of worker processes.", show_default="one per core")
    ] = _DEFAULT.workers,
    quiet: Quiet = False,
) -> None:
    """Make forgeries with masks from authentic photos, and authentic pictures with the same histories.

    DIR receives images/, masks/ (255 = forged), forgeries.jsonl (the edits of
    each picture) and forge.json. The photos are only read, and nothing is sent
    anywhere.
    """
    check_current_folder()
    if size is not None and whole:
        raise UsageError("--size and --whole exclude each other.", "Give one of them.")
    require_extra("forge", "cv2")
    options = ForgeOptions(
        count=count,
        masks=masks,
        seed=seed,
        size=size,
        kinds=kinds,
        authentic=authentic,
        workers=workers,
        inpainter=inpainter,
        autoencoder=autoencoder,
        max_megapixels=max_megapixels,
        hidden=hidden,
    )
    raise typer.Exit(_conclude(_execute(photos, out, options, quiet=quiet), out, quiet=quiet))


def _execute(photos: list[Path], out: Path, options: ForgeOptions, *, quiet: bool) -> ForgeRun:
    from clue_cli.forging.run import forge_folder  # OpenCV: only here, so that `clue --help` answers at once
    from clue_cli.progress import ShownReporter
    from model.data.filling import ToolError

    with graceful_stop() as stop, ShownReporter(quiet=quiet) as reporter:
        try:
            return forge_folder(photos, out, options, reporter, stop)
        except ToolError as error:
            raise WeightsError(
                f"{error}.", "Nothing is downloaded: name a folder written by save_pretrained, with safetensors."
            ) from error


def _conclude(run: ForgeRun, out: Path, *, quiet: bool) -> ExitCode:
    if not quiet:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(run.kinds.items()))
        before = f", {run.before} of them from earlier runs" if run.before else ""
        say(printable(f"{out}: {counted(run.made + run.before, 'picture')}{before} ({kinds})."))
    if run.status == "interrupted":
        complain("Interrupted.", "Finished pictures are kept; repeat the command to resume.")
        return ExitCode.INTERRUPTED
    if run.failures:
        some = "1 photo or mask" if len(run.failures) == 1 else f"{len(run.failures)} photos or masks"
        complain(f"{some} could not be used; forge.json lists them with reasons.")
        return ExitCode.SOME_FAILED
    return ExitCode.OK
