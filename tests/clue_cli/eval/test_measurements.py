"""The log: what is done is known, what a crash cut is not, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clue_cli.eval.measurements import STEPS, Measurement, MeasurementLog, Unit, pixel_curve
from model.datasets.sample import Kind, Problem
from model.evaluation import ImageRow

UNIT = Unit("s" * 64, "set", "i" * 64)
ROW = ImageRow("Tp/\udcff.jpg", True, f1=0.5, iou=1 / 3, problems=(Problem(Kind.MASK_SIZE, "Tp/\udcff.jpg", "x"),))
CURVE = (tuple(range(STEPS, 0, -1)), tuple(range(2 * STEPS, STEPS, -1)))


def rows(path: Path, settings: str, name: str) -> list[ImageRow]:
    """What a comparison reads, which changes nothing."""
    before = path.read_bytes()
    with MeasurementLog(path, read_only=True) as log:
        found = log.rows(settings, name)
        assert log.rows(settings, "of another set") == []
    assert path.read_bytes() == before
    return found


def test_what_is_appended_is_known_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MeasurementLog(path) as log:
        assert not log.known(UNIT)
        log.append(UNIT, "none", "m", Measurement(ROW, CURVE, "sign", inverted=True))
        assert log.known(UNIT)
    with MeasurementLog(path) as log:
        assert log.known(UNIT) and not log.known(Unit("t", "set", "i"))
        assert list(log.read([UNIT, Unit("t", "set", "i")])) == [(UNIT, Measurement(ROW, CURVE, "sign", inverted=True))]
    assert rows(path, UNIT.settings, "set") == [ROW]


def test_of_an_image_that_changed_the_latest_row_counts(tmp_path: Path) -> None:
    path, later = tmp_path / "log", ImageRow(ROW.key, True, f1=0.9)
    with MeasurementLog(path) as log:
        log.append(UNIT, "none", "m", Measurement(ROW))
        log.append(Unit(UNIT.settings, "set", "j" * 64), "none", "m", Measurement(later))
    assert rows(path, UNIT.settings, "set") == [later]


def test_what_failed_is_kept_and_tried_again(tmp_path: Path) -> None:
    with MeasurementLog(tmp_path / "log") as log:
        log.append(UNIT, "none", "m", Measurement(ImageRow("k", True), failed=True))
        assert not log.known(UNIT)
        assert [one.failed for _, one in log.read([UNIT])] == [True]
        log.append(UNIT, "none", "m", Measurement(ROW))
        assert log.known(UNIT)
        assert [one.row for _, one in log.read([UNIT])] == [ROW]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"format":2,"sett',
        b"\xff\xfe\n",
        b'{"format":9}\n',
        b'{"format":2}\n',
        b"[]\n",
        {"key": 7},
        {"forged": None},
        {"f1": "abc"},
        {"score": float("nan")},
        {"problems": [{"kind": "rain", "name": "", "detail": ""}]},
        {"more": 1},
    ],
)
def test_a_line_that_is_torn_or_has_an_impossible_row_is_passed_over(
    tmp_path: Path, bad: bytes | dict[str, Any]
) -> None:
    path, other = tmp_path / "log", Unit("t", "set", "i")
    with MeasurementLog(path) as log:
        log.append(UNIT, "none", "m", Measurement(ROW))
    line = json.loads(path.read_bytes())
    with path.open("ab") as file:
        file.write(bad if isinstance(bad, bytes) else json.dumps(line | {"row": line["row"] | bad}).encode() + b"\n")
    assert rows(path, UNIT.settings, "set") == [ROW]
    with MeasurementLog(path) as log:
        assert log.damaged + log.torn == 1
        log.append(other, "none", "m", Measurement(ROW))
    with MeasurementLog(path) as log:
        assert log.known(UNIT) and log.known(other)
    assert rows(path, "t", "set") == [ROW]


def test_a_row_of_version_0_1_0_has_no_part_source_and_verdict(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MeasurementLog(path) as log:
        log.append(UNIT, "none", "m", Measurement(ROW))
    line = json.loads(path.read_bytes())
    for name in ("part", "source", "verdict"):
        del line["row"][name]
    path.write_text(json.dumps(line) + "\n")
    assert rows(path, UNIT.settings, "set") == [ROW]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40))
def test_the_pixel_curve_counts(pixels: list[tuple[float, bool]]) -> None:
    heatmap = np.array([[value for value, _ in pixels]], np.float32)
    truth = np.array([[forged for _, forged in pixels]], bool)
    hits, alarms = pixel_curve(heatmap, truth)
    for step in range(STEPS):
        marked = heatmap >= np.float32(step / STEPS)
        assert hits[step] == (marked & truth).sum()
        assert alarms[step] == (marked & ~truth).sum()
