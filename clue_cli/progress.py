"""The one reporter of progress: a bar on a terminal, lines elsewhere, results as JSON lines, or nothing.

File names and EXIF strings come from an attacker: everything is made printable here, and never parsed as markup.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from clue_cli.terminal import PatientStderr, printable
from model.reporter import Level, Reporter

if TYPE_CHECKING:
    from tqdm import tqdm

LIVE_SECONDS, LINE_SECONDS = 0.1, 5.0
"""Seconds between two redraws of the bar, and between two lines where there is no terminal."""

_COLOURS: dict[Level, str] = {"warning": "\x1b[33m", "failure": "\x1b[31m"}


class ShownReporter(Reporter, contextlib.AbstractContextManager["ShownReporter"]):
    """Shows the events of a run on stderr. Thread-safe.

    The bar is tqdm's; it shows the same text as the lines.

    Args:
        quiet: show nothing.
        write_result: takes each result as one line of JSON, also when quiet.
        stream: where to; None for stderr, which goes silent once it cannot be written.
        live: whether to show a bar; None for whether the stream is a terminal that can overwrite a line.
        clock: returns seconds.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        write_result: Callable[[str], None] | None = None,
        stream: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet, self._write_result, self._clock = quiet, write_result, clock
        self._stream = stream or cast(TextIO, PatientStderr())
        overwrites = self._stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        self._live = (overwrites if live is None else live) and not quiet
        self._lock = threading.RLock()
        self._bar: tqdm[Any] | None = None
        self._redirected = contextlib.ExitStack()
        self._running = False

    def __exit__(self, *error: object) -> None:
        self.finish()

    def stage(self, title: str, unit: str, total: int | None = None, *, done: int = 0) -> None:
        """Start the bar, or print the title."""
        with self._lock:
            self.finish()
            self._title, self._unit, self._status = title, unit, ""
            self._total, self._final = total or 0, total is not None
            self._done, self._before, self._reused = done, done, 0
            self._start = self._drawn = self._clock()
            self._running = not self._quiet
            if self._live:
                self._bar = _bar(self._stream)
                self._redirected.enter_context(contextlib.redirect_stderr(_AboveBar(self)))
                self._draw(now=True)
            elif title:
                self.note(f"{title} ({self._amount()})." if unit and total else f"{title}.")

    def expect(self, n: int = 0, *, final: bool = False) -> None:
        """Raise the total."""
        with self._lock:
            self._total += n
            self._final |= final
            self._draw()

    def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
        """Move the bar, or print a line if the last one is long enough ago."""
        with self._lock:
            if not self._running:
                return
            self._done += n
            self._reused += n * reused
            self._status = self._status if status is None else status
            self._draw()

    def note(self, text: str, level: Level = "info") -> None:
        """Print the line."""
        if not self._quiet:
            line = printable(text)
            if self._live and level in _COLOURS and not os.environ.get("NO_COLOR"):
                line = f"{_COLOURS[level]}{line}\x1b[0m"
            self.write(f"{line}\n")

    def result(self, record: Any) -> None:
        """Write the line of JSON."""
        if self._write_result is not None:
            self._write_result(record.model_dump_json() + "\n")

    def summary(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Remove the bar and print a table."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        self.finish()
        if self._quiet:
            return
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right", overflow="fold")
        for name, value, style in rows:
            table.add_row(Text(name, style), Text(printable(value), style))
        Console(file=self._stream, markup=False, highlight=False, emoji=False).print(table)

    def finish(self) -> None:
        """Replace the bar by a line that stays, if anything was counted."""
        with self._lock:
            counted = self._running and self._unit and self._done > self._before
            self._running = False
            if self._bar is not None:
                self._redirected.close()
                self._bar.close()
                self._bar = None
            if counted:
                self.note(self._text(ended=True))

    def write(self, text: str) -> None:
        """Write text as it is, above the bar."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            self._stream.write(text)
            self._stream.flush()
            if self._bar is not None and text.endswith("\n"):
                self._bar.refresh()

    def _draw(self, *, now: bool = False) -> None:
        if not self._running:
            return
        at = self._clock()
        if not now and at - self._drawn < (LINE_SECONDS if self._bar is None else LIVE_SECONDS):
            return
        self._drawn = at
        if self._bar is None:
            self.note(self._text())
        else:
            self._bar.total = self._total if self._final and self._unit else None
            self._bar.bar_format = "{bar:12} {desc}" if self._bar.total else "{desc}"
            self._bar.n = min(self._done, self._total)
            self._bar.set_description_str(printable(self._text()))

    def _text(self, *, ended: bool = False) -> str:
        computed, elapsed = self._done - self._before - self._reused, max(self._clock() - self._start, 1e-9)
        parts = [self._amount()] if self._unit else []
        if computed > 0 and self._unit == "bytes":
            parts.append(f"{size(computed / elapsed)}/s")
        elif computed > 0 and self._unit not in ("", "seconds"):
            parts.append(f"{computed / elapsed:.1f} {self._unit}/s")
        if computed > 0 and self._final and self._total and not ended:
            left = elapsed * max(0, self._total - self._done) / computed
            parts.append(f"{duration(left)} left")
        parts += [f"{self._reused:,} reused"] if self._reused else []
        parts += [self._status] if self._status else []
        return f"{self._title}: {' · '.join(parts)}" if self._title and parts else self._title or " · ".join(parts)

    def _amount(self) -> str:
        def shown(n: int) -> str:
            return size(n) if self._unit == "bytes" else f"{n:,}"

        total = f" of {shown(self._total)}{'' if self._final else '+'}" if self._total else ""
        return f"{shown(self._done)}{total}" + (f" {self._unit}" if self._unit != "bytes" else "")


class _AboveBar(io.TextIOBase):
    """What stands for stderr while there is a bar: whole lines of libraries go above it."""

    def __init__(self, reporter: ShownReporter) -> None:
        self._reporter = reporter

    def write(self, text: str) -> int:
        self._reporter.write(text)
        return len(text)


def _bar(stream: TextIO) -> tqdm[Any]:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # the reporter decides when to redraw; no thread that a fork would not copy

    Bar.set_lock(threading.RLock())
    return Bar(total=None, file=stream, leave=False, dynamic_ncols=True, bar_format="{desc}")


def duration(seconds: float) -> str:
    """Seconds in readable form: `9 s`, `4 min 10 s`, `3 h 02 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(n: float) -> str:
    """Bytes in readable form: `512 B`, `3.4 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
