"""A scan: from evidence to a results folder, through the flow of `engine`.

walk ─ read and hash ─ known from an earlier run? ─┬─ yes: taken over
 │                                                 └─ no:  decode ─ network ─ verdict, pictures ─┬─ write
 └─ what cannot be read ─────────────────────────────────────────────────────────────────────────┘

What comes after `no` and before `write` is `ScanPart`, which runs here or in workers on a cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clue_cli.cluster import ItemLost, Workers, connect
from clue_cli.custody.listing import Observation
from clue_cli.custody.manifest import write_manifest
from clue_cli.custody.observed import Observed
from clue_cli.engine import Answer, Flow, Pending
from clue_cli.errors import Aborted, ClueError, ExitCode, OutputError, UsageError
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Skipped, Unreadable
from clue_cli.evidence.reader import hash_file, hash_stream, read_item
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.shard import Listing
from clue_cli.evidence.streams import ArchiveLimits, DecodeLimits, ReadFailure
from clue_cli.evidence.walk import WalkOptions, check_paths, walk
from clue_cli.machine import library_versions
from clue_cli.networks import (
    DType,
    Engine,
    Network,
    Runtime,
    find_devices,
    find_method,
    find_model,
    network_alone,
    networks_for,
)
from clue_cli.records import FailureCode, FailureRecord, FileIdentity, ImageRecord, ModelInfo, RunRecord, Step
from clue_cli.remote import Url
from clue_cli.report import report
from clue_cli.results.folder import output_errors
from clue_cli.results.record_log import ResumeIndex
from clue_cli.results.scan_store import ResultStore
from clue_cli.scan import GifFrames, ScanOptions
from clue_cli.scan.assemble import (
    alert_finding,
    failure_record,
    query_warnings,
    says_alert,
    uncalibrated,
)
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.calibration_file import load as load_calibration
from clue_cli.scan.part import NOT_COMPUTED, Encoded, Output, Page, ScanPart, unwritten
from clue_cli.scan.run_log import RunLog
from clue_cli.scan.synthetic import uncalibrated_method
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.float8 import weights_format
from model.query import Query, asked
from model.reporter import Reporter
from model.synthetic import Method

if TYPE_CHECKING:
    import torch
    from minisign import SecretKey

WEAK_HASHES = (
    "The list of --known has MD5 or SHA-1 hashes. A file can be made that has the hash of a harmless one, and it is "
    "left out; a list of SHA-256 is safe from that."
)

ONE_VERSION = (
    "Objects of a store were read once, in the version that its listing named, and were not compared again after the "
    "scan as files on disk are."
)


NOT_SIGNED = (
    "The manifest was not signed, because the run did not come to its end. The same command goes on and signs it; clue "
    "sign signs what there is."
)


@dataclass(frozen=True, slots=True)
class Read:
    """A picture file on its way to a decoder; `path` is that of the file on disk, None for an archive member."""

    encoded: Encoded
    path: Path | None


@dataclass(frozen=True, slots=True)
class InHand:
    """One page of a file between the decoder, or a worker that has finished it, and the sink."""

    page: Page | Output
    file: Pending

    @property
    def for_network(self) -> NDArray[np.uint8] | None:
        """As the page says."""
        return self.page.for_network

    @property
    def cost(self) -> int:
        """As the page says."""
        return self.page.cost


def scan(
    paths: list[Path | Url],
    out: Path | Url,
    options: ScanOptions,
    progress: Reporter,
    stop: threading.Event | None = None,
    key: SecretKey | None = None,
) -> RunRecord:
    """Scan evidence and write the results folder.

    Args:
        paths: files, folders and archives, also as URLs.
        out: the results folder, or its URL in a store.
        options: what the person chose.
        progress: receives the events.
        stop: set to end the scan early; what is finished stays recorded, and the same call resumes.
        key: signs the manifest of a run that comes to its end.

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
    wanted = options.dtype if own is None else own.dtype(options.dtype)
    early: list[str] = []
    devices, dtype = find_devices(options, wanted, early.append)
    method, own_second = _calibrated(method, options, dtype)
    calibration = checkpoint.calibration if own is None else own.applied_to(checkpoint.calibration)
    if options.threshold is not None:
        calibration = replace(calibration, pixel_threshold=options.threshold)
    stop = stop or threading.Event()
    asking: AbstractContextManager[tuple[Checkpoint, Query | None]] = nullcontext((checkpoint, None))
    if options.query is not None:
        asking = asked(checkpoint, options.query, progress)
    urls = [path for path in (*paths, *options.listed) if isinstance(path, Url)]
    with (
        asking as (checkpoint, query),
        Observed() as observed,
        ResultStore(out, [*paths, *options.listed]) as store,
    ):
        number_format = str(dtype).removeprefix("torch.")
        runtime = None if options.runtime is Runtime.TORCH else options.runtime.version
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
            *early,
            *store.begin(log.run, log.stamp, overwrite=options.overwrite),
            *(own.warnings(devices[0], runtime) if own else uncalibrated(calibration)),
            *(own_second.warnings(devices[0]) if own_second else ()),
            *uncalibrated_method(method),
            *([printable(checkpoint.note)] if checkpoint.note else []),
            *([ONE_VERSION] if urls else []),
            *([WEAK_HASHES] if options.known and options.known.is_weak else []),
            *(query_warnings(query) if query else []),
        ]:
            log.warn(warning)
        log.begin()
        with _failing_visibly(store, log, observed, signs=key is not None):
            part = _part(options, checkpoint, calibration, own, method, own_second, query, log)
            if options.engine is Engine.LOCAL:
                with networks_for(checkpoint, devices, dtype, options, log.warn, method) as networks:
                    _Scan(paths, out, options, part, store, log, stop, networks, observed).run()
            else:
                alone = network_alone(options, DType(number_format))
                workers = connect(alone, log.warn).workers(part, checkpoint, alone, method)
                _Scan(paths, out, options, part, store, log, stop, [], observed, workers).run()
            for warning in store.other_libraries(log.taken_over, library_versions()):
                log.warn(warning)
            if (interrupted := stop.is_set()) and key is not None:
                log.warn(NOT_SIGNED)
            log.close("interrupted" if interrupted else "finished", compared=observed.compared)
            with output_errors(store.out), report(store.out, log.run) as pages:
                log.run = store.finish(log.run, pages.add)
                pages.write(log.run)
                write_manifest(store, observed, log.run)
                if key is not None and log.run.status == "finished":
                    from clue_cli.custody.attestation import sign_manifest

                    sign_manifest(store, key)
                copies = pages.copies()
    log.summarize(store.page, copies)
    return log.run


@contextmanager
def _failing_visibly(store: ResultStore, log: RunLog, observed: Observed, *, signs: bool) -> Iterator[None]:
    """Let `run.json` say how a run ended that did not come to its end, and the manifest what there is."""
    try:
        yield
    except BaseException as error:
        if signs:
            log.warn(NOT_SIGNED)
        if isinstance(error, KeyboardInterrupt):
            log.close("interrupted", compared=observed.compared)
        else:
            code = error.exit_code if isinstance(error, ClueError) else ExitCode.INTERNAL_ERROR
            log.close("failed", code, compared=observed.compared)
        try:
            log.run = store.write_run(log.run)
        except OutputError:
            log.warn("run.json could not be written; it says less than this message.")
        else:
            try:
                with output_errors(store.out):
                    write_manifest(store, observed, log.run)
            except OutputError:
                log.warn("No manifest could be written. The same command writes one when it comes to its end.")
        raise


def _calibrated(
    method: Method | None, options: ScanOptions, dtype: torch.dtype
) -> tuple[Method | None, OwnCalibration | None]:
    """The method of the second question with the calibration that was given for it, if any.

    Args:
        dtype: of the network; the method computes in that of its weights.
    """
    if options.synthetic_calibration is None:
        return method, None
    if method is None:
        raise UsageError(
            f"{printable(options.synthetic_calibration.name)} is a calibration for the second question.",
            "Ask it with --also synthetic, or leave the file out.",
        )
    own = load_calibration(options.synthetic_calibration, method.digest, "synthetic")
    own.dtype(DType(str(weights_format(dtype)).removeprefix("torch.")))
    return replace(method, calibration=own.applied_to(method.calibration)), own


def _part(
    options: ScanOptions,
    checkpoint: Checkpoint,
    calibration: Calibration,
    own: OwnCalibration | None,
    method: Method | None,
    own_second: OwnCalibration | None,
    query: Query | None,
    log: RunLog,
) -> ScanPart:
    return ScanPart(
        limits=DecodeLimits(
            max_megapixels=options.max_megapixels, max_pages=options.max_pages, seconds=options.decode_timeout
        ),
        all_frames=options.gif_frames is GifFrames.ALL,
        model=ModelInfo(
            name=printable(checkpoint.name),
            digest=checkpoint.digest,
            device=log.device,
            dtype=log.dtype,
            noise_schedule=checkpoint.preset.noise.schedule,
            noise_levels=log.noise_levels,
            seed=0,
            calibration=calibration.name,
            calibration_sha256=None if own is None else own.sha256,
        ),
        tile=checkpoint.preset.tile,
        calibration=calibration,
        own=own,
        method=method,
        own_second=own_second,
        query=query,
        error_rates=log.run.error_rates,
        heatmaps=options.heatmaps,
        previews=options.previews,
        panels=options.panels,
    )


class _Scan:
    """What one scan makes of evidence: the source, the decoding and the sink of its flow.

    Args:
        workers: that run the part; None: it runs here, with `networks`.
    """

    def __init__(
        self,
        paths: list[Path | Url],
        out: Path | Url,
        options: ScanOptions,
        part: ScanPart,
        store: ResultStore,
        log: RunLog,
        stop: threading.Event,
        networks: list[Network],
        observed: Observed,
        workers: Workers[Encoded, Output] | None = None,
    ) -> None:
        self.paths, self.out, self.options, self.stop = paths, out, options, stop
        self.part, self.store, self.log, self.workers = part, store, log, workers
        self.observed = observed
        self.archives: list[tuple[ArchiveOpened, str]] = []
        decoders = options.workers if workers is None else workers.at_once
        self.flow = Flow(networks, self.read, self.decode, self.write, log.warn, stop=stop, decoders=decoders)
        self.pool: Any = part.open(self.flow.decoders) if workers is None else workers
        self.reader = ArchiveReader()

    def run(self) -> None:
        """Scan everything; errors as of `Flow.run`."""
        self.flow.run(self.pool, self.reader)
        for archive, before in self.archives:
            if archive.path is not None and not self.stop.is_set():
                self._check_unchanged(archive.locator, archive.path, before)

    def read(self) -> Iterator[Read]:
        """Walk the evidence, read every file once, and send on what is a picture and not known yet."""
        resume = self.store.resume(retry_failed=self.options.retry_failed)
        listing = None if self.options.shard is None else Listing()
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
            listing=listing,
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
        if listing is not None:
            self.log.listed(listing)

    def _hash_archive(self, archive: ArchiveOpened) -> None:
        try:
            if archive.open is not None:
                with archive.open() as stream:
                    size, hashes = hash_stream(stream, self.options.hashes)
                before = Observation(size, hashes)
            elif archive.path is None:
                return
            else:
                before = self._observe(archive.path)
        except (OSError, ReadFailure) as error:
            reason = error.message if isinstance(error, ReadFailure) else error.strerror or str(error)
            self.log.not_hashed(archive.locator, reason.rstrip("."))
            return
        self.observed.add("before", archive.locator, before)
        if archive.path is not None:
            self.archives.append((archive, before.hashes["sha256"]))
        self.log.archive_hashed(archive.locator, before.hashes["sha256"])

    def _observe(self, path: Path) -> Observation:
        size, modified, hashes = hash_file(path, self.options.hashes)
        return Observation(size, hashes, modified)

    def _read_one(self, item: Item, resume: ResumeIndex) -> Iterator[Read]:
        started = time.perf_counter()
        content = read_item(item, self.options.max_file_mib, self.options.hashes)
        if isinstance(content, NotAPicture):
            self.log.not_a_picture(content.extension, content.holder)
        elif isinstance(content, Unreadable):
            sha256 = content.file.sha256 if content.file else None
            if content.file is not None:
                self.observed.saw(item.locator, content.file)
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
                self.observed.saw(item.locator, identity)
                self.log.skipped("known", item.locator)
                self.log.file_done()
                return
            known = resume.lookup(item.locator, identity.sha256)
            if known is None and resume.holds_other_bytes(item.locator, identity.sha256):
                self.log.replaced(item.locator)
            if known is not None and (alert is None or says_alert(known, flagged)):
                if item.path is not None and known[0].file is not None:
                    self.observed.saw_again(item.locator, known[0].file, identity)
                else:
                    self.observed.saw(item.locator, identity)
                for record in known:
                    self.log.record(record, resumed=True)
                self.log.file_done()
            else:
                self.observed.saw(item.locator, identity)
                seconds = time.perf_counter() - started
                yield Read(Encoded(item.locator, data, identity, item.findings, seconds), item.path)

    def _fail_file(self, what: Unreadable) -> None:
        self.log.unread(what)
        self.fail(failure_record(what))
        self.log.file_done()

    def decode(self, read: Read) -> Iterator[InHand]:
        """The pages of a file: decoded in another process here, or finished by a worker."""
        path, locator, identity, pages = read.path, read.encoded.locator, read.encoded.identity, 0

        def finished() -> None:
            """All of its pages are written. The bytes of the file are in nobody's hands any more."""
            if path is not None:
                self._check_unchanged(locator, path, identity.sha256, identity, pages)
            self.log.file_done()

        file = Pending(finished)
        for page in self._pages(read.encoded):
            pages += 1
            content = page.record if isinstance(page, Output) else page.content
            if isinstance(content, FailureRecord):
                self.fail(content)
            elif isinstance(page, Output) and self.stop.is_set():
                self._store(page)  # the flow would drop it, and it is finished
                self.flow.budget.release(page.cost)
                if pages < content.page_count:
                    return
            else:
                yield InHand(page, file.add())
        file.done()

    def _pages(self, encoded: Encoded) -> Iterator[Page | Output]:
        """The pages of a file, on their way to the network here or finished by a worker; in the budget."""
        if self.workers is None:
            yield from self.part.decode(encoded, self.pool, self.flow.budget)
            return
        recorded = 0
        try:
            for output in self.workers.run(encoded, len(encoded.data)):
                recorded += output.record.page is not None
                if output.pictures:
                    self.flow.budget.acquire(output.cost)
                yield output
        except ItemLost as error:
            step, code = Step.PREDICT, FailureCode.INTERNAL_ERROR
            what = Unreadable(encoded.locator, step, code, str(error), NOT_COMPUTED, file=encoded.identity)
            yield Output(failure_record(what, other_pages=recorded))

    def _check_unchanged(
        self, locator: str, path: Path, before: str, identity: FileIdentity | None = None, pages: int = 0
    ) -> None:
        """Evidence is read-only: hashed before, when it was read, and after its results were written."""
        try:
            observation = self._observe(path)
            self.observed.add("after", locator, observation, archive=identity is None)
            after = observation.hashes["sha256"]
        except OSError as error:
            after = f"unreadable ({error.strerror})"
        if after != before:
            self.log.evidence_changed(locator)
            message = f"The file changed while it was being scanned: SHA-256 {before} before, {after} after."
            what = Unreadable(locator, Step.READ, FailureCode.CHANGED_DURING_SCAN, message, file=identity)
            self.fail(failure_record(what, other_pages=pages))

    def write(self, one: InHand, answer: Answer[InHand] | None, device: str) -> None:
        """Finish a page, if no worker has, and write what came of it."""
        page = one.page
        self._store(page if isinstance(page, Output) else self.part.finish(page, answer, device))
        one.file.done()

    def _store(self, output: Output) -> None:
        record = output.record
        if isinstance(record, ImageRecord):
            try:
                self.log.record(self.store.write_image(record, output.pictures))
                return
            except MemoryError:
                record = unwritten(record)
        self.fail(record)

    def fail(self, record: FailureRecord) -> None:
        """Record a failure and go on."""
        if self.flow.failed:
            raise Aborted
        self.log.record(self.store.write_failure(record))
