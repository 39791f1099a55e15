"""What a person sees while a scan runs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from clue_cli.console import (
    PLAIN_SECONDS,
    LiveProgress,
    PlainProgress,
    ShownProgress,
    StderrConsole,
    duration,
    shown_progress,
)
from clue_cli.records import RECORD, Counts, Verdict
from clue_cli.scan.progress import JsonLines, Progress, Several, Silent
from clue_cli.terminal import printable
from tests.clue_cli.results.made import failure, image, run
from tests.faults.streams import unwritable

HOSTILE = "a[red]b[/red]\x1b[2J\nc\u202e:smile:\x9b.jpg"


class Clock:
    """A clock that is told how late it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, markup=False, highlight=False, emoji=False)


def text(shown: ShownProgress) -> str:
    assert isinstance(shown.console.file, io.StringIO)
    return shown.console.file.getvalue()


def whole_scan(progress: Progress) -> None:
    progress.started(run())
    progress.found(4)
    progress.finished(image("evidence/1.jpg"))
    progress.done()
    progress.finished(image("evidence/2.jpg", verdict=Verdict.NO_EVIDENCE), resumed=True)
    progress.done()
    progress.failed(failure(HOSTILE))
    progress.failed(failure("known"), resumed=True)
    progress.done(2)
    progress.found_all()
    progress.warning("The log was [bold]torn[/bold].")
    counts = Counts(files=4, images=2, forged=1, no_evidence=1, failures=2, resumed=2, not_met=5)
    progress.ended(run(status="finished", seconds=75.0, counts=counts))


@pytest.mark.parametrize("kind", [PlainProgress, LiveProgress])
def test_a_scan_from_start_to_end(kind: type[ShownProgress]) -> None:
    clock = Clock()
    with kind(Path("results\x1b"), console(), clock) as shown:
        whole_scan(shown)
    said = text(shown)
    assert "clue 1, model mini on cpu" in said
    assert "failed: " + printable(HOSTILE) in said
    assert "known" not in said
    assert "warning: The log was [bold]torn[/bold]." in said
    for line in ("finished", "1 min 15 s", "5 earlier records", "predict 0.30 s/image", "results\\x1b/index.html"):
        assert line in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_lines_come_every_few_seconds_only() -> None:
    clock = Clock()
    shown = PlainProgress(Path("results"), console(), clock)
    shown.started(run())
    shown.found(10)
    for _ in range(5):
        clock.now += PLAIN_SECONDS / 5 + 0.001
        shown.finished(image())
        shown.done()
    lines = text(shown).splitlines()[1:]
    assert lines == ["4 of 10+ files · 1.0 images/s · 5 forged · 0 failed"]


def test_the_time_left_is_told_once_the_number_of_files_is_known() -> None:
    clock = Clock()
    shown = PlainProgress(Path("results"), console(), clock)
    shown.started(run())
    shown.found(100)
    shown.done(25)
    shown.found_all()
    assert "left" not in text(shown)
    clock.now += 30
    shown.done(0)
    assert "25 of 100 files · 0.0 images/s · 1 min 30 s left" in text(shown)


def test_the_bar_moves_on_a_terminal_and_goes_away() -> None:
    with LiveProgress(Path("results"), console(terminal=True), Clock()) as shown:
        shown.started(run())
        shown.found(3)
        shown.finished(image())
        shown.done()
        shown._bar.refresh()
        assert "1 of 3+ files" in text(shown)
        assert shown._bar.tasks[0].total is None
        shown.found_all()
        assert shown._bar.tasks[0].total == 3
        assert shown._bar.live.is_started
    assert not shown._bar.live.is_started


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveProgress), (False, PlainProgress)])
def test_a_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type[ShownProgress]) -> None:
    monkeypatch.setattr(StderrConsole, "is_terminal", terminal)
    assert type(shown_progress(Path("results"))) is kind


def test_a_live_display_and_others_share_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StderrConsole, "is_terminal", True)
    with shown_progress(Path("results")) as shown:
        shown.started(run())
        sys.stderr.write("a library has something to say\n")
        shown.ended(run(status="finished", counts=Counts(files=1, images=1, forged=1)))
    said = capsys.readouterr().err
    assert said.count("a library has something to say") == 1
    assert said.count("Scan finished") == 1


@pytest.mark.parametrize("full_disk", [False, True])
def test_the_scan_goes_on_when_nobody_listens(monkeypatch: pytest.MonkeyPatch, full_disk: bool) -> None:
    with unwritable(full_disk) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        shown = PlainProgress(Path("results"), clock=Clock())
        whole_scan(shown)
        assert os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat()), "nothing was written at all"
    assert shown.tally.done == 4


def test_json_lines_are_the_records() -> None:
    lines: list[str] = []
    whole_scan(JsonLines(lines.append))
    assert [RECORD.validate_json(line).locator for line in lines] == [
        "evidence/1.jpg",
        "evidence/2.jpg",
        HOSTILE,
        "known",
    ]
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in lines)


def test_several_listeners_hear_everything() -> None:
    class Hears(Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def __getattribute__(self, name: str) -> object:
            if name in {"started", "found", "found_all", "finished", "failed", "done", "warning", "ended"}:
                self.heard.append(name)
            return super().__getattribute__(name)

    one, two = Hears(), Hears()
    whole_scan(Several([one, two]))
    assert one.heard == two.heard
    assert set(one.heard) == {"started", "found", "found_all", "finished", "failed", "done", "warning", "ended"}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (3600, "1 h 00 min"), (-1, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
