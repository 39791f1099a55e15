"""The page in a browser, opened from a folder as from a USB stick: hostile content, paper, a phone, no script."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from clue_cli.report.page import printable
from tests.clue_cli.report.conftest import Demo
from tests.clue_cli.report.demo import ATTACK, HOSTILE
from tests.clue_cli.report.reader import Reader, image

pytestmark = pytest.mark.browser


def test_hostile_names_are_text(reader: Reader) -> None:
    assert set(map(printable, HOSTILE)) <= set(reader.names())
    assert ATTACK in reader.text("#failure-rows") and "archive_encrypted" in reader.text("#failure-rows")
    assert reader.js("document.querySelectorAll('img[src=x], [onerror]').length") == 0
    for name in HOSTILE:
        reader.open(image(name))
        reader.until("document.getElementById('detail').checkVisibility()")
        assert reader.text("#detail-title") == printable(name)
        assert ATTACK in reader.text("#what") and "</script><b>Editor</b>" in reader.text("#what")
    assert reader.js("document.querySelectorAll('img[src=x], #what b').length") == 0


@pytest.mark.parametrize(
    "injected",
    [
        "<script>document.title = 'owned'</script>",
        "<img src=x onerror=\"document.title = 'owned'\">",
        "<style>h1 { display: none }</style>",
        "<p style='display: none'>x</p>",
        "<img src='https://example.org/x.png'>",
        "<script src='other.js'></script>",
        "<iframe src='data:text/html,x'></iframe>",
        "<link rel='stylesheet' href='other.css'>",
    ],
)
def test_the_policy_would_stop_what_got_through_the_escaping(
    chromium: Any, demo: Demo, tmp_path: Path, injected: str
) -> None:
    (tmp_path / "other.js").write_text("document.title = 'owned'")
    (tmp_path / "other.css").write_text("h1 { display: none }")
    broken = tmp_path / "index.html"
    broken.write_text(
        demo.page.read_text(encoding="utf-8").replace("<header>", f"{injected}<header>"), encoding="utf-8"
    )
    chromium.get_log("browser")
    reader = Reader(chromium, broken)
    reader.open()
    messages: list[str] = []
    for _ in range(50):  # the browser's log may come after the page
        messages += [entry["message"] for entry in chromium.get_log("browser")]
        if any("Content Security Policy" in message for message in messages):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"no word of the policy in {messages}")
    assert "owned" not in chromium.title and reader.visible("h1") and len(reader.names()) == len(demo.images)


def test_print_has_the_content_without_the_controls(reader: Reader) -> None:
    def media(name: str) -> None:
        reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": name})

    try:
        media("print")
        for selector in ("#rows img", "#rows", ".counts", "#meaning", "#failure-rows", "#shown"):
            assert reader.visible(selector), selector
        for selector in ("#filters", "#pager", ".skip"):
            assert not reader.visible(selector), selector
        reader.open(image("case7/DSC_0412.jpg"))
        for selector in ("#plain", "#base", "#region-rows", "#what", "#how"):
            assert reader.visible(selector), selector
        for selector in ("#layers", "#close", "#divider"):
            assert not reader.visible(selector), selector
        assert reader.js("getComputedStyle(document.getElementById('over')).clipPath") == "none"
    finally:
        media("")
    reader.open()
    pdf = base64.b64decode(reader.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000, "with the thumbnails"
    assert reader.js("document.querySelector('details').open") is False, "folded again"


def test_on_a_phone_nothing_is_wider_than_the_screen(reader: Reader) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for fragment in ("", image("case7/DSC_0412.jpg"), image("case7/panorama.jpg")):
            reader.open(fragment)
            assert reader.js("document.documentElement.scrollWidth") <= 400
        reader.open()
        assert "Forged" in reader.column(1)[0] and not reader.visible("#rows .c-verdict")
    finally:
        reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_javascript_the_counts_and_the_way_to_the_results_are_there(reader: Reader) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.driver.get("about:blank")
        reader.driver.get(reader.url)
        seen = reader.find("body").text
    finally:
        reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert (
        "summary.csv" in seen and "switched off" in seen and "Images judged" in seen and "Limits of the method" in seen
    )
