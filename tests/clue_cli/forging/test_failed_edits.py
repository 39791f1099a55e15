"""An edit that raises on its photo costs one attempt; the run goes on, and says so in its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clue_cli.errors import NothingToScanError
from clue_cli.forging import worker
from clue_cli.forging.options import ForgeOptions
from clue_cli.forging.run import LOG, SUMMARY, forge_folder
from model.reporter import Level, Reporter

SEED = 3


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int, *, always: bool = False) -> None:
    """Let `forge_photo` raise in its first calls; `always`: whatever kind is asked for, else for forgeries alone."""
    real, left = worker.forge_photo, [times]

    def forge_photo(bank: Any, rng: Any, number: int, kind: str, **words: Any) -> Any:
        if left[0] and (always or kind != "authentic"):
            left[0] -= 1
            raise error
        return real(bank, rng, number, kind, **words)

    monkeypatch.setattr(worker, "forge_photo", forge_photo)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (out / LOG).read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            worker.cv2.error("(-215:Assertion failed)\n  !ssize.empty()"),
            "OpenCV: (-215:Assertion failed) !ssize.empty()",
        ),
        (ValueError("\x1b[31mlow >= high"), "ValueError: \\x1b[31mlow >= high"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["OpenCV", "ValueError", "MemoryError"],
)
def test_the_next_attempt_takes_its_place(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    failing(monkeypatch, error, 2)
    options = ForgeOptions(count=3, seed=SEED, authentic=0.0, workers=1)
    ended = forge_folder([photos], tmp_path, options)
    assert (ended.status, ended.made, ended.failures) == ("finished", 3, {})
    first, *others = rows(tmp_path)
    assert first["failed"] == [{"seed": [SEED, 0, attempt], "reason": said} for attempt in (1, 2)]
    assert first["seed"] == [SEED, 0, 3]
    assert [row["failed"] for row in others] == [[], []]
    assert json.loads((tmp_path / SUMMARY).read_text("utf-8"))["failed_edits"] == 2
    forge_folder([photos], tmp_path, options)  # nothing to do: the log is counted again
    assert json.loads((tmp_path / SUMMARY).read_text("utf-8"))["failed_edits"] == 2


@pytest.mark.parametrize(("times", "said"), [(0, []), (1, ["1 edit failed"]), (2, ["2 edits failed"])])
def test_the_number_is_noted_in_the_end(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, said: list[str]
) -> None:
    lines: list[str] = []

    class Notes(Reporter):
        def note(self, text: str, level: Level = "info") -> None:
            if level == "warning":
                lines.append(text)

    failing(monkeypatch, ValueError("odd"), times)
    forge_folder([photos], tmp_path, ForgeOptions(count=1, authentic=0.0, workers=1), Notes())
    assert [line.split(" and ")[0] for line in lines] == said


def test_where_every_edit_fails_the_picture_is_authentic(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ValueError("odd"), worker.ATTEMPTS)
    forge_folder([photos], tmp_path, ForgeOptions(count=1, authentic=0.0, workers=1))
    (row,) = rows(tmp_path)
    assert (row["kind"], len(row["failed"])) == ("authentic", worker.UNREADABLE)


def test_where_nothing_can_be_made_the_run_ends(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, MemoryError(), worker.ATTEMPTS, always=True)
    with pytest.raises(NothingToScanError, match="none can be used; MemoryError"):
        forge_folder([photos], tmp_path, ForgeOptions(count=1, workers=1))


def test_a_defect_is_not_passed_over(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, TypeError("a defect"), 1, always=True)
    with pytest.raises(TypeError, match="a defect"):
        forge_folder([photos], tmp_path, ForgeOptions(count=1, workers=1))
