"""What need not be computed again.

A file is finished if every page of it is recorded (or a failure for the file as a whole), for the same bytes, by
the same model and version of clue, with the same settings, and the pictures of its records are still there. A
failure counts as finished too, unless `--retry-failed` is given or a limit was changed.

Records of evidence that a run does not meet again (moved, deleted, renamed, not among the paths of this run, or the
run was interrupted before) are never dropped: they stay in the log, in `summary.csv` (with `met_in_this_run` = no)
and on the page, and `run.json` counts them apart as `not_met`. A file that disappears between two scans is itself
something that a reader must see.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from clue_cli.records import FailureRecord, ImageRecord, OutputPaths
from clue_cli.results.record_log import RecordLog


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the store writes into each record of a run, and what resuming compares.

    Attributes:
        run_id: names the run; later ids sort after earlier ones.
        model_digest: SHA-256 of the model, hex.
        image_digest: SHA-256 over all that an image's record depends on, hex.
        gif_digest: the same for GIFs, of which an option chooses the frames.
        animated_digest: the same for other types that can be animated; `image_digest` if first frames are chosen.
        failure_digest: SHA-256 over all that a failure depends on, the limits included, hex.
    """

    run_id: str
    model_digest: str
    image_digest: str
    gif_digest: str
    animated_digest: str
    failure_digest: str


class ResumeIndex:
    """Answers for each file whether it is finished. Thread-safe.

    Args:
        log: of the results folder.
        out: the results folder.
        stamp: of this run.
        retry_failed: whether failures are tried again.
    """

    def __init__(self, log: RecordLog, out: Path, stamp: Stamp, *, retry_failed: bool = False) -> None:
        self._log = log
        self._out = out
        self._stamp = stamp
        self._retry_failed = retry_failed

    def lookup(self, locator: str, sha256: str) -> list[ImageRecord | FailureRecord] | None:
        """The records of a finished file, by page, or None if it has to be scanned.

        Records that are returned count as taken over: this run has met their evidence.

        Raises:
            OutputError: the log was changed by somebody else meanwhile.
        """
        records = self._log.current(locator)
        if not records or not all(self._holds(record, sha256) for record in records) or not _complete(records):
            return None
        self._log.keep(locator)
        return records

    def holds_other_bytes(self, locator: str, sha256: str) -> bool:
        """Whether an earlier run recorded another file under this locator, whose results this run will replace."""
        return any(record.file is not None and record.file.sha256 != sha256 for record in self._log.current(locator))

    def _holds(self, record: ImageRecord | FailureRecord, sha256: str) -> bool:
        if record.file is None or record.file.sha256 != sha256:
            return False
        if isinstance(record, FailureRecord):
            return record.settings_digest == self._stamp.failure_digest and not self._retry_failed
        return (
            record.settings_digest == image_digest(record, self._stamp)
            and record.model.digest == self._stamp.model_digest
            and all(map(self._is_there, pictures(record.outputs)))
        )

    def _is_there(self, relative: str) -> bool:
        try:
            status = os.stat(f"{self._out}/{relative}")  # noqa: PTH116 - seven of these per image, and Path takes longer
        except OSError:
            return False
        # A power failure can leave the name of a file without its content.
        return stat.S_ISREG(status.st_mode) and status.st_size > 0


def image_digest(record: ImageRecord, stamp: Stamp) -> str:
    """The digest of what an image's record depends on."""
    if record.file.sniffed_type in ("png", "webp", "avif"):
        return stamp.animated_digest
    return stamp.gif_digest if record.file.sniffed_type == "gif" else stamp.image_digest


def pictures(outputs: OutputPaths) -> list[str]:
    """Every file of a record, relative to the results folder."""
    return [path for _, path in outputs if path is not None]


def _complete(records: list[ImageRecord | FailureRecord]) -> bool:
    """Whether these are all the records that there will be.

    A failure of the whole file says how many pages were read besides: it may be in the log before they are. Whatever
    is not known makes the file incomplete, because scanning twice is cheaper than losing a page.
    """
    pages = {record.page for record in records}
    whole = [record for record in records if isinstance(record, FailureRecord) and record.page is None]
    if whole:
        return whole[0].other_pages == len(pages) - 1
    counts = {record.page_count for record in records} - {None}
    return len(counts) == 1 and pages == set(range(counts.pop() or 0))
