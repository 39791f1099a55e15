"""The run of `clue explain`: from the records of a results folder to checked texts in `explanations.jsonl` there."""

from __future__ import annotations

import hashlib
import heapq
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from PIL import Image

from clue_cli import __version__
from clue_cli.explaining.check import refusals
from clue_cli.explaining.given import Given, given
from clue_cli.explaining.request import NoPreview, cropped, pictures, request
from clue_cli.records import ImageRecord, Question, RunRecord, Verdict
from clue_cli.results.explanations import (
    EXPLANATIONS,
    Explanation,
    ExplanationLog,
    explanation_key,
    record_digest,
)
from clue_cli.results.folder import ResultsFolder, output_errors
from clue_cli.results.reader import ResultsReader
from clue_cli.results.scan_store import LOCK
from clue_cli.results.selection import Selection
from clue_cli.terminal import printable
from model.explainer import Written
from model.registry import FolderBase
from model.reporter import Reporter

FLAGGED = (Verdict.FORGED, Verdict.INCONCLUSIVE)
"""Verdicts on localization that are explained."""


class Writer(Protocol):
    """A language model, such as `model.explainer.Explainer`."""

    def write(self, images: Sequence[Image.Image], request: str, most_tokens: int) -> Written:
        """A text about pictures; see there."""


@dataclass(slots=True)
class Explained:
    """What a run did: how many texts were accepted and discarded, records that failed, and attempts of earlier runs;
    what a reader should know of the log of the records."""

    accepted: int = 0
    discarded: int = 0
    failed: int = 0
    reused: int = 0
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """How texts are generated; greedily.

    Attributes:
        most_tokens: a text is cut off there, and then discarded.
        device, dtype: where, and in which number format.
    """

    most_tokens: int = 320
    device: str = "cpu"
    dtype: str = "float32"

    def facts(self) -> dict[str, str | int | bool]:
        """For the explanation."""
        return {"do_sample": False, "max_new_tokens": self.most_tokens, "device": self.device, "dtype": self.dtype}


def explain(
    results: Path,
    base: FolderBase,
    load: Callable[[], Writer],
    generation: Generation,
    selection: Selection,
    *,
    verdicts: Collection[Verdict] = FLAGGED,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> Explained:
    """Explain the selected records whose verdict on localization is forged or inconclusive.

    What was explained before with the same model, findings and settings is not explained again; what failed is.

    Args:
        results: folder of a scan.
        base: the model's folder.
        load: loads the model; called once, when the first text is to be written.
        generation: how texts are generated.
        selection: of the records.
        verdicts: on localization, of those of `FLAGGED`, that are explained.
        limit: most records, the strongest first: forged ones, then by falling score; None: all of them, by locator.
        stop: once set, the text in progress is finished and no other is begun.

    Raises:
        NothingToScanError: there are no results.
        OutputError: they cannot be written, or another command is writing there.
    """
    reporter, stop = reporter or Reporter(), stop or threading.Event()
    ResultsReader(results).close()  # nothing, not even a lock, is left in a folder that holds something else
    folder, done = ResultsFolder(results), Explained()
    try:
        folder.lock(LOCK, f"Another command of clue is writing to {results}.")
        with ResultsReader(results) as reader:
            done.problems, done.unfinished = reader.problems(), reader.unfinished
            chosen, count = _chosen(reader, selection, verdicts, limit)
            if count:
                with output_errors(results / EXPLANATIONS):
                    log = ExplanationLog(results / EXPLANATIONS)
                try:
                    job = _Job(folder, base, load, generation, log, reader.run)
                    _run(job, chosen, count, done, reporter, stop)
                finally:
                    with output_errors(results / EXPLANATIONS):
                        log.close()
    finally:
        folder.release()
    return done


def _chosen(
    reader: ResultsReader, selection: Selection, verdicts: Collection[Verdict], limit: int | None
) -> tuple[Iterator[ImageRecord], int]:
    """The records to explain, one at a time, and how many."""

    def flagged() -> Iterator[ImageRecord]:
        for record in filter(selection, reader.records()):
            if isinstance(record, ImageRecord) and _verdict(record) in verdicts:
                yield record

    if limit is None:
        return flagged(), sum(1 for _ in flagged())
    ranks = ((_verdict(record) is not Verdict.FORGED, -_score(record), place) for place, record in enumerate(flagged()))
    places = {place for _, _, place in heapq.nsmallest(limit, ranks)}
    return (record for place, record in enumerate(flagged()) if place in places), len(places)


def _verdict(record: ImageRecord) -> Verdict | None:
    answer = record.verdicts.get(Question.LOCALIZATION)
    return None if answer is None else answer.verdict


def _score(record: ImageRecord) -> float:
    return record.verdicts[Question.LOCALIZATION].score or 0.0


@dataclass(slots=True)
class _Job:
    folder: ResultsFolder
    base: FolderBase
    load: Callable[[], Writer]
    generation: Generation
    log: ExplanationLog
    run: RunRecord | None
    writer: Writer | None = None


def _run(
    job: _Job, chosen: Iterator[ImageRecord], count: int, done: Explained, reporter: Reporter, stop: threading.Event
) -> None:
    reporter.stage("Explaining", "records", count)
    for record in chosen:
        if stop.is_set():
            done.interrupted = True
            return
        known, crops = given(record, job.run), cropped(record)
        asked = request(known, crops)
        asked_sha256 = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        digest = record_digest(record)
        key = explanation_key(digest, job.base.digest, asked_sha256, job.generation.facts())
        former = job.log.last(digest, key)
        if former is not None and former.status != "failed":
            done.reused += 1
            reporter.advance(reused=True)
            continue
        started = time.perf_counter()
        text, reasons = _attempt(job, record, known, crops, asked)
        explanation = Explanation(
            record=digest,
            locator=record.locator,
            page=record.page,
            sha256=record.file.sha256,
            settings_digest=record.settings_digest,
            status="failed" if text is None else "discarded" if reasons else "accepted",
            text=text,
            reasons=reasons,
            model=printable(job.base.name),
            model_digest=job.base.digest,
            request_sha256=asked_sha256,
            generation=job.generation.facts(),
            version=__version__,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - started, 3),
        )
        if former is None or (former.status, former.reasons) != (explanation.status, explanation.reasons):
            with output_errors(job.folder.root / EXPLANATIONS):
                job.log.append(explanation)
        setattr(done, explanation.status, getattr(done, explanation.status) + 1)
        if explanation.status == "failed":
            reporter.note(f"Not explained: {record.locator}: {reasons[0]}.", "failure")
        reporter.advance(status=f"{done.accepted:,} accepted, {done.discarded:,} discarded")


def _attempt(
    job: _Job, record: ImageRecord, known: Given, crops: list[int], asked: str
) -> tuple[str | None, list[str]]:
    """What the model wrote, None if it failed; and why it is not shown."""
    try:
        shown = pictures(job.folder, record, crops)
    except NoPreview as error:
        return None, [printable(str(error))]
    if job.writer is None:
        job.writer = job.load()
    most = job.generation.most_tokens
    try:
        written = job.writer.write(shown, asked, most)
    except (ValueError, RuntimeError, MemoryError) as error:
        return None, [_failure(error)]
    cut = [] if written.complete else [f"it was cut off after {most} tokens"]
    return written.text, [*cut, *refusals(written.text, known)]


def _failure(error: Exception) -> str:
    from model.device import ran_out_of_memory

    if ran_out_of_memory(error):
        return "out of memory; another --device or --dtype bfloat16 may have room"
    return printable(f"the language model failed: {' '.join(str(error).split())[:300] or type(error).__name__}")
