"""The whole flow of a scan, on one page.

    walk ─ read and hash ─ known from an earlier run? ─┬─ yes: taken over
     │                                                 └─ no:  decode ─ network ─ verdict ─ pictures ─ record
     └─ what cannot be read ──────────────────────────────────────────────────────────────────────── record

Four kinds of threads, joined by bounded channels, so that reading, decoding, the network and writing overlap and
memory stays flat: one reads, some wait for decoding processes, the caller's runs the network, one or more write. With
several devices each has a network of its own and a thread here that feeds it; all share the photos.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clue_cli.engine.channel import Aborted, Budget, Channel, Pending
from clue_cli.engine.threads import Threads
from clue_cli.errors import ClueError, ExitCode, OutputError
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.identity import sha256_file
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.walk import WalkOptions, check_paths, walk
from clue_cli.networks import Network, NetworkLost, Unpredicted, networks_for
from clue_cli.networks.find import find_devices, find_model
from clue_cli.records import FailureCode, FailureRecord, FileIdentity, ModelInfo, RunRecord, Step
from clue_cli.report.html import write_report
from clue_cli.results.folder import output_errors
from clue_cli.results.resume import ResumeIndex
from clue_cli.results.scan_store import ResultStore
from clue_cli.scan.assemble import failure_record, image_record, photo_failure, uncalibrated
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.calibration_file import load as load_calibration
from clue_cli.scan.options import GifFrames, ScanOptions
from clue_cli.scan.panels import BYTES_PER_PIXEL as PANEL_BYTES_PER_PIXEL
from clue_cli.scan.panels import MAX_MEGAPIXELS as PANEL_MEGAPIXELS
from clue_cli.scan.run_log import RunLog
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.prediction import OutOfMemory, Prediction
from model.reporter import Reporter
from model.verdict import judge

PIXEL_BUDGET = 1200 * 1024 * 1024
"""Bytes of pixels and heatmaps in memory at once, from behind the decoder to the writer; each decoder may hold the
pixels of one more image that waits to be let in."""

BYTES_PER_PIXEL = 20
"""Of one image on its way: 3 of pixels, 4 of heatmap, 1 of mask, up to 4 of region labels, and what encoders copy."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of one picture file, read once, on their way to a decoder."""

    item: Item
    data: bytes
    identity: FileIdentity
    seconds: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """One page of a file, on its way to the network."""

    photo: Photo
    file: Pending


@dataclass(frozen=True, slots=True)
class Predicted:
    """A page and what the network said of it, on their way to the writer."""

    photo: Photo
    file: Pending
    prediction: Prediction[Decoded] | OutOfMemory[Decoded] | Unpredicted[Decoded]
    device: str


def scan(
    paths: list[Path], out: Path, options: ScanOptions, progress: Reporter, stop: threading.Event | None = None
) -> RunRecord:
    """Scan evidence and write the results folder.

    Args:
        paths: files, folders and archives.
        out: the results folder.
        options: what the person chose.
        progress: receives the events.
        stop: set to end the scan early; what is finished stays recorded, and the same call resumes.

    Returns:
        The run as `run.json` says it; `status` is `interrupted` if `stop` cut it short.

    Raises:
        NothingToScanError: a path does not exist.
        WeightsError: the model is missing or damaged.
        UsageError: no such device; a calibration that cannot be used; evidence and results folder overlap.
        OutputError: the results folder cannot be written.
    """
    check_paths(paths)
    checkpoint = find_model(options.model)
    own = None if options.calibration is None else load_calibration(options.calibration, checkpoint.digest)
    devices, dtype = find_devices(options, options.dtype if own is None else own.dtype(options.dtype))
    calibration = checkpoint.calibration if own is None else own.applied_to(checkpoint.calibration)
    if options.threshold is not None:
        calibration = replace(calibration, pixel_threshold=options.threshold)
    stop = stop or threading.Event()
    with ResultStore(out, paths) as store:
        number_format = str(dtype).removeprefix("torch.")
        log = RunLog(paths, options, checkpoint, calibration, ",".join(devices), number_format, progress, own)
        for warning in [
            *store.begin(log.run, log.stamp, overwrite=options.overwrite),
            *(own.warnings(devices[0]) if own else uncalibrated(calibration)),
            *([printable(checkpoint.note)] if checkpoint.note else []),
        ]:
            log.warn(warning)
        log.begin()
        networks = networks_for(checkpoint, devices, dtype, options, log.warn)
        flow = _Flow(paths, out, options, checkpoint, calibration, own, store, log, stop, networks)
        with _failing_visibly(store, log):
            flow.run()
            log.close("interrupted" if stop.is_set() else "finished")
            log.run = store.finish(log.run)
            with output_errors(out):
                write_report(out, log.run, store.records())
    log.summarize(out)
    return log.run


@contextmanager
def _failing_visibly(store: ResultStore, log: RunLog) -> Iterator[None]:
    """Let `run.json` say how a run ended that did not come to its end."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            log.close("interrupted")
        else:
            log.close("failed", error.exit_code if isinstance(error, ClueError) else ExitCode.INTERNAL_ERROR)
        try:
            store.write_run(log.run)
        except OutputError:
            log.warn("run.json could not be written; it says less than this message.")
        raise


class _Flow:
    """The threads of one scan and what they share."""

    def __init__(
        self,
        paths: list[Path],
        out: Path,
        options: ScanOptions,
        checkpoint: Checkpoint,
        calibration: Calibration,
        own: OwnCalibration | None,
        store: ResultStore,
        log: RunLog,
        stop: threading.Event,
        networks: list[Network],
    ) -> None:
        self.paths, self.out, self.options, self.stop = paths, out, options, stop
        self.calibration, self.own, self.store, self.log = calibration, own, store, log
        self.tile = checkpoint.preset.tile
        self.model = ModelInfo(
            name=printable(checkpoint.name),
            digest=checkpoint.digest,
            device=log.device,
            dtype=log.dtype,
            noise_schedule=checkpoint.preset.noise.schedule,
            noise_levels=log.noise_levels,
            seed=0,
            calibration=calibration.name,
            calibration_sha256=None if own is None else own.sha256,
        )
        cores = os.cpu_count() or 1
        self.networks, count = networks, len(networks)
        self.decoders = options.workers or max(1, min(4 * count, cores // 2))
        self.writers = max(1, min(4 * count, cores // 2))
        self.encoded: Channel[Encoded] = Channel(2)
        self.decoded: Channel[Decoded] = Channel(32, self.decoders + count)
        self.predicted: Channel[Predicted] = Channel(32)
        self.budget = Budget(PIXEL_BUDGET)
        self.archives: list[tuple[ArchiveOpened, str]] = []
        self.threads = Threads(self.encoded, self.decoded, self.predicted, self.budget, *networks)
        self.lost: list[str] = []

    def run(self) -> None:
        """Run all steps to the end, or to the first error, which is raised."""
        limits = DecodeLimits(max_megapixels=self.options.max_megapixels, max_pages=self.options.max_pages)
        all_frames = self.options.gif_frames is GifFrames.ALL
        with DecodePool(self.decoders, limits, gif_all_frames=all_frames) as pool:
            self.threads.start("clue-read", self.read, self.encoded)
            for _ in range(self.decoders):
                self.threads.start("clue-decode", lambda: self.decode(pool), self.decoded)
            for _ in range(self.writers):
                self.threads.start("clue-write", self.write)
            with self.threads.guarded():
                if len(self.networks) == 1:
                    self.share(self.networks[0])
                else:
                    threads = [self.threads.start("clue-network", partial(self.share, n)) for n in self.networks]
                    for thread in threads:
                        thread.join()
                self.predicted.close()
            if self.threads.errors:
                pool.close()  # whoever waits for a decoder stops waiting
            self.threads.join()
        self.threads.raise_first()

    def read(self) -> None:
        """Walk the evidence, read every file once, and send on what is a picture and not known yet."""
        resume = self.store.resume(retry_failed=self.options.retry_failed)
        options = WalkOptions(
            hidden=self.options.hidden,
            follow_links=self.options.follow_links,
            archive_depth=self.options.archive_depth,
            exclude=self.out,
            results=self.options.include_results,
        )
        for thing in walk(self.paths, options):
            if self.stop.is_set() or self.threads.errors:
                return
            if isinstance(thing, ArchiveOpened):
                self.log.archive_opened()
                self._hash_archive(thing)
            elif isinstance(thing, Skipped):
                self.log.skipped(thing.reason, thing.locator)
            elif isinstance(thing, Unreadable):
                self.log.found()
                self.fail(failure_record(thing))
                self.log.file_done()
            else:
                self.log.found()
                self._read_one(thing, resume)
        self.log.found_all()
        for archive, before in self.archives:
            if archive.path is not None and not self.threads.errors:
                self._check_unchanged(archive.locator, archive.path, before)

    def _hash_archive(self, archive: ArchiveOpened) -> None:
        if archive.path is None:
            return
        try:
            before = sha256_file(archive.path)
        except OSError as error:
            self.log.not_hashed(archive.locator, error.strerror or str(error))
            return
        self.archives.append((archive, before))
        self.log.archive_hashed(archive.locator, before)

    def _read_one(self, item: Item, resume: ResumeIndex) -> None:
        started = time.perf_counter()
        content = read_item(item, self.options.max_file_mib)
        if isinstance(content, NotAPicture):
            self.log.not_a_picture(content.extension)
        elif isinstance(content, Unreadable):
            self.fail(failure_record(content))
            self.log.file_done()
        else:
            data, identity = content
            if resume.holds_other_bytes(item.locator, identity.sha256):
                self.log.replaced(item.locator)
            known = resume.lookup(item.locator, identity.sha256)
            if known is not None:
                for record in known:
                    self.log.record(record, resumed=True)
                self.log.file_done()
            else:
                self.encoded.put(Encoded(item, data, identity, time.perf_counter() - started))

    def decode(self, pool: DecodePool) -> None:
        """Have files decoded in another process, page by page."""
        for encoded in self.encoded:
            item = encoded.item
            file, pages = Pending(self.log.file_done), 0
            for page in pool.decode(item.locator, encoded.data, encoded.identity, item.findings):
                if isinstance(page, Unreadable):
                    self.fail(failure_record(page, other_pages=pages))
                else:
                    self.budget.acquire(self._cost(page))
                    self.decoded.put(Decoded(replace(page, seconds_read=encoded.seconds), file.add()))
                pages += 1
            if item.path is not None:
                self._check_unchanged(item.locator, item.path, encoded.identity.sha256, encoded.identity, pages)
            file.done()

    def _check_unchanged(
        self, locator: str, path: Path, before: str, identity: FileIdentity | None = None, pages: int = 0
    ) -> None:
        """Evidence is read-only: hashed before, when it was read, and after."""
        try:
            after = sha256_file(path)
        except OSError as error:
            after = f"unreadable ({error.strerror})"
        if after != before:
            self.log.evidence_changed(locator)
            message = f"The file changed while it was being scanned: SHA-256 {before} before, {after} after."
            what = Unreadable(locator, Step.READ, FailureCode.CHANGED_DURING_SCAN, message, file=identity)
            self.fail(failure_record(what, other_pages=pages))

    def predict(self, network: Network) -> None:
        """Run a network over the photos, once the first has arrived."""
        first = self.decoded.take()
        if first is None:
            return

        def images() -> Iterator[tuple[Decoded, NDArray[np.uint8]] | None]:
            page: Decoded | None = first
            while page is not None:
                if self.stop.is_set():
                    self.budget.release(self._cost(page.photo))
                else:
                    yield page, page.photo.pixels
                page = self.decoded.poll()
                if page is None:
                    # The next image may wait for the memory of this one: what is begun must not wait for the next.
                    yield None
                    page = self.decoded.take()

        warned = False
        for prediction in network.predict(images()):
            self.predicted.put(Predicted(prediction.key.photo, prediction.key.file, prediction, network.device))
            if network.batch < network.asked and not warned:
                warned = True
                where, now = network.device, network.batch
                self.log.warn(f"Memory ran out on {where}: {now} tiles are computed at once from here on.")

    def share(self, network: Network) -> None:
        """Run one of several networks over its share of the photos; what it cannot compute is left to the others."""
        try:
            self.predict(network)
        except NetworkLost as error:
            self.lost.append(network.device)
            if len(self.lost) == len(self.networks):
                advice = "What was finished is recorded; the same command goes on from there."
                raise ClueError(f"{error}. No device is left.", advice) from error
            self.log.warn(f"{error}. {network.device} is given up; the others go on.")
            self.decoded.give_back(error.keys)
            self.decoded.close()

    def write(self) -> None:
        """Judge, write the pictures, then the record."""
        for predicted in self.predicted:
            photo, prediction = predicted.photo, predicted.prediction
            if isinstance(prediction, Unpredicted):
                advice = "Everything else was scanned; --retry-failed tries it again."
                failure = photo_failure(photo, Step.PREDICT, FailureCode.INTERNAL_ERROR, prediction.message, advice)
                self.fail(failure)
            elif isinstance(prediction, OutOfMemory):
                advice = "Free memory or scan on a machine with more; everything else was scanned."
                message = f"Out of memory: {prediction.message}"
                self.fail(photo_failure(photo, Step.PREDICT, FailureCode.OUT_OF_MEMORY, message, advice))
            else:
                try:
                    self._write_one(photo, prediction, predicted.device)
                except MemoryError:
                    message, advice = "Out of memory while the results were written.", "Scan it on a machine with more."
                    self.fail(photo_failure(photo, Step.WRITE, FailureCode.OUT_OF_MEMORY, message, advice))
            self.budget.release(self._cost(photo))
            predicted.file.done()

    def _write_one(self, photo: Photo, prediction: Prediction[Decoded], device: str) -> None:
        started = time.perf_counter()
        pixels, heatmap = photo.displayed(photo.pixels), photo.displayed(prediction.heatmap)
        try:
            finding = judge(pixels, heatmap, prediction.features, self.calibration)
        except ValueError as error:
            self.fail(photo_failure(photo, Step.PREDICT, FailureCode.NOT_FINITE, f"No verdict: {error}."))
            return
        outputs = self.store.outputs(
            photo.locator,
            photo.page,
            photo.page_count,
            heatmap=self.options.heatmaps,
            previews=self.options.previews,
            panels=self.options.panels,
        )
        self.store.write_previews(outputs, pixels, heatmap, finding.mask)
        outputs, missing = self.store.write_panels(outputs, photo)
        record = image_record(
            photo,
            prediction,
            finding,
            outputs=outputs,
            model=self.model.model_copy(update={"device": device}),
            calibration=self.calibration,
            own=self.own,
            tile=self.tile,
            missing=missing,
            seconds_write=time.perf_counter() - started,
        )
        self.log.record(self.store.write_image(record, finding.mask, heatmap))

    def fail(self, record: FailureRecord) -> None:
        """Record a failure and go on."""
        if self.threads.errors:  # the run is being cut short: what fails now fails because of that
            raise Aborted
        self.log.record(self.store.write_failure(record))

    def _cost(self, photo: Photo) -> int:
        pixels = photo.pixels.size // 3
        own = PANEL_BYTES_PER_PIXEL if self.options.panels and pixels <= PANEL_MEGAPIXELS * 1e6 else 0
        return pixels * (BYTES_PER_PIXEL + own)
