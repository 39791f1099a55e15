"""Everything that `clue scan` writes to its results folder.

    DIR/masks/…  heatmaps/…  verdicts/…  previews/…  panels/…  synthetic/…   the tree of the evidence (see `names`)
    DIR/records.jsonl     one line per image or failure, append-only; of a locator the latest run's lines count
    DIR/summary.csv       one row per current record
    DIR/run.json          the latest run; earlier ones in DIR/runs/, with their manifests if those were signed
    DIR/manifest.*        what the run left here, and evidence.*, what it read (see `clue_cli.custody`)
    DIR/explanations.jsonl   what `clue explain` wrote; a scan leaves it, and removes it with --overwrite
    DIR/notes.jsonl       what people noted, from `clue notes`; a scan leaves it, with --overwrite too
    DIR/records.torn      what a crash left of a line, if one ever did
    DIR/.clue.lock        held while a scan writes here

A line in the log means that every file of its record is there. All else can be made again from the log.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel

from clue_cli.errors import OutputError
from clue_cli.records import FailureRecord, ImageRecord, OutputPaths, RunRecord, WrittenFile
from clue_cli.remote import Url
from clue_cli.results import names
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import output_errors
from clue_cli.results.manifest_names import MANIFESTS, RUNS, SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST
from clue_cli.results.pictures import PANELS
from clue_cli.results.places import check_apart, folder_at
from clue_cli.results.reader import LOG, RUN, TORN, holds_results, read_run
from clue_cli.results.record_log import RecordLog, ResumeIndex, Stamp, image_digest, pictures
from clue_cli.results.record_rows import MASKS
from clue_cli.results.summary import write_summary

LOCK, SUMMARY, PAGE = ".clue.lock", "summary.csv", "index.html"
_HEATMAPS, _VERDICTS, _PREVIEWS, _PANELS, _SYNTHETIC = "heatmaps", "verdicts", "previews", "panels", "synthetic"
PICTURE_FOLDERS = frozenset({MASKS, _HEATMAPS, _VERDICTS, _PREVIEWS, _PANELS, _SYNTHETIC})

_PLACES = {
    "mask": (MASKS, ".png"),
    "heatmap": (_HEATMAPS, ".png"),
    "verdict": (_VERDICTS, ".json"),
    "preview": (_PREVIEWS, ".preview.jpg"),
    "heat_overlay": (_PREVIEWS, ".heat.png"),
    "outline": (_PREVIEWS, ".outline.png"),
    "thumbnail": (_PREVIEWS, ".thumb.jpg"),
    "synthetic_heatmap": (_SYNTHETIC, ".png"),
    "synthetic_overlay": (_PREVIEWS, ".second.png"),
    "embedded_thumbnail": (_PREVIEWS, ".inside.png"),
    **{panel: (_PANELS, suffix) for panel, suffix in PANELS.items()},
}
"""Folders of the fields of `OutputPaths`, and how their files end."""


class ResultStore:
    """The results folder of one scan. A context manager: it holds the folder's lock until it is closed.

    Opening makes the folder and checks it; nothing else is written before `begin`. Thread-safe after that.

    Args:
        out: the results folder.
        evidence: the paths that will be scanned.

    Attributes:
        out: the folder on this machine; of a URL that in which everything but the pictures is while the store is open.

    Raises:
        UsageError: evidence lies in the results folder.
        OutputError: the folder cannot be written, is in use by another scan, or holds something else.
    """

    def __init__(self, out: Path | Url, evidence: Sequence[Path | Url] = ()) -> None:
        check_apart(out, evidence)
        self._at = out
        self._folder = folder_at(out, PICTURE_FOLDERS)
        self.out = self._folder.root
        self._lock = threading.RLock()
        self._log: RecordLog | None = None
        self._stamp: Stamp | None = None
        self._folder.make()
        try:
            with output_errors(self.out):
                self._check_ours()
            self._folder.lock(LOCK, f"Another scan is writing to {self._folder.shown}.")
        except BaseException:
            self._folder.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        with suppress(OutputError):  # the first error counts
            self._close(complete=False)
        if isinstance(error, OutputError):
            self._folder.explain(error)

    @property
    def page(self) -> str:
        """Where the page is when the run has ended, as a person knows it."""
        return f"{self._folder.shown}/{PAGE}" if isinstance(self._at, Url) else str(self.out / PAGE)

    def begin(self, run: RunRecord, stamp: Stamp, *, overwrite: bool = False) -> list[str]:
        """Start a run: write `run.json`, keep the former one under `runs/`, open the log.

        Args:
            run: what is known of the run so far; its `run_id` is taken from the stamp.
            stamp: goes into every record.
            overwrite: first remove what earlier runs recorded here, and only that.

        Returns:
            What a reader should know, in words: what is wrong with the log, and whether another model wrote it.

        Raises:
            OutputError: writing failed, or the results are of a newer version of clue.
        """
        with output_errors(self.out / RUN):
            former = read_run(self.out / RUN)
        if overwrite:
            self._remove_recorded()
            former = None
        outdated = self._set_aside_manifests(former)
        if former is not None and former.run_id and former.run_id != stamp.run_id:
            kept = names.mirrored(former.run_id, suffix=".json")
            self._folder.write(f"runs/{kept}", json_of(former), durable=True)
        self._stamp = stamp
        self.write_run(run)
        with output_errors(self.out / LOG):
            self._log = RecordLog(self.out / LOG, self.out / TORN)
        self._folder.follow(self._log.end)
        self._folder.publish()
        return [*self._log.warnings, *outdated, *_other_model(former, run), *_other_shard(former, run)]

    def resume(self, *, retry_failed: bool = False) -> ResumeIndex:
        """What earlier runs finished."""
        return ResumeIndex(self._open_log, self._folder.holds, self._open_stamp, retry_failed=retry_failed)

    def outputs(self, locator: str, page: int, page_count: int, pictures: Iterable[str]) -> OutputPaths:
        """The names of a page's files, reserved for it; to be asked for before the first of them is written.

        Removes what an earlier run wrote about this locator: it was made from other bytes, by another model or with
        other settings, and must not be taken for a result of this run.

        Args:
            pictures: fields of `OutputPaths` that get a name; mask and verdict always do.

        Raises:
            OutputError: an outdated file cannot be removed.
        """
        self._remove_outdated(locator)
        length = self._hash_length(locator)
        paths: dict[str, str | None] = {"heatmap": None}
        for field in ("mask", "verdict", *pictures):
            folder, suffix = _PLACES[field]
            paths[field] = f"{folder}/{names.mirrored(locator, page, page_count, suffix, length)}"
        return OutputPaths.model_validate(paths)

    def write_image(self, record: ImageRecord, pictures: Mapping[str, bytes]) -> ImageRecord:
        """Write the pictures of a page and its verdict, then its line in the log.

        Args:
            record: but for `outputs`, which this names.
            pictures: files, by their fields in `OutputPaths`; the mask is one of them.

        Returns:
            The record as written: with the names, the run, the digest, and the time that writing took.

        Raises:
            OutputError: writing failed; the record is not in the log.
        """
        started = time.perf_counter()
        outputs = self.outputs(record.locator, record.page, record.page_count, pictures)
        for field, content in pictures.items():
            self._folder.write(getattr(outputs, field), content)
        stamp = self._open_stamp
        seconds = record.seconds.model_copy(update={"write": record.seconds.write + time.perf_counter() - started})
        update = {"outputs": outputs, "written": as_written(pictures), "run_id": stamp.run_id, "seconds": seconds}
        written = record.model_copy(update={**update, "settings_digest": image_digest(record, stamp)})
        self._folder.write(outputs.verdict, json_of(written))
        self._append(written)
        return written

    def write_failure(self, record: FailureRecord) -> FailureRecord:
        """Append a failure to the log.

        What an earlier run recorded in the same words for the same settings is taken over and not said twice, if
        the failure is all there is about the file.

        Returns:
            The record as it is in the log.

        Raises:
            OutputError: writing failed.
        """
        stamp = self._open_stamp
        written = record.model_copy(update={"run_id": stamp.run_id, "settings_digest": stamp.failure_digest})
        with self._lock:
            known = list(islice(self._open_log.each_current(record.locator), 2)) if record.other_pages == 0 else []
            if len(known) == 1 and known[0].model_copy(update={"run_id": stamp.run_id}) == written:
                self._open_log.keep(record.locator)
                return written.model_copy(update={"run_id": known[0].run_id})
            self._remove_outdated(record.locator)
            self._append(written)
        return written

    def records(self) -> Iterator[ImageRecord | FailureRecord]:
        """All current records, by locator and page, one at a time: what summary and page are made of."""
        return (record for record, _ in self._open_log.records())

    def create(self, relative: str, *, durable: bool = False) -> AbstractContextManager[BinaryIO]:
        """`ResultsFolder.create`."""
        return self._folder.create(relative, durable=durable)

    def read(self, relative: str) -> AbstractContextManager[BinaryIO]:
        """`ResultsFolder.read`."""
        return self._folder.read(relative)

    def not_met(self) -> int:
        """How many current records belong to evidence that this run has not met."""
        return self._open_log.not_met()

    def write_run(self, run: RunRecord) -> RunRecord:
        """Write `run.json`, durably; returns it as written.

        Raises:
            OutputError: writing failed.
        """
        stamp = self._open_stamp
        written = run.model_copy(update={"run_id": stamp.run_id, "settings_digest": stamp.failure_digest})
        self._folder.write(RUN, json_of(written), durable=True)
        return written

    def finish(
        self, run: RunRecord, also: Callable[[ImageRecord | FailureRecord], None] = lambda record: None
    ) -> RunRecord:
        """Write `summary.csv` and the final `run.json`; returns the latter as written, with `counts.not_met`.

        Args:
            also: is given every current record on the way: reading a million takes a minute.

        Raises:
            OutputError: writing failed.
        """
        with output_errors(self.out / LOG):
            self._open_log.sync()
            with self._folder.create(SUMMARY) as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
                write_summary(text, self._records_for(also))
                text.detach()
        counts = run.counts.model_copy(update={"not_met": self.not_met()})
        return self.write_run(run.model_copy(update={"counts": counts}))

    def _records_for(
        self, also: Callable[[ImageRecord | FailureRecord], None]
    ) -> Iterator[tuple[ImageRecord | FailureRecord, bool]]:
        for record, met in self._open_log.records():
            also(record)
            yield record, met

    def close(self) -> None:
        """Close the log and release the lock; harmless when repeated.

        Raises:
            OutputError: the log cannot be brought to the disk, or something into an object store.
        """
        try:
            self._close(complete=True)
        except OutputError as error:
            self._folder.explain(error)
            raise

    def _close(self, *, complete: bool) -> None:
        try:
            with output_errors(self.out / LOG):
                if self._log is not None:
                    self._log.close()
            if complete:
                self._folder.complete()
        finally:
            self._folder.release()

    @property
    def _open_log(self) -> RecordLog:
        if self._log is None:
            raise RuntimeError("begin() comes first")
        return self._log

    @property
    def _open_stamp(self) -> Stamp:
        if self._stamp is None:
            raise RuntimeError("begin() comes first")
        return self._stamp

    def other_libraries(self, taken_over: Mapping[str, int], now: Mapping[str, str | None]) -> list[str]:
        """Which results of earlier runs were made with other versions of the libraries, in words.

        Args:
            taken_over: how many records were taken over, by the `run_id` of the run that wrote them.
            now: versions by name.
        """
        counts: Counter[str] = Counter()
        for run_id, number in taken_over.items():
            kept = names.mirrored(run_id, suffix=".json") if run_id else ""
            former = read_run(self.out / "runs" / kept) if run_id else None
            differ = [
                f"{name} {then}, now {now[name]}"
                for name in now
                if former is not None and (then := former.machine.get(name)) not in (None, now[name])
            ]
            if differ:
                counts["; ".join(differ)] += number
        return [
            f"Results taken over from earlier runs that used other libraries: {number:,} ({words}). Pixels and scores "
            "can differ in their last digits; --overwrite computes all of them again."
            for words, number in counts.items()
        ]

    def _check_ours(self) -> None:
        """Refuse a folder that holds anything but results of clue."""
        shown = self._folder.shown
        try:
            foreign = None if holds_results(self.out) else self._folder.foreign({LOCK})
        except OutputError as error:
            raise OutputError(error.message.replace(str(self.out), shown), error.advice) from error
        if foreign is not None:
            raise OutputError(
                f"{shown} holds something else than results of clue: {foreign}.",
                "Nothing was changed there. Choose a new or an empty folder with --out.",
            )

    def _append(self, record: ImageRecord | FailureRecord) -> None:
        named = pictures(record.outputs) if isinstance(record, ImageRecord) else []
        with self._lock, output_errors(self.out / LOG):
            self._open_log.append(record)
            self._folder.appended(self._open_log.end, named)

    def _hash_length(self, locator: str) -> int:
        with output_errors(self.out):
            for length in (0, *names.HASH_LENGTHS):
                if self._open_log.take_name(names.stem(locator, hash_length=length), locator):
                    return length
        raise OutputError(f"There is no name left for the results of {locator}.")

    def _remove_outdated(self, locator: str) -> None:
        with self._lock:
            with output_errors(self.out / LOG):
                outdated = self._open_log.outdate(locator)
            for record in outdated:
                self._remove_pictures(record)

    def _remove_pictures(self, record: ImageRecord | FailureRecord) -> None:
        if not isinstance(record, ImageRecord):
            return
        for relative in pictures(record.outputs):
            try:
                self._folder.remove(relative, below=PICTURE_FOLDERS)
            except ValueError as error:
                raise OutputError(
                    f"{LOG} in {self._folder.shown} names a file that clue did not write: {error}.",
                    "Somebody changed the log. Choose another folder with --out.",
                ) from error

    def _set_aside_manifests(self, former: RunRecord | None) -> list[str]:
        """Keep a manifest that was signed or stamped as one of the former run, and remove any other one.

        Returns:
            What became of it, in words.
        """
        signed = [name for name in (SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST) if self._folder.holds(name)]
        kept = ""
        if former is not None and former.run_id:
            kept = f"{RUNS}/{names.mirrored(former.run_id, suffix='.json')}".removesuffix(".json")
        began = bool(kept) and (self.out / kept).is_dir()  # a run was killed while it did this
        for name in MANIFESTS:
            if not kept or not (signed or began) or not self._folder.move(name, f"{kept}/{name}"):
                self._folder.remove(name)
        if not signed:
            return []
        words = " and ".join(signed)
        if kept and (self.out / kept).is_dir():
            return [
                f"The manifest of the earlier run is in {kept} now, with {words}, which vouch for the results as they "
                "were. The new manifest has to be signed anew."
            ]
        return [f"{words} of the earlier run: removed with its manifest, which is written anew."]

    def _remove_recorded(self) -> None:
        with output_errors(self.out / LOG):
            log = RecordLog(self.out / LOG, self.out / TORN)
            try:
                for record in log.history():
                    self._remove_pictures(record)
            finally:
                log.close()
        runs = self.out / "runs"
        former = [f"runs/{path.name}" for path in runs.glob("*.json")] if runs.is_dir() else []
        former += [f"{RUNS}/{path.name}/{name}" for path in runs.glob("*/") for name in MANIFESTS]
        for relative in (*former, PAGE, SUMMARY, TORN, EXPLANATIONS, LOG):
            self._folder.remove(relative)
        self._folder.prune((*PICTURE_FOLDERS, "runs"))


def as_written(pictures: Mapping[str, bytes]) -> list[WrittenFile]:
    """Size and hash of each file of a record."""
    return [
        WrittenFile(output=name, byte_size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in pictures.items()
    ]


def json_of(record: BaseModel) -> bytes:
    """A record as a file of its own."""
    return record.model_dump_json(indent=2).encode() + b"\n"


def _other_shard(former: RunRecord | None, run: RunRecord) -> list[str]:
    shard = None if former is None else former.settings.get("shard")
    if shard is None or "shard" not in run.settings or shard == run.settings["shard"]:
        return []
    return [f"The results here are of shard {shard}; they stay, are not met in this run, and `clue merge` joins them."]


def _other_model(former: RunRecord | None, run: RunRecord) -> list[str]:
    if former is None or former.model.get("digest") == run.model.get("digest"):
        return []
    return [
        f"The results here were made with the model {former.model.get('name')}, digest {former.model.get('digest')}; "
        "those of evidence that this run meets are replaced. A folder for each model keeps both."
    ]
