"""`notes.jsonl` in a results folder: what people noted about its pictures, apart from the records.

One line for each note, append-only; nothing is ever removed, by `clue scan --overwrite` neither. Of a picture and a
person the note with the latest time counts. A note belongs to the picture with its locator, page and SHA-256: one that
no record fits stays in the file, and is shown with no picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.records import ImageRecord
from clue_cli.results.log import IndexedLog
from clue_cli.terminal import printable

NOTES = "notes.jsonl"
FORMAT = "clue-notes/1"
_LARGEST = 32 << 20
"""Bytes; a larger file of notes is refused before it is read."""
_FUTURE = timedelta(minutes=5)
"""By which two clocks may differ."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
"""As the page takes times: Python reads weeks and seconds in a zone too, which a browser cannot compare."""

Mark = Literal["checked", "to_be_checked", "not_relevant"]


class Note(BaseModel):
    """What a person noted about a picture: a mark, a text, or both; neither takes both back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    locator: str = Field(min_length=1, max_length=65_536, description="Of the record.")
    page: int = Field(ge=0, le=2**31, description="Of the record; 0 for a file without pages.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, hex.")
    mark: Mark | None = Field(description="What the person made of it; null: nothing.")
    note: str = Field(max_length=100_000, description="A text; empty: none. It may hold anything, markup too.")
    who: str = Field(min_length=1, max_length=200, description="The person, as they wrote their name.")
    when: str = Field(
        max_length=64, description="When, as 2026-02-01T10:00:00Z, by the clock of the person's computer."
    )

    @field_validator("when")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if not _TIME.fullmatch(value):
            raise ValueError("not a time as 2026-02-01T10:00:00Z")
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time without a zone")
        _in_utc(value)
        return value

    @field_validator("who")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a name of blanks")
        return value

    @property
    def at(self) -> datetime:
        """`when` as a time in UTC."""
        return _in_utc(self.when)

    @property
    def digest(self) -> str:
        """Equal for equal notes, whenever they were merged."""
        content = self.model_dump(include=set(Note.model_fields))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class MergedNote(Note):
    """A line of `notes.jsonl`."""

    merged: str = Field(max_length=64, description="When it was merged into the results, ISO 8601 with zone.")


class NoteLog(IndexedLog[MergedNote]):
    """The notes of a results folder; arguments and errors as of `IndexedLog`."""

    tables = """
        CREATE TABLE line (
            digest TEXT PRIMARY KEY, locator TEXT, page INTEGER, sha256 TEXT, who TEXT, mark TEXT, text INTEGER,
            at TEXT, start INTEGER, length INTEGER
        ) WITHOUT ROWID;
        CREATE INDEX by_picture ON line (locator, page, sha256, who, at, start);
        CREATE VIEW latest AS SELECT * FROM line AS one WHERE NOT EXISTS (
            SELECT 1 FROM line AS other WHERE other.locator = one.locator AND other.page = one.page
            AND other.sha256 = one.sha256 AND other.who = one.who AND (other.at, other.start) > (one.at, one.start)
        );
    """

    def _cut_off(self, size: int, torn: Path | None) -> None:
        """End a torn line where it is: nothing is removed from a log that a manifest may list."""
        os.write(self._fd, b"\n")
        self._whole = size + 1

    def append(self, note: MergedNote) -> bool:
        """Append one line; returns False if that note is there already.

        Raises:
            OSError: the disk is full or gone; the log is as it was before.
        """
        with self._lock:
            known = self._index.execute("SELECT 1 FROM line WHERE digest = ?", (note.digest,)).fetchone()
            if known is None:
                self._append(note, note.model_dump_json().encode())
            return known is None

    def of(self, record: ImageRecord) -> list[MergedNote]:
        """The notes about a record's picture, the latest of each person, by their times."""
        return self.at(record.locator, record.page, record.file.sha256)

    def at(self, locator: str, page: int, sha256: str) -> list[MergedNote]:
        """`of` for what a record says."""
        with self._lock:
            rows = self._index.execute(
                "SELECT start, length FROM latest WHERE locator = ? AND page = ? AND sha256 = ? ORDER BY at, start",
                (locator, page, sha256),
            ).fetchall()
        return [self._at(*row) for row in rows]

    def has(self, locator: str) -> bool:
        """Whether there is a note about a picture of this locator."""
        with self._lock:
            return (
                self._index.execute("SELECT 1 FROM line WHERE locator = ? LIMIT 1", (locator,)).fetchone() is not None
            )

    def current(self) -> Iterator[MergedNote]:
        """The latest note of each person about each picture, by locator, page and person."""
        rows = self._index.execute("SELECT start, length FROM latest ORDER BY locator, page, sha256, who")
        return (self._at(*row) for row in rows)

    def entries(self) -> Iterator[MergedNote]:
        """Every note, in the order in which they were merged."""
        return self._entries()

    def counts(self) -> list[tuple[str, str | None, int]]:
        """Person, mark and number of their latest notes, those with neither mark nor text left out."""
        return self._index.execute(
            "SELECT who, mark, count(*) FROM latest WHERE mark IS NOT NULL OR text GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()

    def disagreements(self) -> int:
        """Pictures to which people have given different marks."""
        ((count,),) = self._index.execute(
            "SELECT count(*) FROM (SELECT 1 FROM latest GROUP BY locator, page, sha256 HAVING count(DISTINCT mark) > 1)"
        )
        return int(count)

    def _parse(self, line: bytes) -> MergedNote | None:
        try:
            return MergedNote.model_validate_json(line)
        except ValidationError:
            return None

    def _enter(self, entry: MergedNote, start: int, length: int) -> None:
        self._index.execute(
            "INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entry.digest, entry.locator, entry.page, entry.sha256, entry.who, entry.mark, bool(entry.note)),
                *(entry.at.isoformat(timespec="microseconds"), start, length),
            ),
        )


def notes_in(results: Path) -> NoteLog | None:
    """The notes of a results folder, to be read; None if there are none.

    Raises:
        OSError: they cannot be read.
    """
    path = results / NOTES
    return NoteLog(path, read_only=True) if path.is_file() else None


@dataclass(frozen=True, slots=True)
class NotesFile:
    """A file of notes as the page saves it, checked."""

    path: Path
    run_id: str
    notes: list[Note]


@dataclass(slots=True)
class MergeOfNotes:
    """What was done with files of notes.

    Attributes:
        added, known: notes that are new, and that were there already.
        unplaced: new or known notes about a picture that is not here.
        future: notes with a time that has not come yet.
    """

    added: int = 0
    known: int = 0
    unplaced: list[Note] = field(default_factory=list)
    future: list[Note] = field(default_factory=list)


def read_notes(path: Path) -> NotesFile:
    """A file of notes; all of it is checked before anything is made of it.

    Raises:
        NothingToScanError: it does not exist or cannot be read.
        UsageError: it is too large, damaged, or no file of notes; the message says which note is wrong, and how.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise NothingToScanError(f"The notes {path} cannot be read: {error.strerror or error}.") from error
    if len(content) > _LARGEST:
        message = f"{path} is larger than {_LARGEST >> 20} MiB: notes of people are not."
        raise UsageError(message, "Name a file that the page has saved, or divide it.")
    advice = "Name a file that the page of the results has saved. Nothing was merged."
    try:
        loaded: Any = json.loads(content, object_pairs_hook=_without_repeated_keys)
    except (ValueError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} is not a file of notes: {cause}.", advice) from error
    form = loaded.get("format") if isinstance(loaded, dict) else None
    if form != FORMAT:
        if isinstance(form, str) and form.startswith("clue-notes/"):
            raise UsageError(f"{path} has the format {_cut(form)}, which this version cannot read.", "Update clue.")
        raise UsageError(f'{path} is not a file of notes: it has no "format": "{FORMAT}".', advice)
    run_id, notes = loaded.get("run_id"), loaded.get("notes")
    if not isinstance(run_id, str) or not run_id or not isinstance(notes, list):
        raise UsageError(f"{path} does not name its run, or has no list of notes.", advice)
    if unknown := sorted(set(loaded) - {"format", "run_id", "notes"}):
        raise UsageError(f"{path} has a key that is unknown: {_cut(unknown[0])}.", advice)
    return NotesFile(path, run_id, [_note(path, number, one, advice) for number, one in enumerate(notes, 1)])


def _note(path: Path, number: int, content: object, advice: str) -> Note:
    try:
        return Note.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the note"
        raise UsageError(f"{path}, note {number}: {_cut(where)}: {_cut(first['msg'])}.", advice) from error


def _without_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _cut(text: str) -> str:
    return printable(text if len(text) <= 100 else f"{text[:100]}…")


def _in_utc(when: str) -> datetime:
    try:
        return datetime.fromisoformat(when).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time that no calendar has") from error


def counted_marks(log: NoteLog) -> Mapping[str, dict[str, int]]:
    """By person how often they gave each mark; `note` counts texts without a mark."""
    found: dict[str, dict[str, int]] = {}
    for who, mark, count in log.counts():
        found.setdefault(who, {})[mark or "note"] = count
    return found


def is_future(note: Note, now: datetime) -> bool:
    """Whether its time has not come yet, which it would outdate all later notes with."""
    return note.at > now + _FUTURE
