"""The middle of a scan: from the bytes of a file to records and pictures, in this process or in a worker of a cluster.

Encoded ─ decode ─ Page ─ network ─ finish ─ Output
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clue_cli.engine import BYTES_PER_PIXEL, Answer, Budget
from clue_cli.evidence.item import Photo, Unreadable
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.networks import Unpredicted
from clue_cli.records import (
    ErrorRates,
    FailureCode,
    FailureRecord,
    FileIdentity,
    Finding,
    ImageRecord,
    ModelInfo,
    Question,
    Step,
)
from clue_cli.results.pictures import (
    PANEL_BYTES_PER_PIXEL,
    PANEL_MEGAPIXELS,
    encode_heatmap,
    encode_mask,
    encode_overlay,
    encode_panels,
    encode_pixels,
    encode_previews,
    hatched,
)
from clue_cli.scan.assemble import doubted, failure_record, image_record
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.synthetic import second_answer
from model.calibration import Calibration
from model.predictor import OutOfMemory, Prediction
from model.preset import TileSpec
from model.query import Query
from model.synthetic import Method
from model.verdict import judge

SECOND_BYTES_PER_PIXEL = 12
"""Of one image of which the second question is asked: 4 of its heatmap, and what encoders copy."""

LARGE = 1_000_000
"""Pixels from which a thread of its own encodes the heatmap: about 20 ms a megapixel."""

NOT_COMPUTED = "Everything else was scanned; --retry-failed tries it again."
"""Advice about what could not be computed for no reason of its own."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of one picture file, read once, on their way to a decoder.

    Attributes:
        seconds: that reading took.
    """

    locator: str
    data: bytes
    identity: FileIdentity
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a file before `finish`, or the failure that it, or the file, has ended in."""

    content: Photo | FailureRecord
    cost: int = 0

    @property
    def for_network(self) -> NDArray[np.uint8] | None:
        """Every page is predicted, as far as it is there."""
        return self.content.examined if isinstance(self.content, Photo) else None


@dataclass(frozen=True, slots=True)
class Output:
    """What is written about one page: plain values alone, since a worker sends it to the driver.

    Attributes:
        record: but for what only the results folder knows: names, run, digest.
        pictures: files, by their fields in `OutputPaths`; those of a failure: none.
    """

    record: ImageRecord | FailureRecord
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def for_network(self) -> None:
        """A network has seen it, or need not."""

    @property
    def cost(self) -> int:
        """Bytes of the pictures."""
        return sum(map(len, self.pictures.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPart:
    """What a scan does with each file that it has read (`engine.Part`).

    Attributes:
        limits: what one picture may cost to decode.
        all_frames: whether all frames of an animation are pages.
        model: for the records; device and seed are those of each prediction.
        tile: how the network cuts a picture.
        calibration: as used.
        own: the calibration file that it came from, if it is not the model's.
        method: that answers the second question; None: it is not asked.
        own_second: the calibration file that was given for the method, if any.
        query: what is asked, if anything.
        error_rates: of this run, for the plain words.
        heatmaps, previews, panels: which pictures are made beside the mask.
    """

    limits: DecodeLimits
    all_frames: bool
    model: ModelInfo
    tile: TileSpec
    calibration: Calibration
    own: OwnCalibration | None = None
    method: Method | None = None
    own_second: OwnCalibration | None = None
    query: Query | None = None
    error_rates: dict[Question, ErrorRates] = field(default_factory=dict)
    heatmaps: bool = True
    previews: bool = True
    panels: bool = False

    def open(self, decoders: int) -> DecodePool:
        """The decoding processes."""
        return DecodePool(decoders, self.limits, gif_all_frames=self.all_frames, as_evidence=True)

    def decode(self, item: Encoded, pool: DecodePool, budget: Budget) -> Iterator[Page]:
        """Have a file decoded in another process, page by page."""
        found = pool.decode(item.locator, item.data, item.identity, item.findings)
        for number, page in enumerate(found):
            if isinstance(page, Unreadable):
                yield Page(failure_record(page, other_pages=number))
            else:
                cost = self._cost(page)
                budget.acquire(cost)
                yield Page(replace(page, seconds_read=item.seconds), cost)

    def finish(self, work: Page, answer: Answer[Any] | None, device: str) -> Output:
        """Judge a page and make its record and pictures; what fails becomes the record."""
        photo = work.content
        if isinstance(photo, FailureRecord):
            return Output(photo)
        if isinstance(answer, Unpredicted):
            return Output(_failed(photo, Step.PREDICT, FailureCode.INTERNAL_ERROR, answer.message, NOT_COMPUTED))
        if isinstance(answer, OutOfMemory):
            advice = "Free memory or scan on a machine with more; everything else was scanned."
            message = f"Out of memory: {answer.message}"
            return Output(_failed(photo, Step.PREDICT, FailureCode.OUT_OF_MEMORY, message, advice))
        assert answer is not None  # the network answers every photo
        try:
            return self._judged(photo, answer, device)
        except MemoryError:
            return Output(unwritten(photo))

    def _judged(self, photo: Photo, prediction: Prediction[Any], device: str) -> Output:
        started = time.perf_counter()
        pixels, heatmap = photo.displayed(photo.examined), photo.displayed(prediction.heatmap)
        try:
            judgment = doubted(judge(pixels, heatmap, prediction.features, self.calibration), photo, self.query)
        except ValueError as error:
            return Output(_failed(photo, Step.PREDICT, FailureCode.NOT_FINITE, f"No verdict: {error}."))
        said, second = prediction.synthetic, None
        if self.method is not None and said is not None:
            second = second_answer(said, self.method, photo, self.own_second)
        pictures = self._pictures(photo, heatmap, judgment.mask, None if second is None else second.heatmap)
        panels, missing = encode_panels(photo) if self.panels else ({}, [])
        record = image_record(
            photo,
            prediction,
            judgment,
            model=self.model.model_copy(update={"device": device}),
            calibration=self.calibration,
            own=self.own,
            tile=self.tile,
            missing=missing,
            query=self.query,
            synthetic=second,
            error_rates=self.error_rates,
            seconds_write=time.perf_counter() - started,
        )
        return Output(record, pictures | panels)

    def _pictures(
        self,
        photo: Photo,
        heatmap: NDArray[np.float32],
        mask: NDArray[np.bool_],
        second: NDArray[np.float32] | None,
    ) -> dict[str, bytes]:
        """The pictures of a photo but for panels; arrays as displayed, of what was examined."""
        heatmap, mask = photo.in_full(heatmap), photo.in_full(mask)
        made = {"mask": encode_mask(mask)}
        with ThreadPoolExecutor(1, "clue-heatmap") as aside:
            later = None
            if self.heatmaps:
                made["heatmap"] = b""  # its place, whenever it is ready
                with suppress(RuntimeError):  # no thread can be started
                    later = aside.submit(encode_heatmap, heatmap) if heatmap.size >= LARGE else None
            if self.previews:
                not_examined = [photo.box_of_rows(*rows) for rows in photo.not_examined]
                made |= encode_previews(hatched(photo.displayed(photo.pixels), not_examined), heatmap, mask)
                if photo.thumbnail is not None:
                    made["embedded_thumbnail"] = encode_pixels(photo.displayed(photo.thumbnail))
            if self.heatmaps:
                made["heatmap"] = encode_heatmap(heatmap) if later is None else later.result()
        if second is not None:
            second = photo.in_full(second)
            if self.heatmaps:
                made["synthetic_heatmap"] = encode_heatmap(second)
            if self.previews:
                made["synthetic_overlay"] = encode_overlay(second)
        return made

    def _cost(self, photo: Photo) -> int:
        pixels = photo.pixels.size // 3
        own = PANEL_BYTES_PER_PIXEL if self.panels and pixels <= PANEL_MEGAPIXELS * 1e6 else 0
        second = 0 if self.method is None else SECOND_BYTES_PER_PIXEL
        return pixels * (BYTES_PER_PIXEL + own + second)


def unwritten(of: Photo | ImageRecord) -> FailureRecord:
    """The failure of a page for whose results memory does not suffice."""
    message, advice = "Out of memory while the results were written.", "Scan it on a machine with more."
    return _failed(of, Step.WRITE, FailureCode.OUT_OF_MEMORY, message, advice)


def _failed(
    of: Photo | ImageRecord, step: Step, code: FailureCode, message: str, advice: str | None = None
) -> FailureRecord:
    return failure_record(Unreadable(of.locator, step, code, message, advice, of.file, of.page, of.page_count))
