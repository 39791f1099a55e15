"""The page in a browser, opened from a folder: headless Chromium, no network."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clue_cli.eval.conftest import Damaged
from tests.clue_cli.report.conftest import chromium

__all__ = ["chromium"]

pytestmark = pytest.mark.browser


def test_the_page_shows_tables_charts_and_pictures_and_breaks_no_rule(
    chromium: Any,
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
