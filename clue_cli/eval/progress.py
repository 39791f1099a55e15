"""Progress of a measurement on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from clue_cli.console import PLAIN_SECONDS, StderrConsole, duration
from clue_cli.terminal import printable


class EvalProgress(AbstractContextManager["EvalProgress"]):
    """Counts images, an attacked picture once for each attack. May be told from several threads.

    Args:
        quiet: say nothing.
        console: where to; stderr if None.
        clock: returns seconds.
    """

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet, self._clock = quiet, clock
        self._console = console or StderrConsole()
        self._lock = threading.Lock()
        self._total = self._done = self._taken_over = 0
        self._start = self._said = clock()
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=30),
                TextColumn("{task.completed:.0f} of {task.total:.0f} images"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, total: int) -> None:
        """So many images will come."""
        self._total, self._start = total, self._clock()
        if self._bar is not None:
            self._bar.add_task("", total=total)
            self._bar.start()

    def done(self, n: int = 1, *, taken_over: bool = False) -> None:
        """So many are finished, or were known from before."""
        with self._lock:
            self._done += n
            self._taken_over += n if taken_over else 0
            if self._bar is not None and self._bar.tasks:
                self._bar.update(self._bar.tasks[0].id, completed=self._done)
            elif self._clock() - self._said >= PLAIN_SECONDS:
                self._said = self._clock()
                self._line()

    def say(self, text: str, style: str = "") -> None:
        """Print a line, printable."""
        if not self._quiet:
            self._console.print(Text(printable(text), style=style))

    def _line(self) -> None:
        computed = self._done - self._taken_over
        parts = [f"{self._done:,} of {self._total:,} images"]
        if computed:
            elapsed = self._clock() - self._start
            parts += [f"{computed / max(elapsed, 1e-9):.1f} images/s"]
            parts += [f"{duration(elapsed * (self._total - self._done) / computed)} left"]
        if self._taken_over:
            parts.append(f"{self._taken_over:,} from before")
        self.say(" · ".join(parts))
