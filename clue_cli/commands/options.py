"""What several commands share: options, with one name, one meaning and one help text, and the handling of Ctrl-C.

A command gives its own default and, where the meaning differs, declares its own option; the parsers are shared.
"""

from __future__ import annotations

import codecs
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import typer
from typer.core import TyperGroup

from clue_cli.errors import UsageError
from clue_cli.networks import DEFAULT_METHOD, Compile, DType, Engine, NetworkOptions, Runtime
from clue_cli.remote import Url, is_url, parse, safe
from clue_cli.terminal import printable

READING, NETWORK, CLUSTER, MESSAGES = "Input", "Model", "Cluster", "Messages"
"""Headings in the help."""

MOST = 1_000_000
"""Upper bound of limits in megapixels and MiB: more than any file holds, and countable as memory."""

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_DEVICES = re.compile(r"(cpu|(cuda:)?\d{1,4})(,(cpu|(cuda:)?\d{1,4}))*")
_ADDRESS = re.compile(r"([\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})", re.ASCII)


class Group(TyperGroup):
    """A group of commands whose help shows no `<bool>` after flags, which take no value."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """As in Typer, without the type of flags."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _without_types(command.get_params(ctx))
        return command

    def get_params(self, ctx: Any) -> Any:
        """As in Typer, without the type of flags."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


_QUOTES = ('""', "''", "“”", "‘’", "«»")


def path(word: str) -> Path:
    """The parser of a path, also of one as it was copied from a message or a file manager.

    What exists by this name is meant. Else quotes and blanks around it are dropped, `~` is the home folder, and
    `file://` is the scheme of a URL. Raises typer.BadParameter for an empty path and for another URL.
    """
    plain = word if os.path.lexists(word) else pasted(word)
    if not plain:  # a variable that is not set; pathlib would take it for the current folder
        raise typer.BadParameter("an empty path")
    if is_url(plain) and not os.path.lexists(plain):
        raise typer.BadParameter(
            f"{safe(plain)} is a URL, and a path on this machine is needed here. Download it first."
        )
    return Path(plain)


def path_or_url(word: str) -> Path | Url:
    """The parser of a path or a URL; a URL is one even if a path on this machine reads like it.

    Raises UsageError for a URL with credentials, and what `path` raises.
    """
    if is_url(plain := pasted(word)):
        return parse(plain)
    return path(word)


def pasted(word: str) -> str:
    """A path without what came along when it was copied."""
    plain = word.strip()
    while len(plain) > 1 and plain[0] + plain[-1] in _QUOTES:
        plain = plain[1:-1].strip()
    if plain.lower().startswith("file:"):
        url = urlsplit(plain)
        host = "" if url.netloc in ("", "localhost") else f"//{url.netloc}"
        # A `#` or a `?` that is not escaped belongs to the name.
        plain = url2pathname(host + plain[len(url.scheme) + 1 :].removeprefix(f"//{url.netloc}"))
    return os.path.expanduser(plain) if plain.startswith("~") else plain  # noqa: PTH111 - a `~` that is no user's stays


def listed_paths(source: Path) -> list[Path | Url]:
    """The paths and URLs in a list: one a line, or, if there is a null byte, between null bytes; those as they are.

    Args:
        source: of the list; `-`: standard input. Relative paths are below the current folder.

    Raises:
        UsageError: it cannot be read, or a URL in it has credentials.
    """
    try:
        content = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from {source} cannot be read: {error.strerror or error}.") from error
    for bom, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "")):
        if content.startswith(bom):
            content = content.decode(encoding, "replace").encode() if encoding else content[len(bom) :]
    if b"\0" in content:
        entries = [os.fsdecode(entry) for entry in content.split(b"\0") if entry.strip(b"\r\n")]
        return [parse(entry) if is_url(entry) else Path(entry) for entry in entries]
    return [path_or_url(entry) for line in content.splitlines() if (entry := os.fsdecode(line)).strip()]


def moment(text: str) -> float:
    """The parser of a date or time, ISO 8601, local without a zone: seconds since 1970. Raises typer.BadParameter."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise typer.BadParameter("expected a date or a time such as 2026-01-31 or 2026-01-31T18:30+01:00") from error


def device(name: str) -> str:
    """The callback of `--device`; raises typer.BadParameter for what names no device."""
    if not _DEVICE.fullmatch(name):
        raise typer.BadParameter("expected auto, cpu, cuda or cuda:N")
    return name


def _devices(text: str | None) -> str | None:
    """The callback of `--devices`; raises typer.BadParameter for anything but a list of devices."""
    if text is not None and not _DEVICES.fullmatch(text):
        raise typer.BadParameter("expected numbers of GPUs, as in 0,1")
    return text


def chosen_devices(devices: str | None, device: str) -> tuple[str, ...]:
    """What `--devices` names, none without it; raises UsageError if `--device` was given as well."""
    if devices is None:
        return ()
    if device != NetworkOptions().device:
        raise UsageError("--device and --devices were both given.", "Give one of them.")
    return tuple(f"cuda:{name}" if name.isdigit() else name for name in devices.split(","))


def _is_address(text: str) -> bool:
    """Whether a text is HOST:PORT; a scheme, a user or a password is none."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[2]) < 65536


def _ray_address(text: str | None) -> str | None:
    """The callback of `--ray-address`; raises typer.BadParameter for anything but HOST:PORT or `auto`."""
    if text is not None and text != "auto" and not _is_address(text):
        raise typer.BadParameter("expected auto, or HOST:PORT as `ray start --head` prints it, such as 10.0.0.5:6379")
    return text


def chosen_engine(
    engine: Engine, address: str | None, workers: int | None, cores: int | None, devices: str | None
) -> dict[str, Any]:
    """The fields of `NetworkOptions` that say where the work is done.

    Raises:
        UsageError: options that exclude each other, or with `auto` a RAY_ADDRESS that clue does not take.
    """
    given = {"--ray-address": address, "--ray-workers": workers, "--ray-cores": cores}
    if engine is not Engine.RAY:
        first = next((name for name, value in given.items() if value is not None), None)
        if first is not None:
            raise UsageError(f"{first} belongs to --engine ray.", f"Add --engine ray, or leave {first} out.")
        return {}
    if devices is not None:
        raise UsageError(
            "--devices and --engine ray were both given.",
            "Each worker has a GPU of its own; limit them by --ray-workers.",
        )
    named = os.environ.get("RAY_ADDRESS", "")
    if address == "auto" and named not in ("", "auto") and not _is_address(named):  # it may hold a password: not shown
        raise UsageError(
            "--ray-address auto takes the address from RAY_ADDRESS, which is not HOST:PORT.",
            "Unset it, or give the address with --ray-address.",
        )
    return {
        "engine": engine,
        "ray_address": address,
        "ray_workers": workers,
        "ray_cores": NetworkOptions().ray_cores if cores is None else cores,
    }


ModelName = Annotated[
    str, typer.Option(help="Name of a model in the package, or path of a trained model.", rich_help_panel=NETWORK)
]
Device = Annotated[
    str,
    typer.Option(
        callback=device, help="Device that runs the network: auto, cpu, cuda or cuda:N.", rich_help_panel=NETWORK
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        callback=_devices,
        metavar="N,N,...",
        help="GPUs to use, by number, as in 0,1. Each runs its own process.",
        show_default=False,
        rich_help_panel=NETWORK,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tiles per batch on a GPU. On the CPU it is always 1.",
        show_default="automatic",
        rich_help_panel=NETWORK,
    ),
]
NumberFormat = Annotated[DType, typer.Option(help="Number format of the network.", rich_help_panel=NETWORK)]
Compiled = Annotated[
    Compile | None,
    typer.Option(
        help="Compile the network with torch.compile: block by block, or as one CUDA graph. Each new tile size takes "
        "minutes to compile; then tiles run faster.",
        show_default=False,
        rich_help_panel=NETWORK,
    ),
]
RuntimeName = Annotated[
    Runtime,
    typer.Option(
        help="Library that computes the network: torch, or on the CPU ONNX Runtime or OpenVINO, which need the extra "
        "[bold]onnx[/] or [bold]openvino[/].",
        rich_help_panel=NETWORK,
    ),
]

EngineName = Annotated[
    Engine,
    typer.Option(
        help="Where the work is done: in processes on this machine, or by workers on a Ray cluster, which needs the "
        "extra [bold]ray[/]. On the same kind of device the results are the same.",
        rich_help_panel=CLUSTER,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        callback=_ray_address,
        metavar="HOST:PORT|auto",
        help="Address of the Ray cluster. auto: that in the environment variable RAY_ADDRESS, or the cluster that runs "
        "on this machine. Without auto, RAY_ADDRESS is ignored.",
        show_default="a cluster on this machine, for this run only",
        rich_help_panel=CLUSTER,
    ),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST,
        help="Maximum number of workers.",
        show_default="one for each GPU, or, without a GPU, for each group of --ray-cores cores",
        rich_help_panel=CLUSTER,
    ),
]
RayCores = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST,
        help="Number of CPU cores of each worker.",
        show_default=str(NetworkOptions().ray_cores),
        rich_help_panel=CLUSTER,
    ),
]

Hidden = Annotated[bool, typer.Option("--hidden", help="Include hidden files and folders.", rich_help_panel=READING)]
FollowLinks = Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links.", rich_help_panel=READING)]
ArchiveDepth = Annotated[
    int, typer.Option(min=0, help="Levels of nested archives to open; 0 opens no archive.", rich_help_panel=READING)
]

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only: no progress, no summary.", rich_help_panel=MESSAGES),
]


def command_line() -> tuple[str, ...]:
    """The command line as typed, made printable, for the results."""
    return tuple(map(printable, ["clue", *sys.argv[1:]]))


def check_current_folder() -> None:
    """Raise UsageError if the current folder was deleted: the network's libraries end the process without a word."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("The current folder was deleted.", "Change to another one with cd.") from error


def synthetic_method(word: str) -> str | None:
    """METHOD of `synthetic[:METHOD]`, or the default method; None: the word is something else."""
    question, colon, method = word.partition(":")
    if question != "synthetic" or (colon and not method.strip()):
        return None
    return method.strip() or DEFAULT_METHOD


def require_extra(command: str, *modules: str, extra: str = "train") -> None:
    """Raise UsageError if a module that an extra installs is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            name = {"cv2": "OpenCV"}.get(module, module)
            raise UsageError(
                f"`clue {command}` needs {name}, which the extra `{extra}` brings.",
                f"pip install 'clue-forensics[{extra}]'",
            )


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """Stop in two steps: an event that is set by the first SIGINT or SIGTERM; the second raises `KeyboardInterrupt`.

    Only the main thread can receive signals; elsewhere the event is never set by one. The former handlers are put
    back at the end.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not through a buffered stream: the signal may have come in the middle of writing to it.
        _write_stderr(b"\nStopping once the work in progress is finished. Press Ctrl-C again to stop at once.\n")

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _write_stderr(message: bytes) -> None:
    with suppress(OSError):  # a closed stderr is no reason not to stop
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message)
