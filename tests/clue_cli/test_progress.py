"""What a person sees during a run."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from clue_cli.progress import LINE_SECONDS, LIVE_SECONDS, ShownReporter, duration, size
from clue_cli.records import RECORD
from clue_cli.terminal import printable
from tests.clue_cli.results.made import failure, image
from tests.faults.streams import unwritable

HOSTILE = "a[red]b[/red]\x1b[2J\nc\u202e:smile:\x9b.jpg"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def whole_scan(reporter: ShownReporter) -> None:
    reporter.note("clue 1, model mini on cpu")
    reporter.stage("", "files")
    reporter.expect(4)
    reporter.result(image("evidence/1.jpg"))
    reporter.advance(status="1 forged · 0 failed")
    reporter.note(f"failed: {HOSTILE}", "failure")
    reporter.result(failure(HOSTILE))
    reporter.advance(3)
    reporter.expect(final=True)
    reporter.note("warning: The log was [bold]torn[/bold].", "warning")
    reporter.summary("Scan finished", [("forged", "1", "bold red"), ("page", "results\x1b/index.html", "")])


@pytest.mark.parametrize("live", [False, True])
def test_a_scan_from_start_to_end(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    with ShownReporter(stream=stream, live=live, clock=Clock()) as reporter:
        whole_scan(reporter)
    said = stream.getvalue()
    assert "clue 1, model mini on cpu\n" in said
    assert f"failed: {printable(HOSTILE)}\n" in said
    assert "warning: The log was [bold]torn[/bold].\n" in said
    assert all(part in said for part in ("Scan finished", "results\\x1b/index.html"))
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_lines_come_every_few_seconds_only() -> None:
    clock, stream = Clock(), io.StringIO()
    reporter = ShownReporter(stream=stream, clock=clock)
    reporter.stage("", "files")
    reporter.expect(10)
    for _ in range(5):
        clock.now += LINE_SECONDS / 5 + 0.001
        reporter.advance(status="5 forged · 0 failed")
    assert stream.getvalue() == "5 of 10+ files · 1.0 files/s · 5 forged · 0 failed\n"


def test_the_time_left_appears_once_the_total_is_known() -> None:
    clock, stream = Clock(), io.StringIO()
    reporter = ShownReporter(stream=stream, clock=clock)
    reporter.stage("", "images", 100, done=5)
    clock.now += LINE_SECONDS
    reporter.advance(20, reused=True)
    clock.now += 5
    reporter.advance(20)
    first, second = stream.getvalue().splitlines()
    assert first == "25 of 100 images · 20 reused"
    assert second == "45 of 100 images · 2.0 images/s · 28 s left · 20 reused"


def test_a_title_is_printed_when_its_stage_starts() -> None:
    clock, stream = Clock(), io.StringIO()
    with ShownReporter(stream=stream, clock=clock) as reporter:
        reporter.stage("Making the validation samples", "")
        reporter.stage("Fetching x", "bytes", 3 << 20)
        clock.now += 8
        reporter.advance(1 << 20)
        reporter.stage("", "seconds", 60)
        clock.now += 6
        reporter.advance(6, "loss 0.5")
    assert stream.getvalue().splitlines() == [
        "Making the validation samples.",
        "Fetching x (0 B of 3.0 MiB).",
        "Fetching x: 1.0 MiB of 3.0 MiB · 128.0 KiB/s · 16 s left",
        "Fetching x: 1.0 MiB of 3.0 MiB · 128.0 KiB/s",
        "6 of 60 seconds · 54 s left · loss 0.5",
        "6 of 60 seconds · loss 0.5",
    ]


def test_a_bar_moves_on_a_terminal_and_leaves_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((40, 24)))
    clock, stream = Clock(), Terminal()
    with ShownReporter(stream=stream, clock=clock) as reporter:
        reporter.stage("", "images", 3)
        reporter.advance()
        assert "1 of 3 images" not in stream.getvalue(), "redrawn too often"
        clock.now += 2 * LIVE_SECONDS
        reporter.advance(status="a status that is wider than the terminal is")
        shown = stream.getvalue().rpartition("\r")[2]
        assert "2 of 3 images" in shown
        assert len(shown) <= 40
        reporter.note("warning: red", "warning")
        assert "\x1b[33mwarning: red\x1b[0m\n" in stream.getvalue()
    assert stream.getvalue().endswith("\r2 of 3 images · 10.0 images/s · a status that is wider than the terminal is\n")


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_overwrite_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with ShownReporter(stream=stream) as reporter:
        reporter.stage("Hashing", "bytes", 5)
        reporter.note("failed: x", "failure")
    assert stream.getvalue() == "Hashing (0 B of 5 B).\nfailed: x\n"


def test_a_bar_and_others_share_stderr() -> None:
    stream, former = io.StringIO(), sys.stderr
    with ShownReporter(stream=stream, live=True) as reporter:
        reporter.stage("", "files", 3)
        sys.stderr.write("a library has something to say\n")
    assert sys.stderr is former
    assert stream.getvalue().count("a library has something to say\n") == 1


@pytest.mark.parametrize("full_disk", [False, True])
def test_the_run_goes_on_when_nobody_listens(monkeypatch: pytest.MonkeyPatch, full_disk: bool) -> None:
    with unwritable(full_disk) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        whole_scan(ShownReporter(clock=Clock()))
        assert os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat()), "nothing was written at all"


@pytest.mark.parametrize("quiet", [False, True])
def test_json_lines_are_the_records(quiet: bool) -> None:
    lines: list[str] = []
    stream = Terminal()
    with ShownReporter(quiet=quiet, write_result=lines.append, stream=stream) as reporter:
        whole_scan(reporter)
    assert [RECORD.validate_json(line).locator for line in lines] == ["evidence/1.jpg", HOSTILE]
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in lines)
    assert bool(stream.getvalue()) is not quiet


def test_events_from_several_threads() -> None:
    stream = io.StringIO()
    with ShownReporter(stream=stream, live=True) as reporter:
        reporter.stage("", "images", 400)
        threads = [threading.Thread(target=lambda: [reporter.advance() for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reporter._done == 400


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (3600, "1 h 00 min"), (-1, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("n", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5120.0 GiB")])
def test_sizes(n: int, said: str) -> None:
    assert size(n) == said
