"""Reading the results folder of a scan without changing anything in it: what a page or an export is made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, ValidationError

from clue_cli.errors import NothingToScanError, OutputError
from clue_cli.records import SCHEMA_VERSION, VERSION_PATTERN, FailureRecord, ImageRecord, RunRecord, is_newer
from clue_cli.results.record_log import RecordLog
from clue_cli.results.record_rows import Newer
from clue_cli.terminal import counted

LOG, RUN = "records.jsonl", "run.json"
"""The files by which results are known again."""

_LARGEST_RUN = 256 << 20
"""Bytes; a larger `run.json` is taken for damage."""
TORN = "records.torn"
SEGMENTS = "records.parts"
"""In an object store: what was appended to the log."""


class ResultsReader:
    """The results in a folder as they are when it is opened, whether or not a scan is writing there.

    No lock is taken and nothing is written: the folder may be read-only. Memory does not grow with the records, whose
    index spills to the folder for temporary files.

    Args:
        path: the folder.

    Attributes:
        path: the folder; the paths in the records are relative to it.
        run: the latest run; None if `run.json` is missing or damaged.
        damaged: how many lines of the log were passed over: damaged ones, and a torn last one.
        newer: its lines that a newer version of clue wrote.

    Raises:
        NothingToScanError: there are no results of a scan, they cannot be read, or a newer version wrote them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged, self.newer = 0, Newer()
        self._log: RecordLog | None = None
        try:
            known, self.run = holds_results(path), read_run(path / RUN)
            if known and _lacks_segments(path):
                raise NothingToScanError(
                    f"{path} is a copy of results in an object store whose scan has not ended: a part of their log is "
                    f"in {SEGMENTS}.",
                    "Repeat that scan, and copy the folder when it is done; or name the URL instead of the copy.",
                )
            if known and (path / LOG).is_file():
                self._log = RecordLog(path / LOG, read_only=True)
                self.damaged, self.newer = self._log.damaged + self._log.torn, self._log.newer
        except OSError as error:
            raise NothingToScanError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
        except OutputError as error:
            raise NothingToScanError(error.message, "Update clue.") from error
        if not known:
            raise NothingToScanError(
                f"There are no results of clue scan in {path}.", "Name the folder that --out of the scan wrote."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def unfinished(self) -> bool:
        """Whether the latest run has not finished: it is running, was interrupted or killed, or failed."""
        return self.run is None or self.run.status != "finished"

    @property
    def left_out(self) -> int:
        """How many lines of the log are not among the records: damaged ones, and those of a newer version."""
        return self.damaged + self.newer.left_out

    def problems(self, log: str = LOG) -> list[str]:
        """What a reader should know of the log, in sentences.

        Args:
            log: its name there.
        """
        damaged = [f"{counted(self.damaged, 'damaged line')} of {log} left out."] if self.damaged else []
        return damaged + ([self.newer.words(log)] if self.newer.lines else [])

    def records(self) -> Iterator[ImageRecord | FailureRecord]:
        """All current records, by locator and page, one at a time; a failure of a whole file comes first.

        Raises:
            OutputError: another program changed the log meanwhile.
        """
        if self._log is not None:
            yield from (record for record, _ in self._log.records())

    def of(self, locator: str) -> Iterator[ImageRecord | FailureRecord]:
        """The current records of one locator, by page; a failure of the whole file comes first. Errors as above."""
        return iter(()) if self._log is None else self._log.each_current(locator)

    def close(self) -> None:
        """Close the log; harmless when repeated."""
        if self._log is not None:
            self._log.close()


def holds_results(folder: Path) -> bool:
    """Whether a scan wrote there.

    Raises:
        OutputError: it was one of a newer version.
        OSError: it cannot be read.
    """
    return read_run(folder / RUN) is not None or _starts_with_record(folder / LOG)


def read_run(path: Path) -> RunRecord | None:
    """The run of an earlier scan, None if there is none that can be read.

    Raises:
        OutputError: it is of a newer version, whose results this one would damage.
        OSError: it cannot be read.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST_RUN:
        return None
    content = path.read_bytes()
    try:
        written_by = _WrittenBy.model_validate_json(content)
    except ValidationError:
        return None
    if is_newer(written_by.schema_version):
        raise OutputError(
            f"{path.parent} holds results of a newer version of clue.",
            "Update clue, or choose another folder with --out.",
        )
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError:
        return None


def _lacks_segments(folder: Path) -> bool:
    """Whether segments follow the log of a folder that was copied from a store."""
    parts = folder / SEGMENTS
    if not parts.is_dir():
        return False
    end = (folder / LOG).stat().st_size if (folder / LOG).is_file() else 0
    return any(path.stem.isdecimal() and int(path.stem) >= end for path in parts.glob("*.jsonl"))


def _starts_with_record(log: Path) -> bool:
    if not log.is_file():
        return False
    with log.open("rb") as stream:
        return stream.read(16).startswith((b'{"kind":"image"', b'{"kind":"failure'))


class _WrittenBy(BaseModel):
    """The two keys of `run.json` that no version changes."""

    tool: Literal["clue"] = "clue"
    schema_version: str = Field(default=SCHEMA_VERSION, pattern=VERSION_PATTERN)
