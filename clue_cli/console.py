"""Progress of a scan on stderr: a live bar or log lines, and a table at the end.

File names and EXIF strings come from an attacker: they are made printable, and never parsed as rich markup.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from clue_cli.records import FailureRecord, ImageRecord, RunRecord, Verdict
from clue_cli.scan.progress import Silent
from clue_cli.terminal import PatientStderr, printable

PLAIN_SECONDS = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class StderrConsole(Console):
    """A rich console on stderr that goes silent once stderr cannot be written to; the scan continues."""

    def __init__(self) -> None:
        super().__init__(
            file=cast(IO[str], PatientStderr()), markup=False, highlight=False, emoji=False, soft_wrap=True
        )


class Tally:
    """Counts of what the scan has done so far.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.start = clock()
        self.found = self.done = self.computed = self.resumed = self.forged = self.failures = 0
        self.complete = False
        self.steps = {"read": 0.0, "decode": 0.0, "predict": 0.0, "write": 0.0}

    def image(self, record: ImageRecord, resumed: bool) -> None:
        """Count an image."""
        self.forged += record.verdict is Verdict.FORGED
        if resumed:
            self.resumed += 1
            return
        self.computed += 1
        for step in self.steps:
            self.steps[step] += getattr(record.seconds, step)

    def failure(self, resumed: bool) -> None:
        """Count a failure."""
        self.failures += 1
        self.resumed += resumed

    def rate(self) -> float:
        """Computed images per second since the start."""
        return self.computed / max(self._clock() - self.start, 1e-9)

    def files(self) -> str:
        """Files done out of those found so far."""
        return f"{self.done:,} of {self.found:,}{'' if self.complete else '+'} files"

    def findings(self) -> str:
        """Counts of forged images, failures and reused records."""
        return f"{self.forged:,} forged · {self.failures:,} failed" + (
            f" · {self.resumed:,} reused" if self.resumed else ""
        )


class ShownProgress(Silent, AbstractContextManager["ShownProgress"]):
    """Base of live and plain progress: the tally, warnings, failures as they occur, and the table at the end.

    Args:
        out: the results folder.
        console: where to print.
        clock: returns seconds.
    """

    def __init__(self, out: Path, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.out = out
        self.console = console or StderrConsole()
        self.clock = clock
        self.tally = Tally(clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def started(self, run: RunRecord) -> None:
        """Print version, model and device."""
        self.tally = Tally(self.clock)
        model, device = run.model.get("name", "?"), run.model.get("device", "?")
        self.say(f"clue {run.version}, model {model} on {device}")
        self.refresh()

    def found(self, n: int) -> None:
        """Count."""
        self.tally.found += n
        self.refresh()

    def found_all(self) -> None:
        """The total is known; show the time left from now on."""
        self.tally.complete = True
        self.refresh()

    def done(self, n: int = 1) -> None:
        """Count."""
        self.tally.done += n
        self.refresh()

    def finished(self, record: ImageRecord, *, resumed: bool = False) -> None:
        """Count."""
        self.tally.image(record, resumed)
        self.refresh()

    def failed(self, record: FailureRecord, *, resumed: bool = False) -> None:
        """Count, and print the reason."""
        self.tally.failure(resumed)
        if not resumed:
            self.say(f"failed: {record.locator}: {record.message}", style="red")
        self.refresh()

    def warning(self, text: str) -> None:
        """Print it."""
        self.say(f"warning: {text}", style="yellow")

    def ended(self, run: RunRecord) -> None:
        """Print the table."""
        self.stop()
        self.console.print(closing_table(run, self.tally, self.out))

    def say(self, text: str, style: str = "") -> None:
        """Print a line, made printable."""
        self.console.print(Text(printable(text), style=style))

    def refresh(self) -> None:
        """Update the display."""

    def stop(self) -> None:
        """Remove the live display, if any; may be called repeatedly."""


class PlainProgress(ShownProgress):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, out: Path, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(out, console, clock)
        self._said = clock()

    def refresh(self) -> None:
        """Print a line if the last one is long enough ago."""
        if self.clock() - self._said < PLAIN_SECONDS:
            return
        self._said = self.clock()
        tally = self.tally
        parts = [tally.files(), f"{tally.rate():.1f} images/s"]
        if tally.complete and tally.done:
            left = (self.clock() - tally.start) * (tally.found - tally.done) / tally.done
            parts.append(f"{duration(left)} left")
        self.say(" · ".join([*parts, tally.findings()]))


class LiveProgress(ShownProgress):
    """A bar that moves, on a terminal."""

    def __init__(self, out: Path, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(out, console, clock)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            _TallyColumn(self),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        # Without a total the bar pulses: it is not known how much there is.
        self._task = self._bar.add_task("", total=None)

    def started(self, run: RunRecord) -> None:
        """Start the bar."""
        super().started(run)
        self._bar.start()

    def refresh(self) -> None:
        """Update the bar, which redraws itself ten times a second."""
        tally = self.tally
        self._bar.update(self._task, completed=tally.done, total=tally.found if tally.complete else None)

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class _TallyColumn(ProgressColumn):
    def __init__(self, progress: ShownProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        tally = self._progress.tally
        return Text(f"{tally.files()} · {tally.rate():.1f} images/s · {tally.findings()}")


def shown_progress(out: Path) -> ShownProgress:
    """Live progress if stderr is a terminal, lines if not."""
    console = StderrConsole()
    return LiveProgress(out, console) if console.is_terminal else PlainProgress(out, console)


def closing_table(run: RunRecord, tally: Tally, out: Path) -> Table:
    """The summary: counts, the path of the page, and the slowest steps."""
    counts = run.counts
    table = Table(title=f"Scan {run.status}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")

    def row(name: str, value: str, style: str = "") -> None:
        table.add_row(Text(name, style), Text(printable(value), style))

    row("images", f"{counts.images:,}")
    row("forged", f"{counts.forged:,}", "bold red" if counts.forged else "")
    row("no evidence", f"{counts.no_evidence:,}")
    row("inconclusive", f"{counts.inconclusive:,}")
    row("failures", f"{counts.failures:,}", "red" if counts.failures else "")
    row("not pictures", f"{counts.not_pictures:,} of {counts.files:,} files")
    if counts.resumed:
        row("reused from earlier scans", f"{counts.resumed:,}")
    if counts.not_met:
        row("not seen in this scan", f"{counts.not_met:,} earlier records", "yellow")
    if run.seconds is not None:
        row("time", duration(run.seconds))
    slowest = sorted(tally.steps.items(), key=lambda step: -step[1])[:2]
    if tally.computed:
        row("slowest steps", ", ".join(f"{name} {seconds / tally.computed:.2f} s/image" for name, seconds in slowest))
    row("page", str(out / "index.html"))
    return table


def duration(seconds: float) -> str:
    """Seconds in readable form: `9 s`, `4 min 10 s`, `3 h 02 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
