"""The score of every image below some paths, computed as a scan computes it, with no results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.decode_pool import DecodePool
from clue_cli.evidence.item import ArchiveOpened, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.orientation import displayed_view, stored_view
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.scan.calibration_file import LeftOut
from clue_cli.scan.options import GifFrames, ScanOptions
from clue_cli.scan.records import FailureCode
from model.calibration import Calibration
from model.prediction import OutOfMemory
from model.verdict import judge

if TYPE_CHECKING:
    from model.predictor import Predictor


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


def measure(
    paths: list[Path],
    options: ScanOptions,
    predictor: Predictor,
    calibration: Calibration,
    told: Callable[[Measured], None],
) -> Measured:
    """Score the first page of every picture file.

    The same bytes count once, and so does a file: further pages and copies are not photos of their own, and a promise
    that rests on their number would be false. What a scan would give no verdict on, whatever its score, is left out.

    Args:
        paths: files, folders and archives, which exist.
        options: what is read, and within which limits.
        predictor: of the model.
        calibration: of the model; how a heatmap becomes a score.
        told: called after each image and each thing left out.
    """
    found = Measured()
    # With no score above 1 everything is `no_evidence`, except for what is no subject of a verdict at all.
    lenient = replace(calibration, pixel_threshold=1.0, score_threshold=1.0, no_evidence_below=1.0)
    for prediction in predictor.predict(_views(_photos(paths, options, found, told))):
        photo = prediction.key
        if isinstance(prediction, OutOfMemory):
            _leave_out(found, photo.locator, FailureCode.OUT_OF_MEMORY, f"Out of memory: {prediction.message}", told)
            continue
        try:
            finding = judge(photo.pixels, displayed_view(prediction.heatmap, photo.orientation), lenient)
        except ValueError as error:
            _leave_out(found, photo.locator, FailureCode.NOT_FINITE, f"No verdict: {error}.", told)
            continue
        if finding.verdict == "inconclusive":
            _leave_out(found, photo.locator, "not_judged", f"Not judged: {finding.reason}.", told)
            continue
        height, width = photo.pixels.shape[:2]
        found.images.append(Scored(photo.locator, photo.file.sha256, finding.score, height * width / 1e6))
        told(found)
    return found


def _views(photos: Iterable[Photo]) -> Iterator[tuple[Photo, NDArray[np.uint8]]]:
    return ((photo, stored_view(photo.pixels, photo.orientation)) for photo in photos)


def _photos(
    paths: list[Path], options: ScanOptions, found: Measured, told: Callable[[Measured], None]
) -> Iterator[Photo]:
    """The first page of every picture file; everything else is counted in `found`."""
    walking = WalkOptions(options.hidden, options.follow_links, options.archive_depth)
    limits = DecodeLimits(max_megapixels=options.max_megapixels, max_pages=options.max_pages)
    seen: dict[str, str] = {}
    with DecodePool(1, limits, gif_all_frames=options.gif_frames is GifFrames.ALL) as pool:
        for thing in walk(paths, walking):
            if isinstance(thing, ArchiveOpened):
                continue
            if isinstance(thing, Skipped):
                found.skipped += 1
                continue
            content = thing if isinstance(thing, Unreadable) else read_item(thing, options.max_file_mib)
            if isinstance(content, NotAPicture):
                found.not_pictures += 1
            elif isinstance(content, Unreadable):
                _leave_out(found, content.locator, content.code, content.message, told)
            else:
                data, identity = content
                if (first := seen.setdefault(identity.sha256, thing.locator)) != thing.locator:
                    _leave_out(found, thing.locator, "duplicate", f"The same bytes as {first}.", told)
                    continue
                for page in pool.decode(thing.locator, data, identity):
                    if isinstance(page, Unreadable):
                        _leave_out(found, page.locator, page.code, page.message, told)
                    elif page.page:
                        _leave_out(found, page.locator, "further_page", f"Page {page.page}, from 0.", told)
                    else:
                        yield page


def _leave_out(found: Measured, locator: str, code: str, message: str, told: Callable[[Measured], None]) -> None:
    found.left_out.append(LeftOut(locator=locator, code=str(code), message=message))
    told(found)
