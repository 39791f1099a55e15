"""`clue forge`: its output folder, what is there already, what is missing, and who makes it."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clue_cli import __version__
from clue_cli.errors import ClueError, NothingToScanError, UsageError
from clue_cli.forging.options import ForgeOptions
from clue_cli.forging.photos import Found, apart, find, match_masks
from clue_cli.forging.worker import IMAGES, MASKS, Job, Line, initialize, load_tools, make, start_worker
from clue_cli.machine import cores
from clue_cli.results.folder import PARTS, ResultsFolder, output_errors
from clue_cli.results.log import IndexedLog
from clue_cli.terminal import counted
from model.data.scene import Tools
from model.images.folders import FORGE_LOG, FORGE_SUMMARY
from model.reporter import Reporter

LOG, SUMMARY, LOCK = FORGE_LOG, FORGE_SUMMARY, ".clue-forge.lock"
FORMAT = 1
_OURS = {LOG, SUMMARY, LOCK, IMAGES, MASKS}


class ForgeLog(IndexedLog[Line]):
    """`forgeries.jsonl`: what was made, a line for each picture; arguments and errors as of `IndexedLog`.

    Attributes:
        done: numbers of the pictures that are there.
        kinds: how many of each kind.
        failures: photos that could not be used, and why.
        failed: how many edits failed on their photos; other ones took their place.
    """

    tables = ""

    def __init__(self, path: Path) -> None:
        self.done: set[int] = set()
        self.kinds: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.failed = 0
        super().__init__(path)

    def add(self, line: Line) -> None:
        """Log a picture whose files are written. Raises OutputError."""
        with output_errors(self._path):
            self._append(line, json.dumps(line, ensure_ascii=False).encode())

    def _parse(self, line: bytes) -> Line | None:
        try:
            entry: Line = json.loads(line)
            fits = isinstance(entry["number"], int) and isinstance(entry["kind"], str)
            _failures(entry)
            len(entry.get("failed", []))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return entry if fits and entry["number"] not in self.done else None

    def _enter(self, entry: Line, start: int, length: int) -> None:
        self.done.add(entry["number"])
        self.kinds[entry["kind"]] += 1
        self.failures |= _failures(entry)
        self.failed += len(entry.get("failed", []))


class ForgeFolder:
    """The folder that is written to: its lock, its log and its summary.

    Args:
        out: new, empty, or of a run with the same settings.
        settings: what decides the pictures, in JSON types.

    Attributes:
        log: what is done in it; there inside the block.

    Raises:
        UsageError: `out` holds something else.
        OutputError: it cannot be written.
    """

    log: ForgeLog

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out, self._settings = out, settings
        self._folder = ResultsFolder(out)
        with output_errors(out):
            if out.exists() and not out.is_dir():
                raise UsageError(f"{out} is not a folder.", "Name a new or empty one with --out.")
            out.mkdir(parents=True, exist_ok=True)
            foreign = self._folder.foreign(_OURS)
            links = [name for name in sorted((*_OURS, PARTS)) if (out / name).is_symlink()]
            # A log without a line: a run was killed before it wrote its summary.
            made = (out / LOG).exists() and (out / LOG).stat().st_size > 0
            made = made or any((out / name).exists() for name in (IMAGES, MASKS, PARTS))
        if foreign or links or (made and not (out / SUMMARY).is_file()):
            what = [*([foreign] if foreign else []), *links, "no " + SUMMARY][0]
            raise UsageError(
                f"{out} is not empty, and was not made by `clue forge` ({what!r}).",
                "Name a new or empty folder with --out.",
            )

    def __enter__(self) -> ForgeFolder:
        self._folder.lock(LOCK, f"Another `clue forge` writes to {self._out}.")
        try:
            self._check_settings()
            path = self._out / LOG
            with output_errors(path):
                self.log = ForgeLog(path)
            if self.log.damaged:
                self.log.close()
                raise UsageError(
                    f"{path}, line {self.log.damaged_lines[0]}, is not what `clue forge` writes.",
                    "Name a new folder with --out.",
                )
        except BaseException:
            self._folder.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with output_errors(self._out / LOG):
                self.log.close()
        finally:
            self._folder.release()

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
                "Repeat the former command to resume, or name a new folder with --out.",
            )

    def summarize(self, status: str, asked: int, failures: dict[str, str]) -> None:
        """Write `forge.json`. Raises OutputError."""
        summary = {
            "format": FORMAT,
            "tool": _tool(),
            "status": status,
            "asked": asked,
            "settings": self._settings,
            "counts": {
                "made": len(self.log.done),
                **dict(sorted(self.log.kinds.items())),
                "unusable_photos": len(failures),
            },
            "unusable_photos": [{"photo": photo, "reason": reason} for photo, reason in failures.items()],
            "failed_edits": self.log.failed,
        }
        self._folder.write(SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")


def _failures(entry: Line) -> dict[str, str]:
    return {str(failure["photo"]): str(failure["reason"]) for failure in entry["unreadable"]}


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


def forge_folder(
    paths: Sequence[Path],
    out: Path,
    options: ForgeOptions,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> ForgeRun:
    """Make pictures from the photos below `paths` in `out`; those that an earlier run made are kept.

    Args:
        reporter: receives the events.
        stop: once set, pictures in progress are finished and no others are started.

    Raises:
        NothingToScanError: a path does not exist, there is no photo, or none can be read.
        UsageError: `out` holds something else, or was made with other settings or photos; photos and masks are looked
            for in one folder.
        ToolError: a model of the user's cannot be loaded.
        OutputError: `out` cannot be written.
    """
    reporter, stop = reporter or Reporter(), stop or threading.Event()
    if any(path.is_dir() and path.resolve() == out.resolve() for path in paths):
        raise UsageError(f"{out} holds the photos, which are only read.", "Name another folder with --out.")
    photos = find(paths, hidden=options.hidden, exclude=out)
    masks = Found((), ())
    if options.masks is not None:
        masks = find([options.masks], hidden=options.hidden, exclude=out)
        photos, masks = apart(photos, paths, masks, options.masks)
        if not photos.items:
            raise NothingToScanError(f"All pictures of the photos are masks: they lie in {options.masks}.")
    cutouts, problems = match_masks(photos, masks)
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
    with ForgeFolder(out, settings) as folder:
        failures = dict(photos.failures) | dict(masks.failures)
        for photo, reason in failures.items():
            reporter.note(f"unusable: {photo}: {reason}", "failure")
        for made_before in dict.fromkeys((*photos.left_out, *masks.left_out)):
            reporter.note(f"{made_before} is left out: `clue forge` wrote it.", "warning")
        for line in problems:
            reporter.note(line, "warning")
        known = set(failures)
        failures |= folder.log.failures
        with_masks = f" with {counted(len(cutouts), 'object mask')}" if cutouts else ""
        reporter.note(f"{counted(len(photos.items), 'photo')}{with_masks}")
        before = len(folder.log.done)
        reporter.stage("", "images", max(options.count, before), done=before)
        missing = [number for number in range(options.count) if number not in folder.log.done]
        made, status = 0, "running"
        folder.summarize(status, options.count, failures)
        try:
            for result in _results(job, tools, missing, _workers(options, len(missing)), stop):
                folder.log.add(result)
                made += 1
                for photo, reason in _failures(result).items():
                    if photo not in known:
                        known.add(photo)
                        reporter.note(f"unusable: {photo}: {reason}", "failure")
                failures |= _failures(result)
                reporter.advance()
            status = "finished" if made == len(missing) else "interrupted"
        except BaseException:
            status = "interrupted"
            raise
        finally:
            folder.summarize(status, options.count, failures)
        if folder.log.failed:
            edits = counted(folder.log.failed, "edit")
            reporter.note(f"{edits} failed and others took their place; {LOG} says why (`failed`).", "warning")
        return ForgeRun(status, made, len(folder.log.done) - made, dict(folder.log.kinds), failures)


def _results(job: Job, tools: Tools, numbers: list[int], workers: int, stop: threading.Event) -> Iterator[Line]:
    """The log lines of the pictures in order, made in several processes, each kept busy."""
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
    under_way: deque[Future[Line]] = deque()
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
            "Try fewer --workers or a smaller --max-megapixels. The same command resumes.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _workers(options: ForgeOptions, missing: int) -> int:
    automatic = 1
    if options.inpainter is None and options.autoencoder is None:
        automatic = cores()
    return max(1, min(options.workers or automatic, missing))


def _device(options: ForgeOptions) -> str:
    if options.inpainter is None and options.autoencoder is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _listed(found: Found) -> dict[str, Any]:
    return {"count": len(found.items), "digest": found.digest()}
