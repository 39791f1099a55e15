"""The score of every image below some paths, computed as a scan computes it, with no results folder.

    walk ─ read ─ decode ─ channel ─ network ─ score

One thread reads and has files decoded ahead of the network, which runs in the caller's; what is in memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clue_cli.calibrate.images import ForgeOutputs, expanded
from clue_cli.engine.channel import Budget, Channel
from clue_cli.engine.threads import Threads
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.records import FailureCode
from clue_cli.scan.calibration_file import LeftOut
from clue_cli.scan.options import GifFrames, ScanOptions
from clue_cli.scan.pipeline import BYTES_PER_PIXEL, PIXEL_BUDGET
from model.calibration import Calibration
from model.prediction import OutOfMemory, Prediction
from model.verdict import judge

if TYPE_CHECKING:
    from model.predictor import Predictor

AHEAD = 8
"""Things that are read before they are needed."""

Read = Photo | LeftOut | NotAPicture | Skipped


@dataclass(frozen=True, slots=True)
class Scored:
    """One image that counts: where it is, the SHA-256 of its file, its score, its size in 10⁶ pixels."""

    locator: str
    sha256: str
    score: float
    megapixels: float


@dataclass(slots=True)
class Measured:
    """All that was found below some paths."""

    images: list[Scored] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    not_pictures: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


def measure(
    paths: list[Path],
    options: ScanOptions,
    predictor: Predictor,
    calibration: Calibration,
    on_event: Callable[[Measured], None],
    *,
    forged: bool,
) -> Measured:
    """Score the first page of every picture file; of what `clue forge` wrote, only the images of one class.

    The same bytes count once, and so does a file: further pages and copies are not photos of their own, and a promise
    that rests on their number would be false. What a scan would give no verdict on, whatever its score, is left out.

    Args:
        paths: files, folders and archives, which exist.
        options: what is read, and within which limits.
        predictor: of the model.
        calibration: of the model; how a heatmap becomes a score.
        on_event: called after each image and each thing left out.
        forged: the class of images that is measured.

    Raises:
        UsageError: a list of images cannot be read.
    """
    outputs = ForgeOutputs(forged=forged)
    paths = expanded(paths, forged=forged)
    found = Measured(notes=outputs.notes)
    ahead: Channel[Read] = Channel(AHEAD)
    budget = Budget(PIXEL_BUDGET)
    threads = Threads(ahead, budget)
    limits = DecodeLimits(max_megapixels=options.max_megapixels, max_pages=options.max_pages)
    # With no score above 1 everything is `no_evidence`, except for what is no subject of a verdict at all.
    lenient = replace(calibration.with_thresholds(1.0, 1.0), pixel_threshold=1.0)
    with DecodePool(1, limits, gif_all_frames=options.gif_frames is GifFrames.ALL) as pool:
        threads.start("clue-calibrate-read", lambda: _read(paths, options, outputs, pool, ahead, budget), ahead)
        with threads.guarded():
            for prediction in predictor.predict(_images(ahead, found, on_event)):
                _score(prediction, lenient, found)
                budget.release(_cost(prediction.key))
                on_event(found)
        if threads.errors:
            pool.close()  # who waits for the decoder stops waiting
        threads.join()
    threads.raise_first()
    return found


def _score(prediction: Prediction[Photo] | OutOfMemory[Photo], calibration: Calibration, found: Measured) -> None:
    photo = prediction.key
    if isinstance(prediction, OutOfMemory):
        message = f"Out of memory: {prediction.message}"
        found.left_out.append(_left_out(photo.locator, FailureCode.OUT_OF_MEMORY, message))
        return
    try:
        pixels, heatmap = photo.displayed(photo.pixels), photo.displayed(prediction.heatmap)
        finding = judge(pixels, heatmap, prediction.features, calibration)
    except ValueError as error:
        found.left_out.append(_left_out(photo.locator, FailureCode.NOT_FINITE, f"No verdict: {error}."))
        return
    if finding.verdict == "inconclusive":
        found.left_out.append(_left_out(photo.locator, "not_judged", f"Not judged: {finding.reason}."))
        return
    height, width = photo.pixels.shape[:2]
    found.images.append(Scored(photo.locator, photo.file.sha256, finding.score, height * width / 1e6))


def _images(
    ahead: Channel[Read], found: Measured, on_event: Callable[[Measured], None]
) -> Iterator[tuple[Photo, NDArray[np.uint8]] | None]:
    """The photos for the network, as stored; everything else is counted in `found`."""
    for thing in ahead:
        if isinstance(thing, Photo):
            yield thing, thing.pixels
        elif isinstance(thing, LeftOut):
            found.left_out.append(thing)
            on_event(found)
        elif isinstance(thing, NotAPicture):
            found.not_pictures += 1
        else:
            found.skipped += 1
        if not ahead.ready():
            yield None  # the next photo may wait for the memory of this one


def _read(
    paths: list[Path],
    options: ScanOptions,
    outputs: ForgeOutputs,
    pool: DecodePool,
    ahead: Channel[Read],
    budget: Budget,
) -> None:
    """Send on the first page of every picture file, and what is none."""
    walking = WalkOptions(options.hidden, options.follow_links, options.archive_depth)
    seen: dict[str, str] = {}
    for thing in walk(paths, walking):
        if isinstance(thing, ArchiveOpened):
            continue
        if isinstance(thing, Skipped):
            ahead.put(thing)
            continue
        if isinstance(thing, Item) and thing.path is not None and not outputs.counts(thing.path):
            continue
        content = thing if isinstance(thing, Unreadable) else read_item(thing, options.max_file_mib)
        if isinstance(content, NotAPicture):
            ahead.put(content)
        elif isinstance(content, Unreadable):
            ahead.put(_left_out(content.locator, content.code, content.message))
        else:
            data, identity = content
            if (first := seen.setdefault(identity.sha256, thing.locator)) != thing.locator:
                ahead.put(_left_out(thing.locator, "duplicate", f"The same bytes as {first}."))
                continue
            for page in pool.decode(thing.locator, data, identity):
                if isinstance(page, Unreadable):
                    ahead.put(_left_out(page.locator, page.code, page.message))
                elif page.page:
                    ahead.put(_left_out(page.locator, "further_page", f"Page {page.page}, from 0."))
                else:
                    budget.acquire(_cost(page))
                    ahead.put(page)


def _cost(photo: Photo) -> int:
    return photo.pixels.size // 3 * BYTES_PER_PIXEL


def _left_out(locator: str, code: str, message: str) -> LeftOut:
    return LeftOut(locator=locator, code=str(code), message=message)
