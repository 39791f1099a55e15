"""From a person's own photos to the content of `calib.json`.

`Scores` computes the score of every image below some paths as a scan does, with no results folder; `fit` makes the
thresholds of them.

    walk ─ read ─ decode ─ network ─ score ─ fit
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clue_cli import __version__
from clue_cli.engine import BYTES_PER_PIXEL, Answer, Flow
from clue_cli.errors import UsageError
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.networks import Network, Unpredicted
from clue_cli.networks.synthetic import SecondQuestion
from clue_cli.records import FailureCode, FileIdentity
from clue_cli.scan import GifFrames, ScanOptions
from clue_cli.scan.calibration_file import (
    CalibrationFile,
    ForgedPart,
    LeftOut,
    SyntheticCalibrationFile,
    digest_of,
    thresholds,
)
from clue_cli.terminal import printable
from model.calibration import (
    Calibration,
    cross_validated,
    fit_even,
    photos_needed,
    proportion_interval,
    rank,
    rate_bound,
    reliability,
)
from model.checkpoint import Checkpoint
from model.config import ConfigError
from model.datasets.own import find_list
from model.datasets.sample import Sample
from model.device import ran_out_of_memory
from model.images.folders import FORGE_LOG, is_file, is_forge_output
from model.images.lists import LIST_SUFFIXES
from model.predictor import OutOfMemory
from model.reporter import Reporter
from model.synthetic import Method
from model.verdict import judge

FOLDS = 5
MIN_OF_EACH = 2 * FOLDS
"""Images of either kind that the refitted confidence needs: two in every fold of its cross-validation."""


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
    predicted: bool

    @property
    def for_network(self) -> NDArray[np.uint8] | None:
        """Every such page is predicted, if the network is asked at all."""
        return self.photo.pixels if self.predicted else None


class Scores:
    """Scores the first page of every picture file; of what `clue forge` wrote, only the images of one class.

    The same bytes count once, and so does a file: further pages and copies are not photos of their own, and a promise
    that rests on their number would be false. What a scan would give no verdict on, whatever its score, is left out.

    Args:
        paths: files, folders and archives, which exist.
        options: what is read, and within which limits.
        networks: of the model, one for each device; none: the network is not asked.
        calibration: of the model; how a heatmap becomes a score.
        reporter: receives each image and each thing left out.
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
        reporter: Reporter,
        warn: Callable[[str], None],
        *,
        forged: bool,
    ) -> None:
        self.paths, self.options, self.reporter = expanded(paths, forged=forged), options, reporter
        # With no score above 1 everything is `no_evidence`, except what is not judged at all.
        self.calibration = replace(calibration.with_thresholds(1.0, 1.0), pixel_threshold=1.0)
        self.outputs = ForgeOutputs(forged=forged)
        self.measured = Measured(notes=self.outputs.notes)
        self.images: dict[Place, Scored] = {}
        self.left_out: dict[Place, LeftOut] = {}
        self.lock = threading.Lock()
        self.predicted = bool(networks)
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
        images = [self.images[place] for place in sorted(self.images)]
        left_out = [self.left_out[place] for place in sorted(self.left_out)]
        return replace(self.measured, images=images, left_out=left_out)

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
                self.drop((number, 0), content.locator, content.code, content.message)
            elif (first := seen.setdefault(content[1].sha256, thing.locator)) != thing.locator:
                self.drop((number, 0), thing.locator, "duplicate", f"The same bytes as {first}.")
            else:
                yield _File(number, thing.locator, *content)

    def decode(self, file: _File) -> Iterator[_First]:
        """Send on the first page."""
        for count, page in enumerate(self.pool.decode(file.locator, file.data, file.identity)):
            place = file.number, count
            if isinstance(page, Unreadable):
                self.drop(place, page.locator, page.code, page.message)
            elif page.page:
                self.drop(place, page.locator, "further_page", f"Page {page.page}, from 0.")
            else:
                cost = page.pixels.size // 3 * BYTES_PER_PIXEL
                self.flow.budget.acquire(cost)
                yield _First(place, page, cost, self.predicted)

    def score(self, page: _First, answer: Answer[_First] | None, device: str) -> None:
        """Judge a page as a scan would."""
        place, photo = page.place, page.photo
        if isinstance(answer, Unpredicted):
            self.drop(place, photo.locator, FailureCode.INTERNAL_ERROR, answer.message)
        elif isinstance(answer, OutOfMemory):
            self.drop(place, photo.locator, FailureCode.OUT_OF_MEMORY, f"Out of memory: {answer.message}")
        elif answer is not None:
            try:
                pixels, heatmap = photo.displayed(photo.pixels), photo.displayed(answer.heatmap)
                finding = judge(pixels, heatmap, answer.features, self.calibration)
            except ValueError as error:
                self.drop(place, photo.locator, FailureCode.NOT_FINITE, f"No verdict: {error}.")
                return
            if finding.verdict == "inconclusive":
                self.drop(place, photo.locator, "not_judged", f"Not judged: {finding.reason}.")
                return
            self.keep(page, finding.score)

    def keep(self, page: _First, score: float) -> None:
        """Note the score of a page."""
        photo = page.photo
        height, width = photo.pixels.shape[:2]
        with self.lock:
            self.images[page.place] = Scored(photo.locator, photo.file.sha256, score, height * width / 1e6)
            self.reporter.advance(1, f"{len(self.left_out):,} left out")

    def drop(self, place: Place, locator: str, code: str, message: str) -> None:
        """Note why something does not count."""
        with self.lock:
            self.left_out[place] = LeftOut(locator=locator, code=str(code), message=message)
            self.reporter.note(f"left out: {locator}: {message}", "warning")
            self.reporter.advance(0, f"{len(self.left_out):,} left out")


class DetectionScores(Scores):
    """The same by a method of the second question; nothing is scored on which a scan would give no verdict anyway.

    Args:
        detector: gives the scores. The other arguments are those of `Scores`.
    """

    def __init__(
        self,
        paths: list[Path],
        options: ScanOptions,
        detector: SecondQuestion,
        reporter: Reporter,
        warn: Callable[[str], None],
        *,
        forged: bool,
    ) -> None:
        super().__init__(paths, options, [], detector.method.calibration, reporter, warn, forged=forged)
        self.detector = detector

    def score(self, page: _First, answer: Answer[_First] | None, device: str) -> None:
        """Ask the method about a page."""
        place, photo = page.place, page.photo
        if photo.doubt is not None or photo.rows is not None:
            why = photo.doubt or "a part of the picture is missing"
            self.drop(place, photo.locator, "not_judged", f"Not judged: {why}.")
            return
        try:
            score = float(self.detector.detect(photo.pixels).score)
            if not 0 <= score <= 1:
                raise ValueError(f"the score is {score}, which is not from 0 to 1")
        except ValueError as error:
            self.drop(place, photo.locator, "not_judged", f"Not judged: {error}.")
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            self.drop(place, photo.locator, FailureCode.OUT_OF_MEMORY, f"Out of memory: {error}")
        else:
            self.keep(page, score)


def expanded(paths: Iterable[Path], *, forged: bool) -> list[Path]:
    """The paths; in place of each list, its images of one class.

    Raises:
        UsageError: a list cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix.lower() in LIST_SUFFIXES and is_file(path):
            found += [sample.image for sample in _samples(path) if sample.forged == forged]
        else:
            found.append(path)
    return found


class ForgeOutputs:
    """Tells the images that count from the others in the folders that `clue forge` wrote.

    Args:
        forged: whether its forgeries count, or its authentic pictures. Its masks never do.

    Attributes:
        notes: what was left out of each such folder, in words.
    """

    def __init__(self, *, forged: bool) -> None:
        self._forged = forged
        self.notes: list[str] = []
        self._home, self._wanted = cache(self._find_home), cache(self._find_wanted)

    def counts(self, path: Path) -> bool:
        """Whether a file counts; all do that lie elsewhere.

        Raises:
            UsageError: the list of such a folder cannot be read.
        """
        home = self._home(Path(os.path.realpath(path.parent)))
        return home is None or os.path.realpath(path) in self._wanted(home)

    def _find_home(self, folder: Path) -> Path | None:
        if is_forge_output(folder) and is_file(folder / FORGE_LOG):
            return folder
        return None if folder == folder.parent else self._home(folder.parent)

    def _find_wanted(self, home: Path) -> frozenset[str]:
        samples = _samples(home / FORGE_LOG)
        wanted = [sample for sample in samples if sample.forged == self._forged]
        kind, other = ("forged", "authentic") if self._forged else ("authentic", "forged")
        self.notes.append(
            f"{home}: made by `clue forge`; of its images the {len(wanted):,} {kind} ones count, neither its masks nor "
            f"the {len(samples) - len(wanted):,} {other} ones."
        )
        return frozenset(os.path.realpath(sample.image) for sample in wanted)


def _samples(path: Path) -> list[Sample]:
    try:
        return find_list(path).samples
    except ConfigError as error:
        raise UsageError(f"{error}.", "`clue calibrate` takes the lists that `clue eval` takes.") from error


def fit(
    authentic: Measured,
    forged: Measured | None,
    *,
    fpr: float,
    inconclusive_rate: float,
    model: Checkpoint | Method,
    device: str,
    dtype: str,
    runtime: str | None = None,
    paths: tuple[list[str], list[str]],
) -> CalibrationFile:
    """The calibration that these scores make.

    Args:
        authentic: of the authentic photos.
        forged: of the forged images, if there are any.
        fpr: the false-positive rate to promise.
        inconclusive_rate: the share of authentic photos that may be denied `no_evidence`; without forged images only.
        model, device, dtype: what computed the scores, and where.
        runtime: the library that did, with its version; None: torch.
        paths: of the authentic and of the forged images, printable.

    Raises:
        UsageError: too few images, an image on both sides, or scores that do not tell the two kinds apart.
    """
    count = len(authentic.images)
    check_enough(count, fpr)
    scores = sorted(image.score for image in authentic.images)
    part = None if forged is None else _forged_part(authentic, forged, fpr)
    high, low = thresholds(scores, fpr, inconclusive_rate, None if part is None else part.even)
    images = [*authentic.images, *(forged.images if forged else [])]
    sizes = [image.megapixels for image in images]
    place = rank(count, fpr)
    kind: Callable[..., CalibrationFile] = CalibrationFile
    if isinstance(model, Method):
        kind = partial(SyntheticCalibrationFile, method=model.kind)
    made = kind(
        statement="",
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_name=printable(model.name)[:200],
        model_digest=model.digest,
        device=device,
        dtype=dtype,
        runtime=runtime,
        authentic=paths[0],
        forged_paths=paths[1],
        fpr=fpr,
        inconclusive_rate=inconclusive_rate,
        n=count,
        promised_rate=place / (count + 1),
        rate_bound=rate_bound(count, place),
        score_threshold=high,
        no_evidence_below=low,
        megapixels=[min(sizes), max(sizes)],
        scores=scores,
        scores_digest=digest_of(scores),
        photos_digest=hashlib.sha256(
            "".join(f"{sha}\n" for sha in sorted(i.sha256 for i in images)).encode()
        ).hexdigest(),
        forged=part,
        left_out=[*authentic.left_out, *(forged.left_out if forged else [])],
        not_pictures=authentic.not_pictures + (forged.not_pictures if forged else 0),
    )
    return made.model_copy(update={"statement": made.words()})


def check_enough(count: int, fpr: float) -> None:
    """Raises UsageError if this many authentic photos cannot promise this false-positive rate."""
    needed = photos_needed(fpr)
    if count < needed:
        possible = f"{count} can promise 1/{count + 1} at best: --fpr {_up(1 / (count + 1))}." if count else ""
        raise UsageError(
            f"--fpr {fpr:g} needs at least {needed:,} authentic photos, {count:,} could be used.",
            f"{possible} Photos that are copies, too small, or could not be read do not count.".strip(),
        )


def _forged_part(authentic: Measured, forged: Measured, fpr: float) -> ForgedPart:
    if min(len(authentic.images), len(forged.images)) < MIN_OF_EACH:
        raise UsageError(
            f"With --forged at least {MIN_OF_EACH} images of each kind are needed; {len(authentic.images)} authentic "
            f"and {len(forged.images)} forged ones could be used.",
            "Without --forged the threshold is set all the same.",
        )
    known = {image.sha256: image.locator for image in authentic.images}
    both = next((image for image in forged.images if image.sha256 in known), None)
    if both is not None:
        raise UsageError(
            f"{both.locator} among the forged images and {known[both.sha256]} among the authentic ones are the same "
            "bytes.",
            "An image is one or the other: take it away from one of the two.",
        )
    own = sorted(image.score for image in forged.images)
    scores = np.array([*(image.score for image in authentic.images), *own])
    truth = np.arange(scores.size) >= len(authentic.images)
    slope, intercept = fit_even(scores, truth)
    if slope <= 0:
        raise UsageError(
            "The model's scores do not tell these forged images from the authentic photos.",
            "Look whether the two folders were mixed up. Without --forged the threshold is set all the same.",
        )
    figures = reliability(cross_validated(scores, truth, FOLDS), truth, even=True)
    draft = ForgedPart(
        scores=own,
        above=0,
        interval=[0.0, 1.0],
        slope=slope,
        intercept=intercept,
        expected_calibration_error=min(1.0, figures["expected_calibration_error"]),
        brier=min(1.0, figures["brier"]),
    )
    high, _ = thresholds(sorted(scores[~truth].tolist()), fpr, fpr, draft.even)
    above = sum(score > high for score in own)
    return draft.model_copy(update={"above": above, "interval": list(proportion_interval(above, len(own)))})


def _up(rate: float) -> str:
    """A rate in three decimals, rounded up, so that as many photos can promise it."""
    return f"{-(-rate * 1000 // 1) / 1000:g}"
