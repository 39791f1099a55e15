"""The whole of `clue forge`: what is there already, what is missing, the log, and the summary."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clue_cli import __version__
from clue_cli.errors import ClueError, NothingToScanError, OutputError, UsageError
from clue_cli.forging.options import ForgeOptions
from clue_cli.forging.photos import Found, find, match_masks
from clue_cli.forging.worker import IMAGES, MASKS, Job, Made, initialize, load_tools, make, start_worker
from clue_cli.scan.folder import OutputFolder, output_errors
from model.data.edits.scene import Tools

LOG, SUMMARY, LOCK = "forgeries.jsonl", "forge.json", ".clue-forge.lock"
FORMAT = 1
_OURS = {LOG, SUMMARY, LOCK, IMAGES, MASKS, ".tmp"}


@dataclass(frozen=True, slots=True)
class ForgeRun:
    """How a run ended.

    Attributes:
        status: `finished` or `interrupted`.
        made: pictures that this run made.
        before: pictures that were there already.
        kinds: how many of each kind there are now.
        failures: (photo, reason) of photos and masks that cannot be used.
    """

    status: str
    made: int
    before: int
    kinds: dict[str, int]
    failures: dict[str, str]


class Told:
    """Who is told while a run goes on; this one tells nobody."""

    def started(self, photos: int, cutouts: int, before: int, count: int) -> None:
        """The photos are listed; `before` of `count` pictures are there already."""

    def failed(self, photo: str, reason: str) -> None:
        """A photo or a mask cannot be used."""

    def made(self) -> None:
        """One more picture is written."""


def forge_folder(
    paths: Sequence[Path],
    out: Path,
    options: ForgeOptions,
    told: Told | None = None,
    stop: threading.Event | None = None,
) -> ForgeRun:
    """Make pictures from the photos below `paths` in `out`; those that an earlier run made are kept.

    Args:
        told: who is told.
        stop: when it is set, the pictures under way are finished and no more are begun.

    Raises:
        NothingToScanError: a path does not exist, there is no photo, or none can be read.
        UsageError: `out` holds something else, or was made with other settings or photos.
        ToolError: a model of the user's cannot be loaded.
        OutputError: `out` cannot be written.
    """
    told, stop = told or Told(), stop or threading.Event()
    if any(path.is_dir() and path.resolve() == out.resolve() for path in paths):
        raise UsageError(f"{out} holds the photos, which are only read.", "Name another folder with --out.")
    photos = find(paths, hidden=options.hidden, exclude=out)
    masks = Found((), ()) if options.masks is None else find([options.masks], hidden=options.hidden, exclude=out)
    cutouts = tuple(match_masks(photos, masks))
    if options.masks is not None and not cutouts:
        raise NothingToScanError(
            f"No mask in {options.masks} belongs to a photo.",
            "A mask is named after its photo, as in cat_2.png for cat.jpg.",
        )
    if len(photos.items) == 1 and options.kinds == ("splice",):
        raise UsageError("A splice needs a second photo.", "Give more photos, or another kind with --kinds.")
    settings = {**options.settings(), "photos": _listed(photos), "masks": _listed(masks) if cutouts else None}
    job = Job(out, photos, cutouts, options, _device(options))
    tools = load_tools(options, job.device)
    with _Folder(out, settings) as folder:
        failures = dict(photos.failures) | dict(masks.failures)
        for photo, reason in failures.items():
            told.failed(photo, reason)
        known = set(failures)
        failures |= folder.failures
        told.started(len(photos.items), len(cutouts), len(folder.done), options.count)
        missing = [number for number in range(options.count) if number not in folder.done]
        made, status = 0, "running"
        folder.summarize(status, options.count, failures)
        try:
            for result in _results(job, tools, missing, _workers(options, len(missing)), stop):
                folder.add(result)
                made += 1
                for photo, reason in result.failures:
                    if photo not in known:
                        known.add(photo)
                        told.failed(photo, reason)
                failures |= dict(result.failures)
                told.made()
            status = "finished" if made == len(missing) else "interrupted"
        except BaseException:
            status = "interrupted"
            raise
        finally:
            folder.summarize(status, options.count, failures)
        return ForgeRun(status, made, len(folder.done) - made, dict(folder.kinds), failures)


def _results(job: Job, tools: Tools, numbers: list[int], workers: int, stop: threading.Event) -> Iterator[Made]:
    """The pictures in order, made in several processes; as many are under way as the processes can use."""
    if not numbers:
        return
    if workers == 1:
        worker = start_worker(job, tools)
        for number in numbers:
            if stop.is_set():
                return
            yield worker.make(number)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=initialize, initargs=(job,))
    under_way: deque[Future[Made]] = deque()
    waiting = iter(numbers)
    try:
        while True:
            while len(under_way) < 2 * workers and not stop.is_set() and (following := next(waiting, None)) is not None:
                under_way.append(pool.submit(make, following))
            if not under_way:
                return
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise ClueError(
            "A worker process ended abruptly; it may have run out of memory.",
            "Try fewer --workers or a smaller --max-megapixels. The same command goes on from where it was.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _workers(options: ForgeOptions, missing: int) -> int:
    automatic = 1
    if options.inpainter is None and options.autoencoder is None:
        known = hasattr(os, "sched_getaffinity")
        automatic = len(os.sched_getaffinity(0)) if known else (os.cpu_count() or 1)
    return max(1, min(options.workers or automatic, missing))


def _device(options: ForgeOptions) -> str:
    if options.inpainter is None and options.autoencoder is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _listed(found: Found) -> dict[str, Any]:
    return {"count": len(found.items), "digest": found.digest()}


class _Folder:
    """The folder that is written to: its lock, what is done in it, its log and its summary."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out, self._settings = out, settings
        self._folder = OutputFolder(out)
        self.done: set[int] = set()
        self.kinds: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self._before_lock()
        self._lock = FileLock(out / LOCK)

    def _before_lock(self) -> None:
        with output_errors(self._out):
            if self._out.exists() and not self._out.is_dir():
                raise UsageError(f"{self._out} is not a folder.", "Name a new or empty one with --out.")
            self._out.mkdir(parents=True, exist_ok=True)
            foreign = sorted(path.name for path in self._out.iterdir() if path.name not in _OURS)
            ours = (self._out / SUMMARY).is_file() or not any(
                (self._out / name).exists() for name in (LOG, IMAGES, MASKS, ".tmp")
            )
            links = [name for name in sorted(_OURS) if (self._out / name).is_symlink()]
        if foreign or links or not ours:
            what = [*foreign, *links, "no " + SUMMARY][0]
            raise UsageError(
                f"{self._out} is not empty, and was not made by `clue forge` ({what!r}).",
                "Name a new or empty folder with --out.",
            )

    def __enter__(self) -> _Folder:
        with output_errors(self._out):
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise OutputError(
                    f"Another `clue forge` writes to {self._out}.", "Wait until it is done, or choose another --out."
                ) from error
        try:
            self._check_settings()
            self._read_log()
            self._folder.clear_temporary()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.clear_temporary()
        self._lock.release()

    def _check_settings(self) -> None:
        path = self._out / SUMMARY
        if not path.exists():
            return
        try:
            with output_errors(path):
                before = json.loads(path.read_text("utf-8"))
            settings, tool = before["settings"], before["tool"]
            if before["format"] != FORMAT:
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is not what `clue forge` writes.", "Name a new or empty folder with --out."
            ) from error
        differ = sorted(name for name in self._settings if settings.get(name) != self._settings[name])
        if tool != _tool():
            differ.append("version")
        if differ:
            raise UsageError(
                f"{self._out} was made with other settings or photos ({', '.join(differ)}).",
                "Repeat the former command to go on there, or name a new folder with --out.",
            )

    def _read_log(self) -> None:
        """What is done; a line that a crash cut off is dropped, its picture is made again."""
        path = self._out / LOG
        with output_errors(path):
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            for count, text in enumerate(whole.splitlines(), 1):
                try:
                    self._count(json.loads(text))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{path}, line {count}, is not what `clue forge` writes.", "Name a new folder with --out."
                    ) from error
            if whole != data:
                with self._folder.create(LOG) as stream:
                    stream.write(whole)

    def _count(self, line: dict[str, Any]) -> None:
        number, kind = line["number"], line["kind"]
        if not isinstance(number, int) or not isinstance(kind, str) or number in self.done:
            raise ValueError(number)
        failures = {str(entry["photo"]): str(entry["reason"]) for entry in line["unreadable"]}
        self.done.add(number)
        self.kinds[kind] += 1
        self.failures |= failures

    def add(self, made: Made) -> None:
        """Log a picture whose files are written. Raises OutputError."""
        path = self._out / LOG
        with output_errors(path), path.open("ab") as stream:
            stream.write(json.dumps(made.line, ensure_ascii=False).encode() + b"\n")
        self._count(made.line)

    def summarize(self, status: str, asked: int, failures: dict[str, str]) -> None:
        """Write `forge.json`. Raises OutputError."""
        summary = {
            "format": FORMAT,
            "tool": _tool(),
            "status": status,
            "asked": asked,
            "settings": self._settings,
            "counts": {"made": len(self.done), **dict(sorted(self.kinds.items())), "unusable_photos": len(failures)},
            "unusable_photos": [{"photo": photo, "reason": reason} for photo, reason in failures.items()],
        }
        with self._folder.create(SUMMARY) as stream:
            stream.write(json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")


def _tool() -> dict[str, str]:
    """The versions that the pixels depend on."""
    libraries: dict[str, Callable[[], str]] = {
        "clue": lambda: __version__,
        "opencv": _opencv,
        "pillow": lambda: version("pillow"),
        "numpy": lambda: version("numpy"),
    }
    return {name: read() for name, read in libraries.items()}


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)
