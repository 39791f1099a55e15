"""State of a running scan: counts, warnings, and the record that becomes `run.json`.

All threads of a scan report here; one lock serializes the events that go to the reporter.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from clue_cli import __version__
from clue_cli.errors import ExitCode
from clue_cli.evidence.formats import archive_holder, not_opened
from clue_cli.evidence.item import Unreadable
from clue_cli.evidence.shard import LISTING, Listing
from clue_cli.machine import cores, library_versions, memory
from clue_cli.progress import duration
from clue_cli.records import Counts, FailureCode, FailureRecord, ImageRecord, RunRecord, Step, Verdict
from clue_cli.remote import Url
from clue_cli.scan import FailOn, ScanOptions
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.error_rates import rates_of_run
from clue_cli.scan.look_first import LookFirst
from clue_cli.scan.synthetic import judging, method_info
from clue_cli.terminal import counted, printable
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.query import Query
from model.rectified_flow import noise_levels
from model.reporter import Reporter
from model.synthetic import Method


class RunLog:
    """Collects the content of `run.json`, and passes every event on to `reporter`.

    Args:
        paths: the evidence.
        options: the user's choices.
        checkpoint: the model.
        calibration: as used, with the options applied.
        device, dtype: where and how the network runs; several devices are joined by commas.
        reporter: receives the events.
        own: the calibration file that was given, if any.
        method: that answers the second question; None: it is not asked.
        query: what is asked, if anything.
        own_second: the calibration file that was given for the method, if any.
    """

    def __init__(
        self,
        paths: list[Path | Url],
        options: ScanOptions,
        checkpoint: Checkpoint,
        calibration: Calibration,
        device: str,
        dtype: str,
        reporter: Reporter,
        own: OwnCalibration | None = None,
        method: Method | None = None,
        query: Query | None = None,
        own_second: OwnCalibration | None = None,
    ) -> None:
        asked = {} if query is None else {"query": query.digest}
        self.device, self.dtype = device, dtype
        self.noise_levels = [round(level, 6) for level in noise_levels(checkpoint.preset.noise)]
        self._options, self._reporter = options, reporter
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._first = LookFirst()
        self._not_pictures: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._left_out: dict[str, int] = {}
        self._not_opened: Counter[str] = Counter()
        self._earlier: list[str] = []
        self._alerts: list[str] = []
        self._alert_count = self._changed_count = self._not_hashed_count = 0
        self.taken_over: Counter[str] = Counter()
        self._archives: dict[str, str] = {}
        self._read_once = any(isinstance(path, Url) for path in (*paths, *options.listed))  # objects of a store
        self._replaced = self._computed = 0
        self._steps = {"read": 0.0, "decode": 0.0, "predict": 0.0, "write": 0.0}
        self._started = time.perf_counter()
        tile = checkpoint.preset.tile
        self.stamp = options.stamp(
            checkpoint.digest,
            dtype,
            {
                "tile": tile.size,
                "overlap": tile.overlap,
                "device": re.split("[:,]", device)[0],
                "calibration": None if own is None else own.sha256,
                **judging(method, own_second),
                **asked,
            },
        )
        self.run = RunRecord(
            version=__version__,
            command_line=list(options.command_line),
            status="running",
            started=now(),
            evidence=[
                *(_printable(str(path)) for path in paths),
                *([f"--files-from {options.files_from}"] if options.files_from else []),
            ],
            model={
                "name": _printable(checkpoint.name),
                "digest": checkpoint.digest,
                "device": device,
                "dtype": dtype,
                "noise_schedule": checkpoint.preset.noise.schedule,
                "noise_levels": self.noise_levels,
                "calibration": calibration.name,
                "calibration_sha256": None if own is None else own.sha256,
                "calibration_promise": None if own is None else own.content.words(),
                "calibration_fitted_on": calibration.fitted_on,
                "calibration_megapixels": list(calibration.fitted_megapixels),
                "pixel_threshold": calibration.pixel_threshold,
                "score_threshold": calibration.score_threshold,
                "no_evidence_below": calibration.no_evidence_below,
            },
            synthetic=None if method is None else method_info(method, own_second),
            error_rates=rates_of_run(checkpoint, calibration, own, method, own_second),
            settings={
                **options.settings(),
                "model": _printable(options.model),
                "calibration": None if options.calibration is None else _printable(str(options.calibration)),
                **({} if query is None else {"query": printable(query.text), "query_sha256": query.digest}),
            },
            settings_digest=self.stamp.failure_digest,
            machine=machine_facts(),
        )

    def begin(self) -> None:
        """The model is loaded and the results folder is open."""
        model, device = self.run.model.get("name", "?"), self.run.model.get("device", "?")
        self._reporter.note(f"clue {self.run.version}, model {model} on {device}")
        self._reporter.stage("", "files")

    def found(self) -> None:
        """Count one more file or archive member."""
        with self._lock:
            self._counts["files"] += 1
            self._reporter.expect(1)

    def found_all(self) -> None:
        """The walk is over."""
        with self._lock:
            self._reporter.expect(final=True)

    def listed(self, listing: Listing) -> None:
        """Note which files the walk of a shard listed, by which a merge sees whether all shards saw the same."""
        with self._lock:
            facts = zip(LISTING, (listing.count, listing.digest), strict=True)
            self.run = self.run.model_copy(update={"settings": {**self.run.settings, **dict(facts)}})

    def archive_opened(self) -> None:
        """One more archive was opened."""
        with self._lock:
            self._counts["archives"] += 1

    def archive_hashed(self, locator: str, sha256: str) -> None:
        """Note the SHA-256 of an archive on disk."""
        with self._lock:
            self._archives[locator] = sha256

    def not_a_picture(self, extension: str, holder: str | None = None) -> None:
        """A file is not a picture and does not claim to be one; `holder`: what it is, if it can hold some."""
        with self._lock:
            if holder is not None:
                self._not_opened[holder] += 1
            self._counts["not_pictures"] += 1
            extension = extension or "(none)"
            if extension not in self._not_pictures and len(self._not_pictures) >= _EXTENSIONS:
                extension = "(others)"
            self._not_pictures[extension] += 1
            self._reporter.advance()

    def unread(self, what: Unreadable) -> None:
        """Something could not be read; count it if it is an archive that clue does not open."""
        if what.step is Step.ARCHIVE and what.code in _NOT_OPENED and (kind := archive_holder(what.locator)):
            with self._lock:
                self._not_opened[kind] += 1

    def skipped(self, reason: str, locator: str) -> None:
        """Something was left out because of an option."""
        if reason == "hidden" and _TRASH.search(locator):
            reason = "trash"
        with self._lock:
            self._skipped[reason] += 1
            if reason != "former results":
                return
            if len(self._earlier) < _LISTED:
                self._earlier.append(locator)
            if self._skipped[reason] > _NAMED:
                return
        self.warn(
            f"{locator} holds results of an earlier run of clue, which were not examined; --include-results examines "
            "them as well."
        )

    def alert(self, locator: str) -> None:
        """A file is on the list of `--alert`."""
        with self._lock:
            self._alert_count += 1
            if len(self._alerts) < _LISTED:
                self._alerts.append(locator)
            if self._alert_count <= _NAMED:
                self._reporter.note(f"alert: {locator} is on the list of --alert.", "warning")

    def file_done(self) -> None:
        """A file needs no more work."""
        with self._lock:
            self._reporter.advance()

    def record(self, record: ImageRecord | FailureRecord, *, resumed: bool = False) -> None:
        """A record was written, or reused from an earlier run."""
        with self._lock:
            self._counts["resumed"] += resumed
            if resumed:
                self.taken_over[record.run_id] += 1
            self._counts.update(counted_as(record))
            self._first.add(record)
            if isinstance(record, ImageRecord):
                if not resumed:
                    self._computed += 1
                    for step in self._steps:
                        self._steps[step] += getattr(record.seconds, step)
            else:
                if record.code is FailureCode.MISSING_EXTRA:
                    self._missing_extra(f"{record.message} {record.advice}", resumed)
                elif not resumed:
                    self._reporter.note(f"failed: {record.locator}: {record.message}", "failure")
            self._reporter.result(record)
            self._reporter.advance(0, self._status())

    def _missing_extra(self, words: str, resumed: bool) -> None:
        """One line for all files that need the same package."""
        self._missing[words] += 1
        if self._missing[words] == 1 and not resumed:
            self._reporter.note(f"warning: {words} All such files are recorded as failures.", "warning")

    def evidence_changed(self, locator: str) -> None:
        """A file had another SHA-256 after its scan."""
        with self._lock:
            self._changed_count += 1
            if self._changed_count <= _LISTED:
                self.warn(f"{locator} changed while it was being scanned.")

    def not_hashed(self, locator: str, reason: str) -> None:
        """An archive could be read but not hashed."""
        with self._lock:
            self._not_hashed_count += 1
            if self._not_hashed_count <= _LISTED:
                self.warn(f"{locator} could not be hashed: {reason}.")

    def replaced(self, locator: str) -> None:
        """An earlier run recorded other bytes under this locator."""
        with self._lock:
            self._replaced += 1

    def warn(self, text: str) -> None:
        """Add a warning about the run as a whole."""
        with self._lock:
            self.run = self.run.model_copy(update={"warnings": [*self.run.warnings, text]})
            self._reporter.note(f"warning: {text}", "warning")

    def close(
        self, status: Literal["finished", "interrupted", "failed"], code: int | None = None, *, compared: int = 0
    ) -> None:
        """Fill in the fields known at the end; the last call wins.

        Args:
            code: the exit code of a run that failed.
            compared: how many files of the evidence were read again and compared.
        """
        with self._lock:
            left_out = {reason: number for reason in _SKIPPED if (number := self._skipped.pop(reason, 0))}
            self._left_out |= left_out
            for words in skipped_in_words(left_out):
                self.warn(words)
            for words, number in self._missing.items():
                self.warn(f"{counted(number, 'file')} not examined. {words}")
            self._missing.clear()
            if (more := self._changed_count - _LISTED) > 0:
                self.warn(f"{counted(more, 'further file')} changed while being scanned; each has a failure record.")
                self._changed_count = _LISTED  # of a run that fails after its end, this is said once
            if (more := self._not_hashed_count - _LISTED) > 0:
                self.warn(f"{counted(more, 'further archive')} could not be hashed.")
                self._not_hashed_count = _LISTED
            if self._replaced:
                self.warn(
                    f"{counted(self._replaced, 'earlier result')} replaced: an earlier run recorded other files with "
                    "the same names here. Use a separate results folder for each body of evidence."
                )
                self._replaced = 0
            counts = Counts(**self._counts)
            if code is None:
                code = exit_code(
                    counts,
                    interrupted=status == "interrupted",
                    fail_on=self._options.fail_on,
                    not_opened=self._not_opened.total(),
                )
                if code is ExitCode.NOTHING_TO_SCAN and self._options.shard is not None:
                    code = ExitCode.OK  # the pictures may all be in other shards
            self.run = self.run.model_copy(
                update={
                    "status": status,
                    "finished": now(),
                    "seconds": time.perf_counter() - self._started,
                    "exit_code": int(code),
                    "counts": counts,
                    "not_pictures_by_type": dict(self._not_pictures.most_common(100)),
                    "not_opened": dict(self._not_opened.most_common()),
                    "skipped": self._left_out,
                    "earlier_results": self._earlier,
                    "alerts": self._alerts,
                    "archives": self._archives,
                    "evidence_unchanged": self._unchanged(status == "finished"),
                    "evidence_compared": compared,
                }
            )

    def summarize(self, page: str, copies: str = "") -> None:
        """The results folder is complete: report counts, groups of copies in words, the slowest steps, the page."""
        run, counts = self.run, self.run.counts
        rows = verdict_rows(run)
        if run.alerts:
            rows.append(("on the alert list", f"{self._alert_count:,}", "bold red"))
        if counts.resumed:
            rows.append(("reused from earlier scans", f"{counts.resumed:,}", ""))
        if copies:
            rows.append(("copies", copies, ""))
        if counts.not_met:
            rows.append(("not seen in this scan", f"{counts.not_met:,} earlier records", "yellow"))
        if run.seconds is not None:
            rows.append(("time", duration(run.seconds), ""))
        if n := self._computed:
            slowest = sorted(self._steps.items(), key=lambda step: -step[1])[:2]
            rows.append(("slowest steps", ", ".join(f"{name} {total / n:.2f} s/image" for name, total in slowest), ""))
        self._reporter.summary(f"Scan {run.status}", [*rows, ("page", page, "")])
        self._first.report(run, page, self._reporter)
        note_limits(run, self._reporter)

    def _status(self) -> str:
        counts = self._counts
        reused = f" · {counts['resumed']:,} reused" if counts["resumed"] else ""
        generated = f" · {counts[Verdict.GENERATED.value]:,} generated" if self.run.synthetic is not None else ""
        return f"{counts[Verdict.FORGED.value]:,} forged{generated} · {counts['failures']:,} failed{reused}"

    def _unchanged(self, finished: bool) -> bool | None:
        # Archives are hashed again when all is read; a run that was cut short did not come to that.
        if self._changed_count:
            return False
        return True if finished and not (self._not_hashed_count or self._read_once) else None


def verdict_rows(run: RunRecord) -> list[tuple[str, str, str]]:
    """The counts of a run by verdict of each question that was asked: name, number, style."""
    counts = run.counts
    rows = [
        ("images", f"{counts.images:,}", ""),
        ("forged", f"{counts.forged:,}", "bold red" if counts.forged else ""),
        ("no evidence of an edited region", f"{counts.no_evidence:,}", ""),
        ("inconclusive", f"{counts.inconclusive:,}", ""),
    ]
    if run.synthetic is not None:
        rows += [
            ("generated as a whole", f"{counts.generated:,}", "bold red" if counts.generated else ""),
            ("no evidence of a generated picture", f"{counts.synthetic_no_evidence:,}", ""),
            ("inconclusive whether generated", f"{counts.synthetic_inconclusive:,}", ""),
        ]
    rows += [
        ("failures", f"{counts.failures:,}", "red" if counts.failures else ""),
        ("not pictures", f"{counts.not_pictures:,} of {counts.files:,} files", ""),
    ]
    return rows


def note_limits(run: RunRecord, reporter: Reporter) -> None:
    """Say what was not asked, and what was not examined."""
    if run.counts.synthetic_not_asked:
        reporter.note(not_asked(run.counts.synthetic_not_asked, run.counts.images))
    if words := not_opened(run.not_opened):
        reporter.note(f"NOT EXAMINED: {words}", "warning")


_NAMED = 20
"""Folders with earlier results that are named one by one, and files on the alert list."""

_LISTED = 1000
"""Most entries of a list in `run.json`, and warnings of one kind."""

_EXTENSIONS = 10_000
"""Most extensions of files that are no pictures, which may all differ."""

# How Android, macOS, Linux desktops, NAS and galleries name what a person has deleted.
_TRASH = re.compile(r"(?:\A|/)\.(trash|deleted|recycle|globaltrash|dustbin)", re.IGNORECASE)

_NOT_OPENED = frozenset(
    {
        FailureCode.UNSUPPORTED_FORMAT,
        FailureCode.MISSING_EXTRA,
        FailureCode.ARCHIVE_ENCRYPTED,
        FailureCode.ARCHIVE_TOO_DEEP,
    }
)

_SKIPPED = {
    "hidden": "Hidden files and folders that were not scanned: {n} (--hidden scans them).",
    "trash": "Deleted files and folders, such as .trashed-… and .Trash, that were not scanned: {n} (--hidden scans "
    "them).",
    "link": "Links that were not followed: {n} (--follow-links follows them).",
    "archive link": "Links in archives, which are never followed: {n}.",
    "former results": "Folders with earlier results that were not scanned, all named in run.json: {n} "
    "(--include-results scans them).",
    "excluded": "Files and folders left out by --exclude: {n}.",
    "not included": "Files left out by --include: {n}.",
    "older": "Files left out by --since: {n}.",
    "known": "Pictures on the list of --known that were not scanned: {n}.",
    "results": "Results folders in the evidence that were not scanned: {n}.",
}


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def now() -> str:
    """The time, ISO 8601 with zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine_facts() -> dict[str, str | int | float | None]:
    """What this machine is, for `run.json`."""
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **library_versions(),
        "cores": cores(),
        "memory_gib": None if (bytes_ := memory()) is None else round(bytes_ / 2**30, 1),
    }


def counted_as(record: ImageRecord | FailureRecord) -> tuple[str, ...]:
    """The fields of `Counts` that count a record."""
    if isinstance(record, FailureRecord):
        return ("failures",)
    return "images", record.verdict.value, _second_count(record)


def _second_count(record: ImageRecord) -> str:
    if record.synthetic is None:
        return "synthetic_not_asked"
    verdict = record.synthetic.verdict
    return verdict.value if verdict is Verdict.GENERATED else f"synthetic_{verdict.value}"


def skipped_in_words(skipped: Mapping[str, int]) -> list[str]:
    """What was left out, by reason, in sentences; the first folders with earlier results are named one by one."""
    return [
        words.format(n=skipped[reason])
        for reason, words in _SKIPPED.items()
        if skipped.get(reason) and (reason != "former results" or skipped[reason] > _NAMED)
    ]


def not_asked(count: int, images: int) -> str:
    """What `no evidence` does not say where the second question was not asked, in words."""
    of = "" if count == images else f" of {count:,} of {images:,} images"
    return (
        f"Whether whole pictures were generated was not asked{of} (--also synthetic asks it): “no evidence” means no "
        "evidence of an edited region."
    )


def exit_code(counts: Counts, *, interrupted: bool, fail_on: Collection[FailOn] = (), not_opened: int = 0) -> ExitCode:
    """The exit code of a run that came to its end or was stopped; precedence as in `clue_cli.errors`.

    Args:
        counts: of this run, the resumed records included.
        interrupted: whether it was stopped before the end.
        fail_on: what was asked for with `--fail-on`.
        not_opened: how many files can hold pictures and were not opened.
    """
    if interrupted:
        return ExitCode.INTERRUPTED
    if (FailOn.FORGED in fail_on and counts.forged) or (FailOn.GENERATED in fail_on and counts.generated):
        return ExitCode.FORGED_FOUND
    if counts.failures or (FailOn.UNREAD in fail_on and not_opened):
        return ExitCode.SOME_FAILED
    return ExitCode.OK if counts.images else ExitCode.NOTHING_TO_SCAN
