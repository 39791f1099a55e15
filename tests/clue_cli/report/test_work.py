"""The page for work, in a browser: filters, groups of copies, keys, marks and notes, side by side, and its speed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.records import Counts, FileIdentity, Finding, ImageRecord, Origin, Verdict
from clue_cli.report import write_report
from clue_cli.results.notes import MergedNote, NoteLog, read_notes
from clue_cli.results.pictures import encode_mask
from tests.clue_cli.report.demo import ATTACK, SHAPES, draw, many, record_of, run_of, with_answer
from tests.clue_cli.report.reader import ENTER, ESCAPE, Reader, image

pytestmark = pytest.mark.browser

HASHES = ["f0f0f0f0f0f0f0f0", "f0f0f0f0f0f0f0f3", None, None, "0123456789abcdef", "fedcba9876543210"]
"""Image 0 and 1 are near copies, 2 has the bytes of 0, 3 to 5 are alone."""


def photo() -> bytes:
    """The file of image 0."""
    buffer = io.BytesIO()
    Image.fromarray(draw(SHAPES[2])[0]).save(buffer, "PNG")
    return buffer.getvalue()


def cases() -> list[ImageRecord]:
    """Six images: forged, none, inconclusive, forged, none, inconclusive, with falling scores."""
    made = []
    for i, record in enumerate(many(6)):
        content = photo() if i in (0, 2) else str(i).encode()
        kind = "screen_or_drawing" if i == 4 else "quantization_tables"
        finding = Finding(kind=kind, source=Origin.FILE, statement="As found.")
        made.append(
            with_answer(record, score=0.9 - i / 10).model_copy(
                update={
                    "locator": f"case/{i}.jpg" if i != 3 else "case/\u202e3.jpg",
                    "perceptual_hash": HASHES[i],
                    "file": FileIdentity(
                        sha256=hashlib.sha256(content).hexdigest(),
                        byte_size=len(content),
                        sniffed_type="png" if i == 5 else "jpeg",
                        claimed_type=None,
                    ),
                    "findings": [*record.findings, finding],
                    "width": 600,
                    "height": 900,
                    "outputs": record.outputs.model_copy(
                        update={
                            "mask": "m.png",
                            "heatmap": "m.png",
                            "preview": "p.png",
                            "outline": None,
                            "heat_overlay": None,
                            "thumbnail": None,
                        }
                    ),
                }
            )
        )
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of `cases`, with notes of two people in its folder: read it only."""
    images, folder = cases(), tmp_path_factory.mktemp("work")
    with NoteLog(folder / "notes.jsonl") as log:
        for who, mark, text in (("A. Meier", "checked", f"{ATTACK}\u202e"), ("B. Rossi", "to_be_checked", "")):
            fields = {"locator": "case/0.jpg", "page": 0, "sha256": images[0].file.sha256}
            when = {"when": "2026-11-27T10:00:00+01:00", "merged": "2026-11-27T12:00:00+01:00"}
            log.append(MergedNote.model_validate({**fields, **when, "mark": mark, "note": text, "who": who}))
    mask = np.zeros((900, 600), np.bool_)
    mask[300:, 200:] = True
    (folder / "m.png").write_bytes(encode_mask(mask))
    Image.fromarray(draw(SHAPES[2])[0]).resize((150, 225)).save(folder / "p.png")
    return write_report(folder, run_of(images, 0, run_id="20261127T100000Z-aaaaaa"), images)


@pytest.fixture
def work(chromium: Any, page: Path) -> Iterator[Reader]:
    """The page in a browser that has kept nothing yet."""
    chromium.get_log("browser")
    reader = Reader(chromium, page)
    reader.open()
    yield reader
    assert reader.driver.get_log("browser") == []
    assert "owned" not in reader.driver.title
    reader.driver.execute_script("localStorage.clear()")


def named(reader: Reader, who: str = "C. Novak") -> None:
    """Give the name that is asked for once."""
    reader.find("#ask-name").send_keys(who + ENTER)


def kept(reader: Reader) -> list[dict[str, Any]]:
    """The notes that the browser keeps."""
    values = reader.js("Object.entries(localStorage).filter(([k]) => k.startsWith('clue-notes/1 2')).map(([, v]) => v)")
    return [json.loads(value) for value in values]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 100,000 images in two parts: read it only."""
    base, words = list(many(1000)), ["A sentence as long as those that a scan writes of a picture.", "Another one."]

    def images() -> Iterator[ImageRecord]:
        for i in range(100_000):
            update = {
                "plain_words": words,
                "locator": f"evidence/{i:06d}.jpg",
                "perceptual_hash": f"{i // 4 * 0x9E3779B97F4A7C15 % 2**64:016x}",
            }
            yield base[i % 1000].model_copy(update=update)

    run = run_of([], 0, counts=Counts(images=100_000, forged=33_400, no_evidence=33_300, inconclusive=33_300))
    return write_report(tmp_path_factory.mktemp("large"), run, images())


FILTERS = {
    "kind=screen_or_drawing": "4",
    "kind=quantization_tables&rows=all": "01235",
    "type=png": "5",
    "picture=screen": "4",
    "picture=other&rows=all": "01235",
    "copies=grouped": "0",
    "copies=differ&rows=all": "012",
    "copies=alone": "345",
    "group=1&rows=all": "012",
    "mark=checked": "0",
    "mark=none&rows=all": "12345",
    "mark=noted": "0",
    "kind=nonsense&type=nonsense&copies=x&mark=x&picture=x&group=99": "0345",
    "sort=constructor&verdict=constructor&second=__proto__&copies=toString&mark=__proto__&picture=valueOf": "0345",
}


def test_filters_are_in_the_address(work: Reader) -> None:
    go = "(hash => { history.replaceState(null, '', hash); dispatchEvent(new Event('popstate')); })(arguments[0])"
    for fragment, wanted in FILTERS.items():
        work.js(go, f"#{fragment}")
        assert sorted(name[-5] for name in work.names()) == list(wanted), fragment
        assert "native code" not in work.text("#shown")


def test_the_choices_have_counts(work: Reader) -> None:
    options = work.js("[...document.querySelectorAll('#filters [name=kind] option')].map(o => o.textContent)")
    assert options == ["all", "type mismatch (6)", "quantization tables (5)", "screen or drawing (1)"]
    work.find("#filters [name=type]").send_keys("png")
    assert work.names() == ["case/5.jpg"] and "file type png" in work.text("#shown")
    work.until("location.hash === '#type=png'")


def test_copies_are_one_row_that_opens(work: Reader) -> None:
    assert [name[-5] for name in work.names()] == ["0", "3", "5", "4"]
    assert work.text("#shown").startswith("Rows 1 to 4 of 4: 6 images, copies as one row")
    assert "Different verdicts: 1 forged, 1 inconclusive, 1 no evidence" in work.column(1)[0]
    work.click(".opener")
    assert [name[-5] for name in work.names()] == ["0", "2", "1", "3", "5", "4"]
    assert "the same bytes as the first of the group" in work.column(1)[1] and "2 of 64 bits" in work.column(1)[2]
    assert work.js("document.activeElement.ariaExpanded") == "true", "the focus stays on the button"
    work.click(".opener")
    work.find("#filters [name=rows]").send_keys("each")
    assert len(work.names()) == 6
    work.open(image("case/1.jpg"))
    assert "may have lost the traces" in work.text("#group-differ") and work.text("#position") == "1 of 4"
    assert work.text("#group-rows").count("case/") == 3
    work.click("#group-all")
    assert sorted(work.names()) == ["case/0.jpg", "case/1.jpg", "case/2.jpg"]


def test_copies_on_another_part_are_told(chromium: Any, tmp_path: Path) -> None:
    images = cases()
    reader = Reader(chromium, write_report(tmp_path, run_of(images, 0), images, rows_per_part=2))
    reader.open()
    assert "2 on other parts of the report" in reader.text("#rows") and "3 copies" in reader.text("#rows")
    reader.open(image("case/0.jpg"))
    assert "2 of them are on other parts" in reader.text("#group-text")
    assert "another part" in reader.text("#group-differ")


def test_the_keyboard_marks_rows_and_images(work: Reader, tmp_path: Path) -> None:
    work.press("j")
    assert work.focused() == "case/0.jpg"
    work.press("j")
    work.press("c")
    assert work.visible("#ask-who")
    named(work)
    assert "checked (C. Novak)" in work.column(1)[1], "asked once, and then done"
    work.press("k")
    work.press("x")
    assert "not relevant (C. Novak)" in work.column(1)[0] and "the marks differ" in work.column(1)[0]
    work.press(ENTER)
    work.press("n")
    assert work.js("document.querySelector('#marks [aria-pressed=true]').textContent") == "Checked"
    work.press("c")
    work.press("m")
    assert work.focused() == "note"
    work.press("cut out? \u2028next")
    work.press(ESCAPE)
    assert "cut out?" in work.text("#notes-list") and work.visible("#detail")
    work.press("p")
    assert work.text("#detail-title") == "case/0.jpg", "keys work again"
    notes = {note["locator"]: note for note in kept(work)}
    assert notes["case/0.jpg"]["mark"] == "not_relevant" and notes["case/0.jpg"]["who"] == "C. Novak"
    assert notes["case/\u202e3.jpg"]["mark"] is None and notes["case/\u202e3.jpg"]["note"].startswith("cut out? ")
    work.press("?")
    assert work.visible("#keys") and "mark as checked" in work.text("#keys")
    work.click("#keys-on")
    work.click("#keys .done")
    work.press("n")
    assert work.text("#detail-title") == "case/0.jpg", "single keys are off"
    work.open()
    assert work.js("document.getElementById('keys-on').checked") is False, "remembered"
    assert "not relevant (C. Novak)" in work.column(1)[0]


def test_notes_go_into_a_file_and_come_from_one(work: Reader, tmp_path: Path) -> None:
    work.open(image("case/\u202e3.jpg"))
    work.click("#marks [data-mark=to_be_checked]")
    named(work, "C. Novak \u202e")
    work.find("#note").send_keys("line one\nline two")
    work.click("#close")
    assert "1 note kept in this browser, 1 of them in no file yet" in work.text("#notes-state")
    saved = tmp_path / "saved"
    saved.mkdir()
    work.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)})
    work.click("#download-notes")
    for _ in range(100):
        if list(saved.glob("*.json")):
            break
        work.until("true")
    file = read_notes(saved / "notes.json")
    [note] = file.notes
    assert (note.locator, note.mark, note.note) == ("case/\u202e3.jpg", "to_be_checked", "line one\nline two")
    assert note.sha256 == cases()[3].file.sha256 and note.who == "C. Novak ⟨U+202E⟩"
    assert "all of them in a file" in work.text("#notes-state")
    later = {"when": "2099-01-01T00:00:00Z", "who": "<b>D</b>", "mark": "not_relevant", "note": f"{ATTACK}\u202e"}
    wrong = {"locator": "case/1.jpg", "page": 0, "sha256": "0" * 64}
    right = {**wrong, "sha256": cases()[1].file.sha256}
    notes = [
        {**right, **later},
        {**wrong, **later},
        {**right, **later, "mark": "owned"},
        7,
        {**right, **later, "locator": "x"},
    ]
    other = tmp_path / "others.json"
    other.write_text(json.dumps({"format": "clue-notes/1", "run_id": "r", "notes": notes}))
    work.find("#load-notes").send_keys(str(other))
    work.until("!document.getElementById('notes-loaded').hidden")
    for words in ("1 note taken", "another run", "1 are of images that are not", "another SHA-256", "2 are damaged"):
        assert words in work.text("#notes-loaded")
    work.open(image("case/1.jpg"))
    assert "⟨U+202E⟩" in work.text("#notes-list") and ATTACK in work.text("#notes-list")
    assert work.js("document.querySelectorAll('#notes-list img, #notes-list b').length") == 0
    work.open()
    other.write_text("{")
    work.find("#load-notes").send_keys(str(other))
    work.until("!document.getElementById('notes-loaded').hidden")
    assert "was not read: it is no JSON" in work.text("#notes-loaded")


def test_notes_in_the_results_folder_are_shown(work: Reader) -> None:
    assert "checked and a note (A. Meier)" in work.column(1)[0] and "to be checked (B. Rossi)" in work.column(1)[0]
    work.open(image("case/0.jpg"))
    shown = work.text("#notes-list")
    assert "A. Meier, 2026-11-27 10:00 (UTC+01:00): checked." in shown and f"{ATTACK}⟨U+202E⟩" in shown


def test_notes_of_the_run_before_are_offered(work: Reader, tmp_path: Path) -> None:
    """Of a folder that was scanned again: those of the same bytes are taken over, others are not."""
    work.press("j")
    work.press("c")
    named(work)
    work.press("j")
    work.press("t")
    images = cases()
    changed = images[3].file.model_copy(update={"sha256": "c" * 64})
    images[3] = images[3].model_copy(update={"file": changed})
    run = run_of(images, 0, run_id="20261128T100000Z-bbbbbb")
    later = Reader(work.driver, write_report(tmp_path, run, images))
    later.open()
    assert "2 notes of other runs" in later.text("#other-runs") and "C. Novak" not in later.text("#rows")
    later.click("#other-runs button")
    assert "1 note taken over; 1 left out" in later.text("#notes-loaded")
    assert "checked (C. Novak)" in later.column(1)[0] and "C. Novak" not in later.column(1)[1]


def test_a_note_belongs_to_the_image_for_which_it_was_typed(work: Reader) -> None:
    """Whoever goes back while the field has the focus neither moves nor loses a note."""
    work.open(image("case/0.jpg"))
    work.press("m")
    named(work)
    work.press("one")
    work.press(ESCAPE)
    work.press("n")
    work.press("m")
    work.press("two")
    work.driver.back()
    work.until("document.getElementById('detail-title').textContent === 'case/0.jpg'")
    assert work.find("#note").get_property("value") == "one"
    work.click("#note")
    work.press(ESCAPE)
    assert [note["note"] for note in sorted(kept(work), key=lambda note: note["locator"])] == ["one", "two"]


def test_a_field_that_was_not_typed_in_outdates_no_note(work: Reader) -> None:
    """Another tab writes while this one has the focus in the same note."""
    work.open(image("case/0.jpg"))
    work.press("m")
    named(work)
    work.driver.execute_script(
        """
        const note = { locator: "case/0.jpg", page: 0, sha256: arguments[0], mark: null, note: "of the other tab",
          who: "C. Novak", when: "2026-11-28T10:00:00.000Z" };
        const key = `clue-notes/1 20261127T100000Z-aaaaaa ["case/0.jpg",0,"C. Novak"]`, newValue = JSON.stringify(note);
        localStorage.setItem(key, newValue);
        dispatchEvent(new StorageEvent("storage", { key, newValue }));
    """,
        cases()[0].file.sha256,
    )
    assert work.focused() == "note" and work.find("#note").get_property("value") == "of the other tab"
    work.press(ESCAPE)
    assert [note["note"] for note in kept(work)] == ["of the other tab"]


def test_the_name_can_be_refused_and_is_asked_for_again(work: Reader) -> None:
    work.open(image("case/0.jpg"))
    work.click("#note")
    assert work.visible("#ask-who")
    work.press(ESCAPE)
    work.until("!document.getElementById('ask-who').open")
    work.press("x")
    assert work.visible("#ask-who"), "nothing is typed in vain"
    work.driver.execute_script(
        "document.getElementById('ask-name').value = '\\u{1f50d}'.repeat(250);"
        "document.getElementById('ask-form').requestSubmit();"
    )
    [note] = kept(work)
    assert note["note"] == "x" and note["who"] == "\U0001f50d" * 200, "as many characters as clue notes takes"


def test_names_that_look_the_same_open_their_own_image(chromium: Any, tmp_path: Path) -> None:
    images = [
        record.model_copy(update={"locator": name})
        for record, name in zip(many(3), ("a\u202e.jpg", "a⟨U+202E⟩.jpg", "b.jpg"), strict=True)
    ]
    reader = Reader(chromium, write_report(tmp_path, run_of(images, 0), images))
    reader.open()
    links = reader.js("[...document.querySelectorAll('#rows .name > a')].map(a => a.hash)")
    hashes = set()
    for link in links:
        reader.open(link)
        hashes.add(reader.js("document.querySelector('#what .code').textContent"))
    assert hashes == {record.file.sha256 for record in images}
    reader.click("#before")
    assert reader.text("#position") == "2 of 3"


def test_a_browser_that_cannot_keep_notes_says_so_and_warns(work: Reader) -> None:
    script = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"
    added = work.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        work.open()
        assert work.visible("#notes-lost")
        leave = (
            "(e => { dispatchEvent(e); return e.defaultPrevented; })(new Event('beforeunload', { cancelable: true }))"
        )
        assert work.js(leave) is False, "nothing is lost yet"
        work.press("j")
        work.press("c")
        named(work)
        assert work.js(leave) is True and "checked (C. Novak)" in work.column(1)[0]
        work.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})
        work.click("#download-notes")
        assert work.js(leave) is False
    finally:
        work.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_panes_zoom_and_move_together(work: Reader, tmp_path: Path) -> None:
    work.open(image("case/0.jpg"))
    work.press("s")
    work.until("[...document.querySelectorAll('#panes img')].every(i => i.naturalWidth > 0)")
    assert "side=image.mask" in work.js("location.hash") or work.js("document.querySelectorAll('.pane').length") == 2
    assert "25 % of the original’s resolution" in work.text("#panes") and "Full resolution, 600 × 900" in work.text(
        "#panes"
    )
    transforms = "[...new Set([...document.querySelectorAll('#panes img')].map(i => i.style.transform))]"
    fit = work.js(transforms)
    assert len(fit) == 1
    view = work.find("#panes .view")
    view.send_keys("1")
    assert "Zoom 100 %: one pixel of the original is one of the screen" in work.text("#zoom-text")
    assert work.js("document.querySelector('#panes img').classList.contains('pixelated')") is True, "a reduced copy"
    view.send_keys("+++")
    before = work.js(transforms)
    from selenium.webdriver import ActionChains

    ActionChains(work.driver).drag_and_drop_by_offset(view, -40, -30).perform()
    after = work.js(transforms)
    assert len(before) == len(after) == 1 and before != after
    ActionChains(work.driver).double_click(view).perform()
    assert work.js(transforms) == fit
    wheel = "document.querySelector('.view').dispatchEvent(new WheelEvent('wheel', { deltaY: -200, cancelable: true }))"
    assert work.js(wheel) is False and work.js(transforms) != fit, "the page does not scroll too"
    work.find("#pane-count").send_keys("3")
    assert work.js("document.querySelectorAll('.pane').length") == 3
    (tmp_path / "photo.png").write_bytes(photo())
    (tmp_path / "other.png").write_bytes(photo() + b"x")
    work.find("#original").send_keys(str(tmp_path / "other.png"))
    work.until("document.getElementById('original-text').textContent.includes('is not the file that was judged')")
    work.find("#original").send_keys(str(tmp_path / "photo.png"))
    work.until("(i => i.src.startsWith('blob:') && i.naturalWidth === 600)(document.querySelector('#panes img'))")
    assert "is that of the file that was judged" in work.text("#original-text")


def test_a_mask_of_100_megapixels_is_shown(chromium: Any, tmp_path: Path) -> None:
    side = 10_000
    mask = np.zeros((side, side), np.bool_)
    mask[side // 2 :, side // 2 :] = True
    (tmp_path / "m.png").write_bytes(encode_mask(mask))
    [record] = many(1)
    outputs = record.outputs.model_copy(update={"mask": "m.png", "heatmap": None})
    record = record.model_copy(update={"width": side, "height": side, "outputs": outputs})
    reader = Reader(chromium, write_report(tmp_path, run_of([record], 0), [record]))
    reader.open(image(record.locator) + "&side=mask")
    reader.until("document.querySelector('#panes img').naturalWidth === 10000")
    assert "Full resolution, 10,000 × 10,000 pixels" in reader.text("#panes")
    view = reader.find("#panes .view")
    for _ in range(2):  # as it fits, and one pixel to one
        shot = np.asarray(Image.open(io.BytesIO(view.screenshot_as_png)).convert("L"))
        height, width = shot.shape
        third = height // 3 if view.size["height"] < view.size["width"] else width // 3
        middle = (height // 2, width // 2)
        assert shot[middle[0] + third // 2, middle[1] + third // 2] == 255
        assert shot[middle[0] - third // 2, middle[1] - third // 2] == 0
        view.send_keys("1")
    assert "Zoom 100 %" in reader.text("#zoom-text")


def test_100_000_images_open_in_two_seconds(chromium: Any, large: Path) -> None:
    """By Chromium's own clock, until the rows of the table are painted; files are opened as from a stick."""
    reader = Reader(chromium, large)
    watch = (
        "new MutationObserver((_, observer) => { if (document.querySelector('#rows tr')) {"
        "observer.disconnect(); requestAnimationFrame(() => { window.firstRows = performance.now(); }); } })"
        ".observe(document, { childList: true, subtree: true });"
    )
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    milliseconds: list[float] = []
    try:
        for _ in range(3):  # once more if another process had the core
            reader.open()
            reader.until("window.firstRows")
            milliseconds.append(reader.js("window.firstRows"))
            if milliseconds[-1] < 2000:
                break
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert min(milliseconds) < 2000
    assert "copies as one row" in reader.text("#shown")
    assert reader.js("[...document.querySelectorAll('#rows img')].every(i => i.loading === 'lazy')")
    choose = "f.value = 'type_mismatch'; f.dispatchEvent(new Event('input', { bubbles: true }))"
    took = f"(f => {{ const t = performance.now(); {choose}; return performance.now() - t; }})"
    filtered = f"{took}(document.querySelector('[name=kind]'))"
    assert reader.js(filtered) < 2000


def test_the_table_of_a_large_page_comes_in_pages(chromium: Any, large: Path) -> None:
    reader = Reader(chromium, large)
    reader.open("#rows=all")
    assert reader.text("#shown") == "Images 1 to 50 of 50,000, by verdict and score."
    first = reader.names()
    reader.click("[data-step=next]")
    assert reader.text("#shown").startswith("Images 51 to 100") and not set(first) & set(reader.names())
    reader.click("[data-step=last]")
    assert reader.text("#pager-text") == "Page 1,000 of 1,000"
    assert reader.find("[data-step=next]").get_property("disabled")
    assert reader.focused() == "table", "the button that was pressed is disabled now"
    reader.js("location.hash = 'rows=all&n=250&p=3'")
    reader.until("document.getElementById('shown').textContent.startsWith('Images 501 to 750')")
    [last] = (name for name in reader.names()[-1:])
    reader.js(f"location.hash = {image(last)!r}")
    reader.until(f"document.getElementById('detail-title').textContent === {last!r}")
    assert hashlib.sha256(str(int(last[-10:-4]) % 1000).encode()).hexdigest() in reader.text("#what")


def test_words_that_come_again_are_told_once(tmp_path: Path) -> None:
    words = ["The same sentence.", "Another sentence."]
    images = [record_of(SHAPES[0], "a").model_copy(update={"plain_words": [*words, f"Only {i}."]}) for i in range(4)]
    page = write_report(tmp_path, run_of(images, 0), images).read_text()
    assert page.count(words[0]) == 2, "the first time, and in the list of what came again"
    assert Verdict.FORGED in page
