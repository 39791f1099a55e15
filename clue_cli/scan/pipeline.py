"""A scan: from evidence to a results folder, through the flow of `engine`.

walk ─ read and hash ─ known from an earlier run? ─┬─ yes: taken over
 │                                                 └─ no:  decode ─ network ─ verdict ─ pictures ─ record
 └─ what cannot be read ──────────────────────────────────────────────────────────────────────── record
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clue_cli.engine import BYTES_PER_PIXEL, Answer, Flow, Pending
from clue_cli.errors import Aborted, ClueError, ExitCode, OutputError, UsageError
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Photo, Skipped, Unreadable
from clue_cli.evidence.reader import read_item, sha256_file, sha256_stream
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.streams import ArchiveLimits, DecodeLimits, ReadFailure
from clue_cli.evidence.walk import WalkOptions, check_paths, walk
from clue_cli.machine import library_versions
from clue_cli.networks import DType, Network, Unpredicted, find_devices, find_method, find_model, networks_for
from clue_cli.records import FailureCode, FailureRecord, FileIdentity, ModelInfo, RunRecord, Step
from clue_cli.remote import Url
from clue_cli.report import write_report
from clue_cli.results.folder import output_errors
from clue_cli.results.pictures import PANEL_BYTES_PER_PIXEL, PANEL_MEGAPIXELS, hatched
from clue_cli.results.record_log import ResumeIndex
from clue_cli.results.scan_store import ResultStore
from clue_cli.scan import GifFrames, ScanOptions
from clue_cli.scan.assemble import (
    alert_finding,
    doubted,
    failure_record,
    image_record,
    query_warnings,
    says_alert,
    uncalibrated,
)
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.calibration_file import load as load_calibration
from clue_cli.scan.run_log import RunLog
from clue_cli.scan.synthetic import second_answer, uncalibrated_method
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.predictor import OutOfMemory, Prediction
from model.query import Query, asked
from model.reporter import Reporter
from model.synthetic import Method
from model.verdict import judge

SECOND_BYTES_PER_PIXEL = 12
"""Of one image of which the second question is asked: 4 of its heatmap, and what encoders copy."""

WEAK_HASHES = (
    "The list of --known has MD5 or SHA-1 hashes. A file can be made that has the hash of a harmless one, and it is "
    "left out; a list of SHA-256 is safe from that."
)

ONE_VERSION = (
    "Objects of a store were read once, in the version that its listing named, and were not compared again after the "
    "scan as files on disk are."
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of one picture file, read once, on their way to a decoder."""

    item: Item
    data: bytes
    identity: FileIdentity
    seconds: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """One page of a file between the decoder and the writer."""

    photo: Photo
    file: Pending
    cost: int

    @property
    def for_network(self) -> NDArray[np.uint8]:
        """Every page is predicted, as far as it is there."""
        return self.photo.examined


def scan(
    paths: list[Path | Url],
    out: Path | Url,
    options: ScanOptions,
    progress: Reporter,
    stop: threading.Event | None = None,
) -> RunRecord:
    """Scan evidence and write the results folder.

    Args:
        paths: files, folders and archives, also as URLs.
        out: the results folder, or its URL in a store.
        options: what the person chose.
        progress: receives the events.
        stop: set to end the scan early; what is finished stays recorded, and the same call resumes.

    Returns:
        The run as `run.json` says it; `status` is `interrupted` if `stop` cut it short.

    Raises:
        NothingToScanError: a path does not exist.
        RemoteError: a store cannot be reached.
        WeightsError: the model, or the method of the second question, is missing or damaged.
        UsageError: no such device; a calibration that cannot be used; evidence and results folder overlap.
        QueryError, BasesError: the query cannot be asked (`model.query.asked`).
        OutputError: the results folder cannot be written.
    """
    if paths or not options.listed:
        check_paths(paths)
    if options.query is not None and options.calibration is not None:
        raise UsageError("--query and --calibration exclude each other.", "No calibration is measured with queries.")
    checkpoint, method = find_model(options.model), find_method(options)
    own = None if options.calibration is None else load_calibration(options.calibration, checkpoint.digest)
    devices, dtype = find_devices(options, options.dtype if own is None else own.dtype(options.dtype))
    method, own_second = _calibrated(method, options, DType(str(dtype).removeprefix("torch.")))
    calibration = checkpoint.calibration if own is None else own.applied_to(checkpoint.calibration)
    if options.threshold is not None:
        calibration = replace(calibration, pixel_threshold=options.threshold)
    stop = stop or threading.Event()
    asking: AbstractContextManager[tuple[Checkpoint, Query | None]] = nullcontext((checkpoint, None))
    if options.query is not None:
        asking = asked(checkpoint, options.query, progress)
    urls = [path for path in (*paths, *options.listed) if isinstance(path, Url)]
    with asking as (checkpoint, query), ResultStore(out, [*paths, *options.listed]) as store:
        number_format = str(dtype).removeprefix("torch.")
        log = RunLog(
            paths,
            options,
            checkpoint,
            calibration,
            ",".join(devices),
            number_format,
            progress,
            own,
            method,
            query,
            own_second,
        )
        for warning in [
            *store.begin(log.run, log.stamp, overwrite=options.overwrite),
            *(own.warnings(devices[0]) if own else uncalibrated(calibration)),
            *(own_second.warnings(devices[0]) if own_second else ()),
            *uncalibrated_method(method),
            *([printable(checkpoint.note)] if checkpoint.note else []),
            *([ONE_VERSION] if urls else []),
            *([WEAK_HASHES] if options.known and options.known.is_weak else []),
            *(query_warnings(query) if query else []),
        ]:
            log.warn(warning)
        log.begin()
        with _failing_visibly(store, log):
            with networks_for(checkpoint, devices, dtype, options, log.warn, method) as networks:
                run = _Scan(
                    paths, out, options, checkpoint, calibration, own, method, store, log, stop, networks, query
                )
                run.own_second = own_second
                run.flow.run(run.pool, run.reader)
            for warning in store.other_libraries(log.taken_over, library_versions()):
                log.warn(warning)
            log.close("interrupted" if stop.is_set() else "finished")
            log.run = store.finish(log.run)
            with output_errors(store.out):
                write_report(store.out, log.run, store.records())
    log.summarize(store.page)
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


def _calibrated(
    method: Method | None, options: ScanOptions, dtype: DType
) -> tuple[Method | None, OwnCalibration | None]:
    """The method of the second question with the calibration that was given for it, if any."""
    if options.synthetic_calibration is None:
        return method, None
    if method is None:
        raise UsageError(
            f"{printable(options.synthetic_calibration.name)} is a calibration for the second question.",
            "Ask it with --also synthetic, or leave the file out.",
        )
    own = load_calibration(options.synthetic_calibration, method.digest, "synthetic")
    own.dtype(dtype)
    return replace(method, calibration=own.applied_to(method.calibration)), own


class _Scan:
    """What one scan makes of evidence: the source, the decoding and the sink of its flow."""

    def __init__(
        self,
        paths: list[Path | Url],
        out: Path | Url,
        options: ScanOptions,
        checkpoint: Checkpoint,
        calibration: Calibration,
        own: OwnCalibration | None,
        method: Method | None,
        store: ResultStore,
        log: RunLog,
        stop: threading.Event,
        networks: list[Network],
        query: Query | None = None,
    ) -> None:
        self.query = query
        self.own_second: OwnCalibration | None = None
        self.paths, self.out, self.options, self.stop = paths, out, options, stop
        self.calibration, self.own, self.method, self.store, self.log = calibration, own, method, store, log
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
        self.archives: list[tuple[ArchiveOpened, str]] = []
        self.flow = Flow(networks, self.read, self.decode, self.write, log.warn, stop=stop, decoders=options.workers)
        limits = DecodeLimits(
            max_megapixels=options.max_megapixels, max_pages=options.max_pages, seconds=options.decode_timeout
        )
        frames = options.gif_frames is GifFrames.ALL
        self.pool = DecodePool(self.flow.decoders, limits, gif_all_frames=frames, as_evidence=True)
        self.reader = ArchiveReader()

    def read(self) -> Iterator[Encoded]:
        """Walk the evidence, read every file once, and send on what is a picture and not known yet."""
        resume = self.store.resume(retry_failed=self.options.retry_failed)
        options = WalkOptions(
            hidden=self.options.hidden,
            follow_links=self.options.follow_links,
            archive_depth=self.options.archive_depth,
            exclude=self.out,
            results=self.options.include_results,
            made=self.options.include_results,
            selection=self.options.selection or Selection(),
            limits=ArchiveLimits(video_step=self.options.video),
            shard=self.options.shard,
        )
        for thing in walk(self.paths, options, self.reader, self.options.listed):
            if self.stop.is_set() or self.flow.failed:
                return
            if isinstance(thing, ArchiveOpened):
                if not thing.other_shard:
                    self.log.archive_opened()
                self._hash_archive(thing)
            elif isinstance(thing, Skipped):
                self.log.skipped(thing.reason, thing.locator)
            elif isinstance(thing, Unreadable):
                self.log.found()
                self._fail_file(thing)
            elif thing.other_shard:
                read_item(thing, self.options.max_file_mib)  # as the others do, so that limits strike at the same place
            else:
                self.log.found()
                yield from self._read_one(thing, resume)
        self.log.found_all()
        for archive, before in self.archives:
            if archive.path is not None and not self.flow.failed:
                self._check_unchanged(archive.locator, archive.path, before)

    def _hash_archive(self, archive: ArchiveOpened) -> None:
        try:
            if archive.open is not None:
                with archive.open() as stream:
                    before = sha256_stream(stream)
            elif archive.path is None:
                return
            else:
                before = sha256_file(archive.path)
        except (OSError, ReadFailure) as error:
            reason = error.message if isinstance(error, ReadFailure) else error.strerror or str(error)
            self.log.not_hashed(archive.locator, reason.rstrip("."))
            return
        if archive.path is not None:
            self.archives.append((archive, before))
        self.log.archive_hashed(archive.locator, before)

    def _read_one(self, item: Item, resume: ResumeIndex) -> Iterator[Encoded]:
        started = time.perf_counter()
        content = read_item(item, self.options.max_file_mib)
        if isinstance(content, NotAPicture):
            self.log.not_a_picture(content.extension, content.holder)
        elif isinstance(content, Unreadable):
            sha256 = content.file.sha256 if content.file else None
            if sha256 and self.options.alert and self.options.alert.holds(sha256, None):
                self.log.alert(item.locator)
            elif sha256 and self.options.known and self.options.known.holds(sha256, None):
                self.log.skipped("known", item.locator)
                self.log.file_done()
                return
            self._fail_file(content)
        else:
            data, identity = content
            alert = self.options.alert
            if flagged := alert is not None and alert.holds(identity.sha256, data):
                self.log.alert(item.locator)
                item = replace(item, findings=(*item.findings, alert_finding(alert)))
            elif self.options.known is not None and self.options.known.holds(identity.sha256, data):
                self.log.skipped("known", item.locator)
                self.log.file_done()
                return
            if resume.holds_other_bytes(item.locator, identity.sha256):
                self.log.replaced(item.locator)
            known = resume.lookup(item.locator, identity.sha256)
            if known is not None and (alert is None or says_alert(known, flagged)):
                for record in known:
                    self.log.record(record, resumed=True)
                self.log.file_done()
            else:
                yield Encoded(item, data, identity, time.perf_counter() - started)

    def _fail_file(self, what: Unreadable) -> None:
        self.log.unread(what)
        self.fail(failure_record(what))
        self.log.file_done()

    def decode(self, encoded: Encoded) -> Iterator[Decoded]:
        """Have a file decoded in another process, page by page."""
        item = encoded.item
        file, pages = Pending(self.log.file_done), 0
        for page in self.pool.decode(item.locator, encoded.data, encoded.identity, item.findings):
            if isinstance(page, Unreadable):
                self.fail(failure_record(page, other_pages=pages))
            else:
                cost = self._cost(page)
                self.flow.budget.acquire(cost)
                yield Decoded(replace(page, seconds_read=encoded.seconds), file.add(), cost)
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

    def write(self, page: Decoded, answer: Answer[Decoded] | None, device: str) -> None:
        """Judge, write the pictures, then the record."""
        photo = page.photo
        if isinstance(answer, Unpredicted):
            advice = "Everything else was scanned; --retry-failed tries it again."
            self._fail_photo(photo, Step.PREDICT, FailureCode.INTERNAL_ERROR, answer.message, advice)
        elif isinstance(answer, OutOfMemory):
            advice = "Free memory or scan on a machine with more; everything else was scanned."
            message = f"Out of memory: {answer.message}"
            self._fail_photo(photo, Step.PREDICT, FailureCode.OUT_OF_MEMORY, message, advice)
        elif answer is not None:
            try:
                self._write_one(photo, answer, device)
            except MemoryError:
                message, advice = "Out of memory while the results were written.", "Scan it on a machine with more."
                self._fail_photo(photo, Step.WRITE, FailureCode.OUT_OF_MEMORY, message, advice)
        page.file.done()

    def _write_one(self, photo: Photo, prediction: Prediction[Decoded], device: str) -> None:
        started = time.perf_counter()
        pixels, heatmap = photo.displayed(photo.examined), photo.displayed(prediction.heatmap)
        try:
            finding = doubted(judge(pixels, heatmap, prediction.features, self.calibration), photo, self.query)
        except ValueError as error:
            self._fail_photo(photo, Step.PREDICT, FailureCode.NOT_FINITE, f"No verdict: {error}.")
            return
        said = prediction.synthetic
        second = (
            None if self.method is None or said is None else second_answer(said, self.method, photo, self.own_second)
        )
        second_map = None if second is None or second.heatmap is None else photo.in_full(second.heatmap)
        outputs = self.store.outputs(
            photo.locator,
            photo.page,
            photo.page_count,
            heatmap=self.options.heatmaps,
            previews=self.options.previews,
            panels=self.options.panels,
            thumbnail=photo.thumbnail is not None,
            synthetic=second_map is not None,
        )
        heatmap, mask = photo.in_full(heatmap), photo.in_full(finding.mask)
        shown = hatched(photo.displayed(photo.pixels), [photo.box_of_rows(*rows) for rows in photo.not_examined])
        thumbnail = None if photo.thumbnail is None else photo.displayed(photo.thumbnail)
        self.store.write_previews(outputs, shown, heatmap, mask, thumbnail)
        if second_map is not None:
            self.store.write_synthetic(outputs, second_map)
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
            query=self.query,
            synthetic=second,
            seconds_write=time.perf_counter() - started,
        )
        self.log.record(self.store.write_image(record, mask, heatmap))

    def fail(self, record: FailureRecord) -> None:
        """Record a failure and go on."""
        if self.flow.failed:
            raise Aborted
        self.log.record(self.store.write_failure(record))

    def _fail_photo(self, photo: Photo, step: Step, code: FailureCode, message: str, advice: str | None = None) -> None:
        what = Unreadable(photo.locator, step, code, message, advice, photo.file, photo.page, photo.page_count)
        self.fail(failure_record(what))

    def _cost(self, photo: Photo) -> int:
        pixels = photo.pixels.size // 3
        own = PANEL_BYTES_PER_PIXEL if self.options.panels and pixels <= PANEL_MEGAPIXELS * 1e6 else 0
        second = 0 if self.method is None else SECOND_BYTES_PER_PIXEL
        return pixels * (BYTES_PER_PIXEL + own + second)
