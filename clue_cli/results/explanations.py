"""`explanations.jsonl` in a results folder: what language models wrote about its records, apart from the records.

One line for each attempt, append-only. A line belongs to one record as it was then, by a digest of all that the record
says; what is no longer said in any record stays in the file, and is shown nowhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from clue_cli.records import ImageRecord, Model
from clue_cli.results.log import IndexedLog

EXPLANATIONS = "explanations.jsonl"
_PASSING: dict[str, Any] = {
    **dict.fromkeys(("schema_version", "run_id", "seconds", "written", "plain_words", "perceptual_hash"), True),
    **dict.fromkeys(ImageRecord.model_computed_fields, True),
    "file": {"md5": True, "sha1": True, "modified": True},
}
"""Fields of a record that say nothing about the picture, or follow from others."""


class Explanation(Model):
    """One attempt to explain a record: the text, whether it passed the check, and how it was made."""

    kind: Literal["explanation"] = Field(default="explanation", description="Tells such a line from a record's.")
    generated: Literal[True] = Field(default=True, description="The text was written by a language model.")
    record: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 over what the record says; see `record_digest`.")
    locator: str = Field(description="Of the record.")
    page: int = Field(ge=0, description="Of the record.")
    sha256: str = Field(description="SHA-256 of the file, hex.")
    settings_digest: str = Field(description="Of the record.")
    status: Literal["accepted", "discarded", "failed"] = Field(
        description="`accepted`: every claim passed the check. `discarded`: the text is kept here only, and must not "
        "be shown. `failed`: there is no text."
    )
    text: str | None = Field(description="What the model wrote; null if it failed.")
    reasons: list[str] = Field(default=[], description="Why it was discarded, each claim by itself, or why it failed.")
    model: str = Field(description="Name or folder of the language model.")
    model_digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 over its files, hex.")
    request_sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256 of the request with all that was given, hex."
    )
    generation: dict[str, str | int | bool] = Field(description="How the text was generated.")
    version: str = Field(description="Version of clue.")
    made: str = Field(description="When, ISO 8601 with zone.")
    seconds: float = Field(ge=0, description="Wall-clock seconds.")

    @property
    def key(self) -> str:
        """Equal for attempts that would give the same text."""
        return explanation_key(self.record, self.model_digest, self.request_sha256, self.generation)


def explanation_key(
    record: str, model_digest: str, request_sha256: str, generation: dict[str, str | int | bool]
) -> str:
    """Names an attempt by what its text depends on; see `Explanation`."""
    return _digest([record, model_digest, request_sha256, generation])


def record_digest(record: ImageRecord) -> str:
    """SHA-256, hex, over all that a record says but its run and the time it took.

    Fields with their default values do not count, so that a later version with more fields knows the record again.
    """
    return _digest(record.model_dump(mode="json", exclude=_PASSING, exclude_defaults=True))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ExplanationLog(IndexedLog[Explanation]):
    """The explanations of a results folder; arguments and errors as of `IndexedLog`."""

    tables = """
        CREATE TABLE line (record TEXT, key TEXT, status TEXT, start INTEGER, length INTEGER, PRIMARY KEY (record, key))
        WITHOUT ROWID;
    """

    def append(self, explanation: Explanation) -> None:
        """Append one line; it replaces an earlier one of the same key.

        Raises:
            OSError: the disk is full or gone; the log is as it was before.
        """
        self._append(explanation, explanation.model_dump_json().encode())

    def last(self, record: str, key: str) -> Explanation | None:
        """The last attempt of a key, None if there was none."""
        with self._lock:
            row = self._index.execute(
                "SELECT start, length FROM line WHERE record = ? AND key = ?", (record, key)
            ).fetchone()
        return None if row is None else self._at(*row)

    def explains(self, record: str) -> bool:
        """Whether there is an attempt about a record, by its digest."""
        with self._lock:
            row = self._index.execute("SELECT 1 FROM line WHERE record = ? LIMIT 1", (record,)).fetchone()
        return row is not None

    def entries(self) -> Iterator[Explanation]:
        """Every attempt, in the order in which they were written."""
        return self._entries()

    def accepted(self, record: ImageRecord) -> list[Explanation]:
        """The texts about a record that passed the check, in the order in which they were written."""
        with self._lock:
            rows = self._index.execute(
                "SELECT start, length FROM line WHERE record = ? AND status = 'accepted' ORDER BY start",
                (record_digest(record),),
            ).fetchall()
        return [self._at(start, length) for start, length in rows]

    def _parse(self, line: bytes) -> Explanation | None:
        try:
            return Explanation.model_validate_json(line)
        except ValidationError:
            return None

    def _enter(self, entry: Explanation, start: int, length: int) -> None:
        self._index.execute(
            "INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?, ?)", (entry.record, entry.key, entry.status, start, length)
        )


def explanations_in(results: Path) -> ExplanationLog | None:
    """The explanations of a results folder, to be read; None if there are none.

    Raises:
        OSError: they cannot be read.
    """
    path = results / EXPLANATIONS
    return ExplanationLog(path, read_only=True) if path.is_file() else None
