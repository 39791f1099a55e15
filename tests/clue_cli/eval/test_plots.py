"""Charts are well-formed, escaped, and drawn from what there is."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from clue_cli.eval.plots import Curve, Series, category_chart, curve_chart, draw, slug
from tests.clue_cli.eval.conftest import Damaged


def test_text_is_escaped_and_the_picture_is_xml() -> None:
    hostile = '<script>&"'
    for svg in (
        curve_chart(hostile, hostile, hostile, [Curve(hostile, [(0, 0), (1, 2)], marked=True)], diagonal=True),
        category_chart(hostile, hostile, [hostile, "b"], [Series(hostile, [(0.5, 0.4, 0.6), None])]),
    ):
        root = ElementTree.fromstring(svg)
        assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
        assert hostile in {element.text for element in root.iter()}


def test_the_plots_of_a_result(damaged: Damaged) -> None:
    names = [plot.name.partition("set-b-")[2] for plot in draw(damaged.results)]
    assert names == ["roc.svg", "precision-recall.svg", "pixel-precision-recall.svg", "f1-by-area.svg"]


@pytest.mark.parametrize(
    ("name", "expected"), [("casia1", "casia1"), ("/a/../Ünïc ode", "n-c-ode"), ("..", "set"), ("x" * 90, "x" * 40)]
)
def test_a_file_name_from_any_name(name: str, expected: str) -> None:
    assert slug(name) == expected
