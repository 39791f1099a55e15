"""The page in a browser, from a folder as from a USB stick: table, one image, hostile content, paper, a phone."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clue_cli.records import Verdict
from clue_cli.report import printable, write_report
from clue_cli.results.explanations import EXPLANATIONS, ExplanationLog
from clue_cli.results.pictures import encode_panel
from tests.clue_cli.explaining.made_records import explanation
from tests.clue_cli.report.conftest import Demo
from tests.clue_cli.report.demo import ATTACK, HOSTILE, SHAPES, many, run_of, with_answer, with_second
from tests.clue_cli.report.reader import END, ENTER, ESCAPE, LEFT, RIGHT, TAB, Reader, image

pytestmark = pytest.mark.browser

RANK = {Verdict.FORGED: 0, Verdict.INCONCLUSIVE: 1, Verdict.NO_EVIDENCE: 2}


def test_it_opens_with_the_strongest_findings_first(reader: Reader, demo: Demo) -> None:
    expected = sorted(demo.images, key=lambda record: (RANK[record.verdict], -record.score))
    assert reader.names() == [printable(record.locator) for record in expected]
    assert reader.text("#shown") == "Images 1 to 20 of 20, by verdict and score."
    assert not reader.visible("#detail")
    assert reader.text("html").count("Image forensics report") == 1


@pytest.mark.parametrize(
    ("sort", "column", "key"),
    [
        ("score", 3, float),
        ("confidence", 4, lambda text: float(text.strip("> %"))),
        ("area", 5, lambda text: float(text.strip("<> %"))),
        ("regions", 6, int),
        ("size", 8, lambda text: int(text.split(" × ")[0]) * int(text.split(" × ")[1])),
    ],
)
def test_it_sorts_by_numbers(reader: Reader, sort: str, column: int, key: Any) -> None:
    for direction, falling in (("descending", True), ("ascending", False)):
        reader.click(f"[data-sort={sort}]")
        sorted_header = f"document.querySelector('[data-sort={sort}]').parentElement.ariaSort"
        assert reader.js(sorted_header) == direction
        cells = reader.column(column)
        values = [key(text) for text in cells if text != "–"]
        assert values == sorted(values, reverse=falling) and len(set(values)) > 2
        assert "–" not in cells[: len(values)], "images without a value come last"
    assert reader.js("document.querySelectorAll('th[aria-sort=ascending], th[aria-sort=descending]').length") == 1


def test_it_sorts_by_name_and_back(reader: Reader) -> None:
    reader.click("[data-sort=name]")
    rising = reader.names()
    assert (
        rising.index("case7/DSC_0412.jpg") < rising.index("case7/DSC_0413.jpg") < rising.index("case7/tiny-forged.png")
    )
    reader.click("[data-sort=name]")
    assert reader.names()[0] == rising[-1]


@pytest.mark.parametrize(
    ("fragment", "wanted"),
    [
        ("#verdict=forged", lambda r: r.verdict is Verdict.FORGED),
        ("#verdict=inconclusive", lambda r: r.verdict is Verdict.INCONCLUSIVE),
        ("#smin=0.5&smax=0.8", lambda r: 0.5 <= r.score <= 0.8),
        ("#amin=9", lambda r: r.forged_area_ratio >= 0.09),
        ("#q=SCAN", lambda r: "scan" in r.locator),
        ("#q=%23", lambda r: "#" in r.locator),
        ("#verdict=nonsense&sort=nonsense&n=7&p=-3", lambda r: True),
    ],
)
def test_a_link_selects(reader: Reader, demo: Demo, fragment: str, wanted: Any) -> None:
    reader.open(fragment)
    expected = sorted(printable(record.locator) for record in demo.images if wanted(record))
    assert sorted(reader.names()) == expected and expected


def test_controls_filter_and_are_in_the_address(reader: Reader, demo: Demo) -> None:
    reader.find("[name=q]").send_keys("case7/")
    reader.find("[name=smin]").send_keys("0.6")
    reader.find("#filters [name=verdict]").send_keys("forged")
    names = {r.locator for r in demo.images if "case7/" in r.locator and r.score >= 0.6 and r.verdict is Verdict.FORGED}
    assert set(reader.names()) == names
    assert reader.text("#shown") == (
        "Images 1 to 4 of 4 selected from 20 (name contains “case7/”, verdict forged, score from 0.6), "
        "by verdict and score."
    )
    reader.until("location.hash.includes('smin=0.6') && location.hash.includes('verdict=forged')")
    fragment = reader.js("location.hash")
    reader.open(fragment)
    assert set(reader.names()) == names and reader.find("[name=smin]").get_property("value") == "0.6"
    reader.find("[name=q]").send_keys("nothing like that")
    assert reader.names() == [] and reader.text("#shown").startswith("None of 20 images matches")
    reader.click("#filters button[type=reset]")
    assert len(reader.names()) == 20
    reader.until("['', '#'].includes(location.hash)")
    reader.click(".counts .inconclusive a")
    assert set(reader.column(2)) == {"Inconclusive"}


def test_a_filter_just_typed_survives_the_way_to_an_image_and_back(reader: Reader) -> None:
    reader.find("[name=q]").send_keys("scan")
    reader.click("#rows .name a")
    reader.until("document.getElementById('detail').checkVisibility()")
    reader.driver.back()
    reader.until("document.getElementById('overview').checkVisibility()")
    assert reader.names() == ["case7/scan.tif"] * 2


def test_the_keyboard_reaches_the_table(reader: Reader) -> None:
    reader.press(TAB)
    assert reader.focused() == "skip"
    assert reader.js("document.activeElement.getBoundingClientRect().top >= 0"), "seen when it has the focus"
    assert reader.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    reader.press(ENTER)
    assert reader.focused() == "table"
    reader.press(TAB)
    assert reader.focused() == "Name"
    reader.press(ENTER)
    assert reader.js("document.activeElement.parentElement.ariaSort") == "ascending"


def test_jump_links_do_not_disturb_the_view(reader: Reader) -> None:
    reader.open("#verdict=forged")
    reader.click("header a.jump")
    assert reader.focused() == "meaning" and reader.js("location.hash") == "#verdict=forged"


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
    assert " ".join(reader.text("#region-rows").split()) == "1 140 495 210 49 10,395 1.50 % 0.813 0.960 –"
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


def test_the_second_question_has_a_column_a_filter_and_a_place_in_the_view_of_an_image(
    chromium: Any, tmp_path: Path
) -> None:
    answers = [None, (Verdict.GENERATED, 0.9), (Verdict.INCONCLUSIVE, None), (Verdict.NO_EVIDENCE, 0.1)]
    plain = [with_answer(record, verdict=Verdict.NO_EVIDENCE, score=0.2) for record in many(4)]
    images = [with_second(record, answer) for record, answer in zip(plain, answers, strict=True)]
    reader = Reader(chromium, write_report(tmp_path, run_of(images, 0), images))
    reader.open()
    assert reader.names()[0] == images[1].locator, "what was generated comes before no evidence of an edit"
    said = ["Generated\nscore 0.900", "Inconclusive", "No evidence\nscore 0.100", "Not asked"]
    assert sorted(reader.column(7)) == said
    reader.click("[data-sort=second]")
    assert reader.column(7) == said
    reader.click("#overview .counts .not_asked a")
    assert reader.names() == [images[0].locator]
    assert "whole picture generated: not asked" in reader.text("#shown")
    reader.open(image(images[0].locator))
    assert "Not asked" in reader.text("#detail-second") and "no evidence for or against" in reader.text(
        "#detail-second"
    )
    assert not reader.visible("#second-layer")
    reader.open(image(images[1].locator))
    assert "Generated" in reader.text("#detail-second") and "traces <i>" in reader.text("#what")
    reader.click("[name=layer][value=second]")
    assert reader.visible("#second-layer") and "generated" in reader.text("#legend-text")
    assert reader.js("document.getElementById('second').getAttribute('src')") == "previews/a.second.png"
    reader.open(image(images[3].locator))
    assert reader.js("document.getElementById('layers').elements.layer.value") == "over"


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
        (tmp_path / name).write_bytes(encode_panel(np.zeros((30, 40), np.float32)))
    first = with_answer(first, p_value=0.004).model_copy(update={"outputs": first.outputs.model_copy(update=names)})
    reader = Reader(chromium, write_report(tmp_path, run_of([first, second], 0), [first, second]))
    reader.open(image(first.locator))
    reader.until("[...document.querySelectorAll('#panels img')].filter((i) => i.naturalWidth === 40).length === 2")
    assert reader.visible("#panels") and "aid, not a verdict" in reader.text("#panel-figures")
    assert "0.004, among the authentic photos" in reader.text("#how")
    reader.open(image(second.locator))
    reader.until("!document.getElementById('detail').hidden")
    assert not reader.visible("#panels")


def test_a_generated_text_is_shown_as_such(chromium: Any, tmp_path: Path) -> None:
    first, second = list(many(2))
    log = ExplanationLog(tmp_path / EXPLANATIONS)
    log.append(explanation(first, status="accepted", text=f"A lead. {ATTACK}"))
    log.append(explanation(second, status="discarded", text="It is authentic.", reasons=["a lie"]))
    log.close()
    reader = Reader(chromium, write_report(tmp_path, run_of([first, second], 0), [first, second]))
    reader.open(image(first.locator))
    reader.until("!document.getElementById('detail').hidden")
    shown = reader.text("#what")
    assert "Written by a language model" in shown and f"A lead. {ATTACK}" in shown and "f" * 64 in shown
    reader.open(image(second.locator))
    reader.until("document.getElementById('detail-title').textContent.includes('" + second.locator[-8:] + "')")
    assert "language model" not in reader.text("#what")


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
