"""The page: plots, contact sheets, and what a browser shows."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from clue_cli.eval.page import EACH, pick
from clue_cli.eval.plots import Curve, Series, category_chart, curve_chart, draw, log_chart, slug
from model.evaluation import ImageRow
from tests.clue_cli.eval.conftest import Damaged
from tests.clue_cli.report.conftest import chromium  # noqa: F401


def test_text_is_escaped_and_the_picture_is_xml() -> None:
    hostile = '<script>&"'
    for svg in (
        curve_chart(hostile, hostile, hostile, [Curve(hostile, [(0, 0), (1, 2)], marked=True)], diagonal=True),
        log_chart(hostile, hostile, hostile, [Curve(hostile, [(1, 3), (400, 7000)])]),
        category_chart(hostile, hostile, [hostile, "b"], [Series(hostile, [(0.5, 0.4, 0.6), None])]),
    ):
        root = ElementTree.fromstring(svg)
        assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
        assert hostile in {element.text for element in root.iter()}


def test_proportional_is_straight_on_logarithmic_axes() -> None:
    svg = log_chart("t", "x", "y", [Curve("c", [(1, 2), (10, 20), (1000, 2000)])])
    root = ElementTree.fromstring(svg)
    line = next(element for element in root.iter() if element.tag.endswith("polyline"))
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert (y1 - y0) / (x1 - x0) == pytest.approx((y2 - y1) / (x2 - x1), rel=0.01)
    words = {element.text for element in root.iter()}
    assert {"1", "10", "100", "1,000", "10,000"} <= words
    assert {"1", "2", "5", "10"} <= {element.text for element in ElementTree.fromstring(
        log_chart("t", "x", "y", [Curve("c", [(1, 3.5), (2, 6.5)])])).iter()}  # fmt: skip


def test_the_plots_of_a_result(damaged: Damaged) -> None:
    names = [plot.name.partition("set-b-")[2] for plot in draw(damaged.results)]
    assert names == ["roc.svg", "precision-recall.svg", "pixel-precision-recall.svg", "f1-by-area.svg"]


@pytest.mark.parametrize(
    ("name", "expected"), [("casia1", "casia1"), ("/a/../Ünïc ode", "n-c-ode"), ("..", "set"), ("x" * 90, "x" * 40)]
)
def test_a_file_name_from_any_name(name: str, expected: str) -> None:
    assert slug(name) == expected


@pytest.mark.parametrize("count", [0, 1, 4, 8, 50])
def test_best_median_and_worst(count: int) -> None:
    picks = pick(ImageRow(f"{number:02d}", True, f1=number / 50) for number in range(count))
    assert len({one.key for one in picks}) == len(picks) == min(count, 3 * EACH)
    by_word = {word: [one.f1 for one in picks if one.words == word] for word in ("best", "median", "worst")}
    if count == 50:
        assert min(by_word["best"]) > max(by_word["median"]) > max(by_word["worst"])


@pytest.mark.browser
def test_the_page_shows_tables_charts_and_pictures_and_breaks_no_rule(
    chromium: Any,  # noqa: F811
    damaged: Damaged,
) -> None:
    chromium.get((damaged.out / "index.html").as_uri())
    assert chromium.get_log("browser") == [], "errors in the console, violations of the policy among them"

    def count(selector: str) -> int:
        return int(chromium.execute_script("return document.querySelectorAll(arguments[0]).length", selector))

    assert count("table") > 1 and count("figure svg") == 4 and count("script") == 0
    assert count("img") == 1 and chromium.execute_script("return document.images[0].naturalWidth") > 0
    assert "onerror=alert(1)" in chromium.find_element("tag name", "main").text
    width = chromium.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert width <= 0, "the page is wider than the window"
