"""The score of every image below some paths, computed as a scan computes it, with no results folder.

walk ─ read ─ decode ─ network ─ score
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clue_cli.calibrate.images import ForgeOutputs, expanded
from clue_cli.engine.flow import BYTES_PER_PIXEL, Answer, Flow
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.networks import Network, Unpredicted
from clue_cli.records import FailureCode, FileIdentity
from clue_cli.scan.calibration_file import LeftOut
from clue_cli.scan.options import GifFrames, ScanOptions
from model.calibration import Calibration
from model.predictor import OutOfMemory
from model.verdict import judge


@dataclass(frozen=True, slots=True)
class Scored:
    """One image that counts: where it is, the SHA-256 of its file, its score, its size in 10⁶ pixels."""

    locator: str
    sha256: str
    score: float
    megapixels: float


@dataclass(slots=True)
class Measured:
    """All that was found below some paths, at the end in the order of the walk."""

    images: list[Scored] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    not_pictures: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


T = TypeVar("T")
Place = tuple[int, int]
"""Number of a thing in the walk, and of what came of it."""


@dataclass(frozen=True, slots=True)
class _File:
    number: int
    locator: str
    data: bytes
    identity: FileIdentity


@dataclass(frozen=True, slots=True)
class _First:
    """The first page of a file."""

    place: Place
    photo: Photo
    cost: int

    @property
    def for_network(self) -> NDArray[np.uint8]:
        """Every such page is predicted."""
        return self.photo.pixels


class Scores:
    """Scores the first page of every picture file; of what `clue forge` wrote, only the images of one class.

    The same bytes count once, and so does a file: further pages and copies are not photos of their own, and a promise
    that rests on their number would be false. What a scan would give no verdict on, whatever its score, is left out.

    Args:
        paths: files, folders and archives, which exist.
        options: what is read, and within which limits.
        networks: of the model, one for each device.
        calibration: of the model; how a heatmap becomes a score.
        on_event: called after each image and each thing left out, by one thread at a time.
        warn: called with a sentence about the run as a whole.
        forged: the class of images that is measured.

    Raises:
        UsageError: a list of images cannot be read.
    """

    def __init__(
        self,
        paths: list[Path],
        options: ScanOptions,
        networks: Sequence[Network],
        calibration: Calibration,
        on_event: Callable[[Measured], None],
        warn: Callable[[str], None],
        *,
        forged: bool,
    ) -> None:
        self.paths, self.options, self.on_event = expanded(paths, forged=forged), options, on_event
        # With no score above 1 everything is `no_evidence`, except for what is no subject of a verdict at all.
        self.calibration = replace(calibration.with_thresholds(1.0, 1.0), pixel_threshold=1.0)
        self.outputs = ForgeOutputs(forged=forged)
        self.measured = Measured(notes=self.outputs.notes)
        self.places: tuple[list[Place], list[Place]] = [], []
        self.lock = threading.Lock()
        self.flow = Flow(networks, self.read, self.decode, self.score, warn, lost=None)
        limits = DecodeLimits(max_megapixels=options.max_megapixels, max_pages=options.max_pages)
        self.pool = DecodePool(self.flow.decoders, limits, gif_all_frames=options.gif_frames is GifFrames.ALL)
        self.reader = ArchiveReader()

    def run(self) -> Measured:
        """All of it, whatever was finished first.

        Raises:
            UsageError: the list of a folder of `clue forge` cannot be read.
            ClueError: the network cannot be loaded, or no device is left.
        """
        self.flow.run(self.pool, self.reader)
        return replace(
            self.measured,
            images=_sorted(self.places[0], self.measured.images),
            left_out=_sorted(self.places[1], self.measured.left_out),
        )

    def read(self) -> Iterator[_File]:
        """Read the files that are pictures, each content once."""
        walking = WalkOptions(self.options.hidden, self.options.follow_links, self.options.archive_depth)
        seen: dict[str, str] = {}
        for number, thing in enumerate(walk(self.paths, walking, self.reader)):
            if self.flow.failed:
                return
            if isinstance(thing, ArchiveOpened):
                continue
            if isinstance(thing, Skipped):
                self.measured.skipped += 1
                continue
            if isinstance(thing, Item) and thing.path is not None and not self.outputs.counts(thing.path):
                continue
            content = thing if isinstance(thing, Unreadable) else read_item(thing, self.options.max_file_mib)
            if isinstance(content, NotAPicture):
                self.measured.not_pictures += 1
            elif isinstance(content, Unreadable):
                self.leave_out((number, 0), content.locator, content.code, content.message)
            elif (first := seen.setdefault(content[1].sha256, thing.locator)) != thing.locator:
                self.leave_out((number, 0), thing.locator, "duplicate", f"The same bytes as {first}.")
            else:
                yield _File(number, thing.locator, *content)

    def decode(self, file: _File) -> Iterator[_First]:
        """Send on the first page."""
        for count, page in enumerate(self.pool.decode(file.locator, file.data, file.identity)):
            place = file.number, count
            if isinstance(page, Unreadable):
                self.leave_out(place, page.locator, page.code, page.message)
            elif page.page:
                self.leave_out(place, page.locator, "further_page", f"Page {page.page}, from 0.")
            else:
                cost = page.pixels.size // 3 * BYTES_PER_PIXEL
                self.flow.budget.acquire(cost)
                yield _First(place, page, cost)

    def score(self, page: _First, answer: Answer[_First] | None, device: str) -> None:
        """Judge a page as a scan would."""
        place, photo = page.place, page.photo
        if isinstance(answer, Unpredicted):
            self.leave_out(place, photo.locator, FailureCode.INTERNAL_ERROR, answer.message)
        elif isinstance(answer, OutOfMemory):
            self.leave_out(place, photo.locator, FailureCode.OUT_OF_MEMORY, f"Out of memory: {answer.message}")
        elif answer is not None:
            try:
                pixels, heatmap = photo.displayed(photo.pixels), photo.displayed(answer.heatmap)
                finding = judge(pixels, heatmap, answer.features, self.calibration)
            except ValueError as error:
                self.leave_out(place, photo.locator, FailureCode.NOT_FINITE, f"No verdict: {error}.")
                return
            if finding.verdict == "inconclusive":
                self.leave_out(place, photo.locator, "not_judged", f"Not judged: {finding.reason}.")
                return
            height, width = photo.pixels.shape[:2]
            scored = Scored(photo.locator, photo.file.sha256, finding.score, height * width / 1e6)
            with self.lock:
                self.measured.images.append(scored)
                self.places[0].append(place)
                self.on_event(self.measured)

    def leave_out(self, place: Place, locator: str, code: str, message: str) -> None:
        """Note why something does not count."""
        with self.lock:
            self.measured.left_out.append(LeftOut(locator=locator, code=str(code), message=message))
            self.places[1].append(place)
            self.on_event(self.measured)


def _sorted(places: list[Place], things: list[T]) -> list[T]:
    return [thing for _, thing in sorted(zip(places, things, strict=True), key=itemgetter(0))]
