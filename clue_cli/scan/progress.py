"""What a scan tells while it runs, and to whom.

The pipeline knows only the protocol `Progress`; `clue_cli.console` shows it to a person, `JsonLines` to a program.
All calls come from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from clue_cli.records import FailureRecord, ImageRecord, RunRecord


class Progress(Protocol):
    """The events of a scan, in the order in which they come."""

    def started(self, run: RunRecord) -> None:
        """The model is loaded and the results folder is open."""

    def found(self, n: int) -> None:
        """`n` more files or archive members were met."""

    def found_all(self) -> None:
        """No more files will be found: from here on the time left can be told."""

    def finished(self, record: ImageRecord, *, resumed: bool = False) -> None:
        """An image is recorded, or its record was taken over from an earlier run."""

    def failed(self, record: FailureRecord, *, resumed: bool = False) -> None:
        """A failure is recorded, or was taken over from an earlier run."""

    def done(self, n: int = 1) -> None:
        """`n` of the found files need no more work: recorded with all their pages, failed, or no picture."""

    def warning(self, text: str) -> None:
        """Something about the run as a whole that a person should know."""

    def ended(self, run: RunRecord) -> None:
        """The results folder is complete; `run` is what `run.json` says."""


class Silent:
    """Progress that tells nobody: for `--quiet`, for tests, and as a base for those who listen to a few events."""

    def started(self, run: RunRecord) -> None:
        """Tell nobody."""

    def found(self, n: int) -> None:
        """Tell nobody."""

    def found_all(self) -> None:
        """Tell nobody."""

    def finished(self, record: ImageRecord, *, resumed: bool = False) -> None:
        """Tell nobody."""

    def failed(self, record: FailureRecord, *, resumed: bool = False) -> None:
        """Tell nobody."""

    def done(self, n: int = 1) -> None:
        """Tell nobody."""

    def warning(self, text: str) -> None:
        """Tell nobody."""

    def ended(self, run: RunRecord) -> None:
        """Tell nobody."""


class JsonLines(Silent):
    """Each record as one line of JSON, as soon as it is there; the resumed ones too.

    Args:
        write: takes one line with its line end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def finished(self, record: ImageRecord, *, resumed: bool = False) -> None:
        """Write the line."""
        self._write(record.model_dump_json() + "\n")

    def failed(self, record: FailureRecord, *, resumed: bool = False) -> None:
        """Write the line."""
        self._write(record.model_dump_json() + "\n")


class Several:
    """Passes every event on to each of several listeners."""

    def __init__(self, listeners: Sequence[Progress]) -> None:
        self._listeners = tuple(listeners)

    def started(self, run: RunRecord) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.started(run)

    def found(self, n: int) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.found(n)

    def found_all(self) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.found_all()

    def finished(self, record: ImageRecord, *, resumed: bool = False) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.finished(record, resumed=resumed)

    def failed(self, record: FailureRecord, *, resumed: bool = False) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.failed(record, resumed=resumed)

    def done(self, n: int = 1) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.done(n)

    def warning(self, text: str) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.warning(text)

    def ended(self, run: RunRecord) -> None:
        """Pass on."""
        for listener in self._listeners:
            listener.ended(run)
