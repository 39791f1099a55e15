"""The view of one image in a browser: its record, its layers, the way to the next one, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clue_cli.report.page import write_report
from clue_cli.results.pictures import write_panel
from tests.clue_cli.report.conftest import Demo
from tests.clue_cli.report.demo import SHAPES, many, run_of, with_answer
from tests.clue_cli.report.reader import END, ENTER, ESCAPE, LEFT, RIGHT, Reader, image

pytestmark = pytest.mark.browser


def test_thumbnails_and_pictures_load(reader: Reader, demo: Demo) -> None:
    reader.js("document.querySelectorAll('#rows img').forEach(i => { i.loading = 'eager' })")
    reader.until("[...document.querySelectorAll('#rows img')].every(i => i.complete && i.naturalWidth > 0)")
    assert reader.js("document.querySelectorAll('#rows img').length") == len(demo.images)
    for record in demo.images[:8]:
        reader.open(image(record.locator, record.page))
        reader.until("['base', 'heat', 'outline'].every(id => document.getElementById(id).naturalWidth > 0)")
        reader.click("[name=layer][value=mask]")
        reader.until("document.getElementById('mask').naturalWidth > 0")
        assert reader.js("document.getElementById('mask').naturalWidth") == record.width
        width, height = reader.js("(s => [s.offsetWidth, s.offsetHeight])(document.getElementById('stage'))")
        assert min(width, height) >= 16 and width <= 1280
        assert abs(width / height / (record.width / record.height) - 1) < 0.12, "not distorted"
    links = reader.js("[...document.querySelectorAll('#what a')].map(a => a.getAttribute('href'))")
    assert [link.split("/")[0] for link in links] == ["masks", "heatmaps", "verdicts"]
    stem = "case 7%23#?&'\"<b>!7"
    shown = reader.js("[...document.querySelectorAll('#what small.code')].map(s => s.textContent)")
    assert shown == [f"masks/{stem}.png", f"heatmaps/{stem}.png", f"verdicts/{stem}.json"], "legible on paper"
    assert all("%23" in link and "#" not in link for link in links)


def test_a_deep_link_shows_the_whole_record(reader: Reader) -> None:
    reader.open(image("case7/scan.tif", page=1))
    assert reader.text("#detail-title") == "case7/scan.tif, page 2 of 2"
    assert reader.js("document.title").startswith("case7/scan.tif, page 2 of 2")
    assert not reader.visible("#overview")
    numbers, record = reader.text("#detail-numbers"), reader.text("#what") + reader.text("#how")
    for text in ("0.7777", "threshold 0.5", "78 %", "1.50 %", "700 × 990"):
        assert text in numbers
    for text in (
        "Forged", "jpeg", "693,000 bytes", "EXIF, unverified", "Example Corp", "2021:03:04 05:06:07", "GPS position",
        "EXIF orientation 6 applied", "CMYK converted to RGB", "mini", "5e5e5e", "cpu, float32", "0.25, 0.5, 0.75",
        "18446744073709551615", "platt-2026", "0.5 for a pixel", "overlap 64 px", "0.146 s", "PNG, 16 bit",
    ):  # fmt: skip
        assert text in record + reader.text("#detail-verdict"), text
    assert reader.text("#region-rows").split() == [
        "1",
        "140",
        "495",
        "210",
        "49",
        "10,395",
        "1.50",
        "%",
        "0.813",
        "0.960",
        "–",
    ]
    assert reader.text("#boxes") == "1"


def test_a_region_names_the_place_that_it_matches(reader: Reader) -> None:
    """In the table, and as a frame on the picture, which goes when the regions' numbers go."""
    reader.open(image(SHAPES[0].locator))
    assert reader.text("#region-rows").endswith(
        "100, 400, 200 × 160: 88 % of the region match, mirrored, turned by -30°, 1.20 times its size"
    )
    assert "one may be a copy of the other" in reader.text("#regions-text")
    assert reader.text("#boxes").split("\n") == ["1", "2", "matches 2"]


def test_a_link_to_an_unknown_image_says_so(reader: Reader) -> None:
    reader.open("#image=case7%2Fnone.jpg")
    assert "holds no image case7/none.jpg" in reader.text("#missing")
    assert not reader.visible("#detail-body") and reader.focused() == "close"


def test_the_slider_moves_by_keyboard_and_by_mouse(reader: Reader) -> None:
    reader.open(image("case7/DSC_0412.jpg"))
    clip = "getComputedStyle(document.getElementById('over')).clipPath"
    assert reader.js(clip) in ("inset(0px 0px 0px 0%)", "inset(0px)", "inset(0px 0px 0px 0px)"), (
        "all marks are seen at first"
    )
    slider = reader.find("[name=wipe]")
    slider.send_keys(RIGHT * 3)
    assert reader.js(clip) == "inset(0px 0px 0px 3%)"
    assert slider.get_attribute("aria-valuetext") == "the first 3 percent of the width without marks"
    assert reader.text("#detail-title") == "case7/DSC_0412.jpg", "the arrows did not change the image"
    slider.send_keys(END)
    assert reader.js(clip) == "inset(0px 0px 0px 100%)"
    from selenium.webdriver import ActionChains

    ActionChains(reader.driver).click(reader.find("#stage")).perform()
    assert reader.js(clip) in ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 51%)", "inset(0px 0px 0px 49%)")


def test_layers(reader: Reader) -> None:
    reader.open(image("case7/DSC_0412.jpg"))
    shown = "['heat', 'mask', 'outline', 'black', 'boxes'].filter(id => document.getElementById(id).checkVisibility())"
    assert reader.js(shown) == ["heat", "outline", "boxes"]
    assert reader.js("document.getElementById('mask').hasAttribute('src')") is False, "loaded when asked for"
    reader.find("[name=opacity]").send_keys(END)
    assert reader.js("document.getElementById('heat').style.opacity") == "1"
    reader.click("[name=layer][value=heat]")
    assert reader.js(shown) == ["heat", "outline", "black", "boxes"]
    reader.click("[name=layer][value=mask]")
    reader.click("[name=outline]")
    reader.click("[name=boxes]")
    assert reader.js(shown) == ["mask", "black"]
    assert reader.text("#caption") == "The mask alone."
    reader.click("[name=layer][value=none]")
    assert reader.js(shown) == []
    before = reader.js("document.getElementById('stage').offsetWidth")
    reader.find("[name=zoom]").send_keys("4")
    assert reader.js("document.getElementById('stage').offsetWidth") == pytest.approx(4 * before, rel=0.05)


def test_next_previous_and_back_keep_the_focus(reader: Reader) -> None:
    reader.open("#verdict=forged&sort=name")
    names = reader.names()
    reader.find("#rows tr:nth-child(2) .name a").send_keys(ENTER)
    assert reader.text("#detail-title").startswith(names[1]) and reader.focused() == "detail-title"
    assert reader.text("#position") == f"2 of {len(names)}"
    reader.press(RIGHT)
    assert reader.text("#detail-title").startswith(names[2])
    reader.press(LEFT)
    reader.press(LEFT)
    assert reader.text("#detail-title").startswith(names[0])
    assert reader.find("#before").get_property("disabled")
    reader.click("#after")
    reader.press(ESCAPE)
    assert reader.visible("#overview") and not reader.visible("#detail")
    assert reader.focused() == names[1] and reader.names() == names
    assert reader.js("location.hash").startswith("#verdict=forged&sort=name"), "the way back keeps the filter"
    reader.driver.back()
    reader.until("document.getElementById('detail').checkVisibility()")
    assert reader.text("#detail-title").startswith(names[1])


def test_missing_pictures_are_named(chromium: Any, tmp_path: Path) -> None:
    images = list(many(3))
    reader = Reader(chromium, write_report(tmp_path, run_of(images, 0), images))
    reader.open()
    reader.until("document.querySelectorAll('#rows .none').length === 3")
    assert reader.column(0) == ["file missing"] * 3
    reader.open(image(images[0].locator))
    reader.until("!document.getElementById('pictures-missing').hidden")
    assert "is missing or damaged" in reader.text("#pictures-missing")


def test_panels_are_shown_as_aids(chromium: Any, tmp_path: Path) -> None:
    first, second = list(many(2))
    names = {"error_level_analysis": "panels/a #.ela.png", "noise_inconsistency": "panels/a.noise.png"}
    (tmp_path / "panels").mkdir()
    for name in names.values():
        with (tmp_path / name).open("wb") as stream:
            write_panel(stream, np.zeros((30, 40), np.float32))
    first = with_answer(first, p_value=0.004).model_copy(update={"outputs": first.outputs.model_copy(update=names)})
    reader = Reader(chromium, write_report(tmp_path, run_of([first, second], 0), [first, second]))
    reader.open(image(first.locator))
    reader.until("[...document.querySelectorAll('#panels img')].filter((i) => i.naturalWidth === 40).length === 2")
    assert reader.visible("#panels") and "aid, not a verdict" in reader.text("#panel-figures")
    assert "0.004, among the authentic photos" in reader.text("#how")
    reader.open(image(second.locator))
    reader.until("!document.getElementById('detail').hidden")
    assert not reader.visible("#panels")
