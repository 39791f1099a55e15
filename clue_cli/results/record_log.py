"""`records.jsonl`: what was found in each image, or why it failed.

Of one locator, the records of the latest run that wrote about it are the current ones, older lines are history.

`ResumeIndex` says what need not be computed again. A file is finished if every page of it is recorded (or a failure
for the file as a whole), for the same bytes, by the same model and version of clue, with the same settings, and the
pictures of its records are still there. A failure counts as finished too, unless `--retry-failed` is given or a limit
was changed.

Records of evidence that a run does not meet again (moved, deleted, renamed, not among the paths of this run, or the
run was interrupted before) are never dropped: they stay in the log, in `summary.csv` (with `met_in_this_run` = no)
and on the page, and `run.json` counts them apart as `not_met`. A file that disappears between two scans is itself
something that a reader must see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clue_cli.records import FailureRecord, ImageRecord, OutputPaths
from clue_cli.results import record_rows
from clue_cli.results.log import IndexedLog
from clue_cli.results.record_rows import WHOLE_FILE, Newer, Row, key_of, page_of

_BATCH = 1000
_LONG = 10_000
"""Characters of a locator from which it does not wait in memory for others: a log may be an attacker's."""


class RecordLog(IndexedLog[ImageRecord | FailureRecord]):
    """The log of one scan's results folder; arguments and errors as of `IndexedLog`.

    Attributes:
        newer: lines that a newer version of clue wrote; those that cannot be read are not among the damaged ones.
    """

    tables = """
        CREATE TABLE line (
            locator TEXT, page INTEGER, start INTEGER, length INTEGER, run INTEGER, met INTEGER,
            outdated INTEGER DEFAULT 0, PRIMARY KEY (locator, page)
        ) WITHOUT ROWID;
        CREATE TABLE name (key INTEGER PRIMARY KEY, locator TEXT);
        CREATE TEMP TABLE earlier_name (key INTEGER, locator TEXT);
    """

    def __init__(self, path: Path, torn: Path | None = None, *, read_only: bool = False) -> None:
        self.newer = Newer()
        self._run, self._run_id = 0, ""
        self._lines_read: list[tuple[str, int, int, int, int]] = []
        self._names_read: list[tuple[int, str]] = []
        super().__init__(path, torn, read_only=read_only)
        # Lines written from here on are of a new run.
        self._run += 1

    @property
    def warnings(self) -> list[str]:
        """What was found wrong with the log when it was opened to be written."""
        found = []
        if self.torn:
            found.append(
                f"The last line of {self._path.name} was torn, as a crash leaves it; it is kept in "
                f"{self._path.with_suffix('.torn').name} and its image is scanned again."
            )
        if self.damaged:
            shown = ", ".join(map(str, self.damaged_lines[:10])) + (", …" if self.damaged > 10 else "")
            found.append(
                f"{self.damaged} lines of {self._path.name} are damaged and were ignored (line {shown}); "
                "what they were about is scanned again if it is still there."
            )
        if self.newer.lines:
            found.append(self.newer.words(self._path.name))
        return found

    def append(self, record: ImageRecord | FailureRecord) -> None:
        """Append one line; afterwards the locator's records of earlier runs are history.

        Raises:
            OSError: the disk is full or gone; the log is as it was before.
        """
        self._append(record, record.model_dump_json().encode())

    def current(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The current records of one locator, by page; those for the whole file come first."""
        return list(self.each_current(locator))

    def each_current(self, locator: str) -> Iterator[ImageRecord | FailureRecord]:
        """`current`, but each is read when it comes: of a locator, a log of an attacker's can have a million pages."""
        with self._lock:
            rows = self._index.execute(
                "SELECT start, length FROM line WHERE locator = ? ORDER BY page", (locator,)
            ).fetchall()
        return (self._at(start, length) for start, length in rows)

    def outdate(self, locator: str) -> Iterator[ImageRecord | FailureRecord]:
        """The records of earlier runs that a new record of this locator will replace; each is returned once."""
        with self._lock:
            rows = self._index.execute(
                "UPDATE line SET outdated = 1 WHERE locator = ? AND run <> ? AND NOT outdated RETURNING start, length",
                (locator, self._run),
            ).fetchall()
        return (self._at(start, length) for start, length in rows)

    def forget(self, locator: str) -> list[ImageRecord | FailureRecord]:
        """The current records of a locator, which become history, those of this run too: others will follow."""
        with self._lock:
            records = self.current(locator)
            self._index.execute("DELETE FROM line WHERE locator = ?", (locator,))
        return records

    def keep(self, locator: str, *, met: bool = True) -> None:
        """Note that this run met the locator and takes its records over; or that it takes them over unmet."""
        with self._lock:
            self._index.execute("UPDATE line SET met = ? WHERE locator = ?", (met, locator))

    def is_met(self, locator: str) -> bool:
        """Whether this run met the locator."""
        with self._lock:
            row = self._index.execute("SELECT 1 FROM line WHERE locator = ? AND met", (locator,)).fetchone()
        return row is not None

    def not_met(self) -> int:
        """How many current records belong to evidence that this run did not meet."""
        with self._lock:
            (count,) = self._index.execute("SELECT count(*) FROM line WHERE met = 0").fetchone()
        return int(count)

    def records(self) -> Iterator[tuple[ImageRecord | FailureRecord, bool]]:
        """All current records by locator and page, each with whether this run met it. Memory does not grow."""
        after: tuple[str, int] = ("", WHOLE_FILE - 1)
        while True:
            with self._lock:
                rows = self._index.execute(
                    "SELECT locator, page, start, length, met FROM line WHERE (locator, page) > (?, ?) "
                    "ORDER BY locator, page LIMIT ?",
                    (*after, _BATCH),
                ).fetchall()
            for _, _, start, length, met in rows:
                yield self._at(start, length), bool(met)
            if not rows:
                return
            after = rows[-1][:2]

    def history(self) -> Iterator[ImageRecord | FailureRecord]:
        """Every readable record that was ever logged, in the order of the log."""
        return self._entries()

    def take_name(self, name: PurePosixPath, locator: str) -> bool:
        """Reserve an output name for a locator.

        False if another locator has it, or has one that some file system takes for the same.
        """
        key = key_of(str(name))
        with self._lock:
            self._index.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (key, locator))
            (owner,) = self._index.execute("SELECT locator FROM name WHERE key = ?", (key,)).fetchone()
        return bool(owner == locator)

    def _parse(self, line: bytes) -> ImageRecord | FailureRecord | None:
        return record_rows.parsed(line)

    def _load_all(self) -> None:
        lines_before = 0
        for part in record_rows.read(self._path, self._whole, with_keys=not self._read_only):
            self._note_damaged(part.damaged, (lines_before + number for number in part.damaged_lines))
            lines_before += part.lines
            self.newer += part.newer
            for row in part.rows:
                self._load_row(row)
            self._end = part.end

    def _load_row(self, row: Row) -> None:
        locator, page, start, length, run_id, key = row
        if run_id != self._run_id or not self._run:
            self._run_id = run_id
            self._run += 1
        self._lines_read.append((locator, page, start, length, self._run))
        if key is not None:
            self._names_read.append((key, locator))
        if len(self._lines_read) >= _BATCH or len(locator) > _LONG:
            self._enter_read()

    def _loaded(self) -> None:
        self._enter_read()
        if self._run > 1:
            self._index.execute(
                "DELETE FROM line WHERE (locator, run) NOT IN (SELECT locator, max(run) FROM line GROUP BY locator)"
            )
        # In the order of the keys: a million insertions at random places take minutes.
        self._index.execute("INSERT OR IGNORE INTO name SELECT * FROM earlier_name ORDER BY key, rowid")
        self._index.execute("DROP TABLE earlier_name")

    def _enter_read(self) -> None:
        self._index.executemany(
            "INSERT OR REPLACE INTO line (locator, page, start, length, run, met) VALUES (?, ?, ?, ?, ?, 0)",
            self._lines_read,
        )
        self._index.executemany("INSERT INTO earlier_name VALUES (?, ?)", self._names_read)
        self._lines_read.clear()
        self._names_read.clear()

    def _enter(self, record: ImageRecord | FailureRecord, start: int, length: int) -> None:
        self._index.execute("DELETE FROM line WHERE locator = ? AND run <> ?", (record.locator, self._run))
        self._index.execute(
            "INSERT OR REPLACE INTO line (locator, page, start, length, run, met) VALUES (?, ?, ?, ?, ?, 1)",
            (record.locator, page_of(record), start, length, self._run),
        )


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
        is_there: whether a file that a record names is in the results folder.
        stamp: of this run.
        retry_failed: whether failures are tried again.
    """

    def __init__(
        self, log: RecordLog, is_there: Callable[[str], bool], stamp: Stamp, *, retry_failed: bool = False
    ) -> None:
        self._log = log
        self._is_there = is_there
        self._stamp = stamp
        self._retry_failed = retry_failed

    def lookup(self, locator: str, sha256: str) -> list[ImageRecord | FailureRecord] | None:
        """The records of a finished file, by page, or None if it has to be scanned.

        Records that are returned count as taken over: this run has met their evidence.

        Raises:
            OutputError: the log was changed by somebody else meanwhile.
        """
        records = []
        for record in self._log.each_current(locator):
            if not self._holds(record, sha256):
                return None
            records.append(record)
        if not records or not is_complete(records):
            return None
        self._log.keep(locator)
        return records

    def holds_other_bytes(self, locator: str, sha256: str) -> bool:
        """Whether an earlier run recorded another file under this locator, whose results this run will replace."""
        return any(
            record.file is not None and record.file.sha256 != sha256 for record in self._log.each_current(locator)
        )

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


def image_digest(record: ImageRecord, stamp: Stamp) -> str:
    """The digest of what an image's record depends on."""
    if record.file.sniffed_type in ("png", "webp", "avif"):
        return stamp.animated_digest
    return stamp.gif_digest if record.file.sniffed_type == "gif" else stamp.image_digest


def pictures(outputs: OutputPaths) -> list[str]:
    """Every file of a record, relative to the results folder."""
    return [path for _, path in outputs if path is not None]


def is_complete(records: Sequence[ImageRecord | FailureRecord]) -> bool:
    """Whether these are all the records that there will be.

    A failure of the whole file says how many pages were read besides: it may be in the log before they are. Whatever
    is not known makes the file incomplete, because scanning twice is cheaper than losing a page.
    """
    pages = {record.page for record in records}
    whole = [record for record in records if isinstance(record, FailureRecord) and record.page is None]
    if whole:
        return whole[0].other_pages == len(pages) - 1
    counts = {record.page_count for record in records} - {None}
    # The number of pages may be an attacker's: no set of that size is made before it is known to be right.
    return len(counts) == 1 and counts == {len(pages)} and pages == set(range(len(pages)))
