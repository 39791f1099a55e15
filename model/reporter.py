"""The events of a long run, and who receives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Level = Literal["info", "warning", "failure"]


class Reporter:
    """Receives the events of a long run. This one ignores them; `clue_cli.progress` shows them.

    A run consists of stages, one after the other. Events may come from several threads.
    """

    def stage(self, title: str, unit: str, total: int | None = None, *, done: int = 0) -> None:
        """A stage starts, and the one before ends.

        Args:
            title: what is done; may be empty.
            unit: what is counted, in the plural: `images`, `bytes`, `seconds`. Empty: nothing is counted.
            total: units of the stage, None if `expect` will say.
            done: units that an earlier run did.
        """

    def expect(self, n: int = 0, *, final: bool = False) -> None:
        """The stage has `n` more units than known so far; with `final`, no more will follow."""

    def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
        """`n` more units are done.

        Args:
            n: number of units.
            status: replaces the words at the end of the line, such as the current loss.
            reused: whether an earlier run did them.
        """

    def note(self, text: str, level: Level = "info") -> None:
        """A message to the user, in one line."""

    def result(self, record: Any) -> None:
        """One result is complete: a pydantic model, for those who read results while they are made."""

    def summary(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """The run is complete; rows of name, value and style (of rich)."""

    def finish(self) -> None:
        """The last stage ends. Harmless when repeated."""


SILENT = Reporter()
"""The default of functions that report."""
