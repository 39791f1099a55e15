"""The whole of `clue forge`: what is there already, what is missing, and who makes it."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clue_cli.errors import ClueError, NothingToScanError, UsageError
from clue_cli.forging.folder import LOG, ForgeFolder
from clue_cli.forging.options import ForgeOptions
from clue_cli.forging.photos import Found, apart, find, match_masks
from clue_cli.forging.worker import Job, Made, initialize, load_tools, make, start_worker
from clue_cli.machine import cores
from clue_cli.terminal import counted
from model.data.edits.scene import Tools
from model.reporter import Reporter


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
        stop: when it is set, the pictures under way are finished and no more are begun.

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
    matched = match_masks(photos, masks)
    cutouts = matched.cutouts
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
        for line in matched.problems:
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
                for photo, reason in result.failures:
                    if photo not in known:
                        known.add(photo)
                        reporter.note(f"unusable: {photo}: {reason}", "failure")
                failures |= dict(result.failures)
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
        automatic = cores()
    return max(1, min(options.workers or automatic, missing))


def _device(options: ForgeOptions) -> str:
    if options.inpainter is None and options.autoencoder is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _listed(found: Found) -> dict[str, Any]:
    return {"count": len(found.items), "digest": found.digest()}
