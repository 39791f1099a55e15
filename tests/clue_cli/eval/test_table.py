"""The tables in the terminal."""

from __future__ import annotations

import pytest

from clue_cli.eval.published import SOURCE, published_for
from clue_cli.eval.results import Average, PublishedRecord
from clue_cli.eval.table import _average, auc_rows, columns, main_rows, notes, number, render, with_interval
from model.evaluation import Estimate
from tests.clue_cli.eval.conftest import Damaged


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (0.8471, False, ".847"),
        (1.0, False, "1.000"),
        (None, False, "–"),
        (-0.0312, True, "-.031"),
        (0.5, True, "+.500"),
    ],
)
def test_numbers_are_written_as_in_papers(value: float | None, signed: bool, expected: str) -> None:
    assert number(value, signed=signed) == expected


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Estimate(value=0.5, n=3, low=0.25, high=0.75), ".500 [.250, .750], n = 3"),
        (Estimate(value=0.5, n=1, low=None, high=None), ".500, n = 1"),
        (Estimate(value=None, n=0, low=None, high=None), "–"),
        (Estimate(value=None, n=4, low=None, high=None), "–, n = 4"),
        (None, "–"),
    ],
)
def test_every_cell_has_its_n_and_interval(figure: Estimate | None, expected: str) -> None:
    assert with_interval(figure) == expected


def test_published_rows_are_marked_and_stand_beside_ours(damaged: Damaged) -> None:
    (record,) = damaged.results.sets
    published = [
        PublishedRecord(method=one.method, set=record.name, f1=one.f1, iou=one.iou, source=SOURCE, note=one.note)
        for one in published_for({"casia1"})
    ]
    results = damaged.results.model_copy(update={"published": published})
    rows = {row.method: row for row in main_rows(results, "none")}
    assert (rows["CLUE"].origin, rows["CLUE"].cells) == ("published", (".847/.795",))
    assert rows["predictions"].origin == "measured"
    assert {row.method for row in rows.values() if row.origin == "baseline"} == {
        "all forged",
        "none forged",
        "centre box",
        "error level analysis",
    }
    assert rows["metadata alone"].origin == "probe"
    assert main_rows(results, "jpeg:70")[0].origin != "published"
    assert any("not measured here" in line for line in notes(results))


def test_a_cell_over_fewer_images_than_its_column_says_so(damaged: Damaged) -> None:
    results = damaged.results
    assert [name.rpartition(" (")[2] for name in columns(results)] == ["n = 5)"]
    cells = {row.method: row.cells[0] for row in main_rows(results, "none")}
    assert cells["predictions"].endswith(" (n = 3)") and "n =" not in cells["error level analysis"]
    assert cells["metadata alone"] == "–"
    average = Average(attack="none", method="m", sets=1, weighted={}, mean={})
    figures = {name: Estimate(value=0.5, n=3, low=None, high=None) for name in ("f1", "iou")}
    assert _average(average.model_copy(update={"weighted": figures}), 2) == ".500/.500 (1 of 2 sets)"


def test_the_probe_looks_at_the_files_before_the_attack(damaged: Damaged) -> None:
    assert "metadata alone" in [row[0] for row in auc_rows(damaged.results, "none")]
    outcomes = [one.model_copy(update={"attack": "jpeg:70"}) for one in damaged.results.outcomes]
    attacked = damaged.results.model_copy(update={"attacks": ["jpeg:70"], "outcomes": outcomes})
    assert "metadata alone, before the attack" in [row[0] for row in auc_rows(attacked, "jpeg:70")]


def test_what_few_images_do_to_a_figure_is_said(damaged: Damaged) -> None:
    said = notes(damaged.results)
    assert any("With 2 authentic images one false positive is a rate of 50.0%" in line for line in said)
    assert not any("calibration error" in line for line in said), "no method here states a probability"
    (record,) = damaged.results.sets
    part = record.model_copy(update={"complete": False, "held": (50, 150), "authentic": 120})
    said = notes(damaged.results.model_copy(update={"sets": [part]}))
    assert any("is not complete here" in line for line in said)
    assert any("128 of 200 images were measured" in line for line in said)
    assert not any("one false positive" in line for line in said)


def test_the_terminal_gets_nothing_hostile(damaged: Damaged) -> None:
    text = render(damaged.results, width=120)
    assert "\x1b" not in text and "\u202e" not in text
    assert "prediction without an image" in text
    assert "\x1b[" in render(damaged.results, width=80, colour=True)
    interrupted = damaged.results.model_copy(update={"status": "interrupted"})
    assert "Interrupted" in render(interrupted, width=80)
