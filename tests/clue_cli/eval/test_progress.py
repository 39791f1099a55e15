"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console

from clue_cli.eval.progress import EvalProgress


def test_lines_for_a_log() -> None:
    now = 0.0
    buffer = io.StringIO()
    with EvalProgress(console=Console(file=buffer, width=200), clock=lambda: now) as progress:
        progress.begin(100)
        progress.done(20, taken_over=True)
        now = 10.0
        progress.done(20)
        progress.done(1)
        progress.say("\x1b[31mred")
    said = buffer.getvalue().splitlines()
    assert said == ["40 of 100 images · 2.0 images/s · 30 s left · 20 from before", "\\x1b[31mred"]


def test_a_bar_on_a_terminal() -> None:
    buffer = io.StringIO()
    with EvalProgress(console=Console(file=buffer, force_terminal=True, width=100)) as progress:
        progress.begin(3)
        progress.done(3)
    assert "3 of 3 images" in buffer.getvalue()


def test_quiet() -> None:
    buffer = io.StringIO()
    with EvalProgress(quiet=True, console=Console(file=buffer, force_terminal=True), clock=lambda: 1e9) as progress:
        progress.begin(3)
        progress.done(3)
        progress.say("x")
    assert buffer.getvalue() == ""
