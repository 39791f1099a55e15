"""The page as a file: complete, inert, one policy, written whole, in parts when it must be; and its data, escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clue_cli import report
from clue_cli.records import BoundingBox, Counts, Finding, ImageRecord, NotExamined, Origin, RunRecord, Verdict, Weight
from clue_cli.report import (
    asset,
    embed,
    failure_row,
    image_detail,
    image_row,
    local_url,
    model_facts,
    printable,
    write_report,
)
from clue_cli.report.run_facts import STATUS
from clue_cli.results.pictures import inferno
from tests.clue_cli.report.conftest import Demo
from tests.clue_cli.report.demo import (
    ATTACK,
    HOSTILE,
    SHAPES,
    failures,
    many,
    record_of,
    run_of,
    with_answer,
    with_second,
)


class Page(HTMLParser):
    """The tags, the text, and the contents of script and style elements of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.data: dict[str, Any] = {}
        self._inside: tuple[str, dict[str, str | None]] | None = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = self.tags[-1]

    def handle_endtag(self, tag: str) -> None:
        self._inside = None
        if tag in ("dt", "dd"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.text += data
            return
        tag, attributes = self._inside
        if tag == "style":
            self.styles.append(data)
        elif attributes.get("type") == "application/json":
            self.data[str(attributes["id"])] = json.loads(data)
        else:
            self.scripts.append(data)

    @property
    def policy(self) -> str:
        [content] = [a["content"] for tag, a in self.tags if a.get("http-equiv") == "Content-Security-Policy"]
        return str(content)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


@pytest.fixture(scope="module")
def page(demo: Demo) -> Page:
    return Page(demo.page)


def write(folder: Path, images: list[ImageRecord], **changes: object) -> Page:
    return Page(write_report(folder, run_of(images, 0, **changes), images))


def test_the_policy_allows_this_script_and_this_style_only(page: Page) -> None:
    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    [script], [style] = page.scripts, page.styles
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == source(script)
    assert rules["style-src"] == source(style)
    assert rules["img-src"] == "'self' file: blob:"
    assert "unsafe" not in page.policy and "*" not in page.policy and "http" not in page.policy


def test_nothing_comes_from_anywhere_else(page: Page) -> None:
    source = "".join(page.scripts + page.styles)
    assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttp|innerHTML|document\.write|\beval\b", source)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "link", "base"), tag
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in ("href", "src"):
                assert value is not None and not re.match(r"[a-z]+:|//", value), value


def test_markup_from_the_evidence_stays_text(page: Page) -> None:
    assert ATTACK in page.text, "the warning of the run shows the name"
    assert "./evidence <b>" in page.text and ".pdf<i>" in page.text
    assert not [tag for tag, attributes in page.tags if tag == "b" or attributes.get("src") == "x"]
    assert len(page.scripts) == 1, "no script was smuggled in"
    assert "case7.zip⟨U+202E⟩" in page.text and "\u202e" not in page.text


def test_every_image_and_failure_is_in_the_data(demo: Demo, page: Page) -> None:
    rows, shared = page.data["data-rows"], page.data["data-shared"]
    assert [row[1:4] for row in rows] == [[r.page, r.page_count, r.verdict.value] for r in demo.images]
    details = page.data["data-details-0"]
    assert [detail["file"][0] for detail in details] == [record.file.sha256 for record in demo.images]
    assert [model["name"] for model in shared["models"]] == ["mini"]
    assert [row[3] for row in page.data["data-failures"]] == ["archive_encrypted", "corrupt_image"]


@pytest.mark.parametrize(
    "sentence",
    [
        "Images judged 20",
        "Forged 9",
        "Inconclusive 4",
        "No evidence 7",
        "Failures 2",
        "Not pictures 17",
        "39 files met, 2 archives opened",
        "extension: .txt 12, .pdf<i> 5.",
        "2026-11-21 04:28:38 (UTC+01:00) to 2026-11-21 05:31:40 (UTC+01:00) (1 h 03 min 02 s)",
        "clue 0.1.0",
        "5e5e5e5e5e5e",
        "Unchanged: read again after it was judged, every file and archive still had the SHA-256",
        "Finished. Exit code 1.",
        "score_threshold 0.5",
        "hidden no",
        "noise_levels 0.25, 0.5",
        "calibration platt-2026",
        "summary.csv",
        "A mark is a lead, not a proof.",
        "it does not show that the picture is untouched.",
        "Images generated as a whole",
        "Whether whole pictures were generated was not asked. “No evidence” means no evidence of an edited region",
    ],
)
def test_the_page_says(page: Page, sentence: str) -> None:
    assert sentence in page.words
    assert "Counts differ" not in page.text and "not complete" not in page.text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"status": "interrupted", "finished": None, "seconds": None}, "Run not complete. Interrupted before the end"),
        ({"status": "running"}, "Run not complete. Not finished when this page was written"),
        ({"status": "failed"}, "Run not complete. Stopped by an error"),
        ({"evidence_unchanged": False}, "Evidence changed during the scan."),
        ({"evidence_unchanged": None}, "Not all of it was checked again."),
        ({"counts": Counts(images=3)}, "images: 3 in run.json, 1 here; forged: 0 in run.json, 1 here"),
        ({"started": "yesterday"}, "Scanned yesterday to 2026"),
        ({"started": "2026-11-21T04:28:38"}, "Scanned 2026-11-21 04:28:38 to"),
        ({"seconds": 7.25}, "(7.2 s)"),
        ({"seconds": 119.6}, "(2 min 00 s)"),
        ({"warnings": []}, "None: every picture that was met"),
        ({"status": "interrupted"}, "None so far. The run is not complete"),
        ({"not_pictures_by_type": {}}, "counts several times."),
    ],
)
def test_how_the_run_went(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    page = write(tmp_path, [record_of(SHAPES[0])], **changes)
    assert sentence in page.words
    assert page.data["data-rows"][0][10] is None and "preview" not in page.data["data-details-0"][0]["urls"]


PROMISE = {
    "calibration": "ours.json<b>",
    "calibration_sha256": "7a" * 32,
    "calibration_promise": "At most 1 % of authentic photos are called forged by mistake.",
    "calibration_fitted_on": "",
}
FITTED = {**PROMISE, "calibration_fitted_on": "40 forged and 199 authentic images of one's own"}


@pytest.mark.parametrize(
    ("model", "said", "not_said"),
    [
        (
            {"calibration_fitted_on": "240 made pictures <b>, 50% of them forged"},
            ["derived from 240 made pictures <b>, 50% of them forged, and it holds only"],
            ["Promised error rate", "p-value", "one’s own"],
        ),
        ({"calibration_fitted_on": ""}, ["not given here: this model brings no calibration"], ["derived from"]),
        (
            PROMISE,
            [
                "Promised error rate At most 1 % of authentic photos are called forged by mistake.",
                f"(calibration ours.json<b>, SHA-256 {'7a' * 32})",
                "not the probability that one forged verdict is wrong",
                "no forged images were at hand for the calibration",
            ],
            ["derived from"],
        ),
        (FITTED, ["derived from one’s own images, forged and authentic ones weighing alike"], ["at hand"]),
    ],
)
def test_a_calibration_states_its_promise(
    tmp_path: Path, model: dict[str, str | None], said: list[str], not_said: list[str]
) -> None:
    words = write(tmp_path, [record_of(SHAPES[0])], model={"name": "mini", **model}).words
    assert [text for text in said if text not in words] == []
    assert [text for text in not_said if text in words] == []


def test_panels_and_p_values_reach_the_page(tmp_path: Path) -> None:
    record = record_of(SHAPES[0], "a")
    outputs = record.outputs.model_copy(update={"jpeg_ghosts": "panels/a #.ghosts.png"})
    page = write(tmp_path, [with_answer(record, p_value=0.0123456789).model_copy(update={"outputs": outputs})])
    detail = page.data["data-details-0"][0]
    assert detail["urls"]["jpeg_ghosts"] == "panels/a%20%23.ghosts.png"
    assert "noise_inconsistency" not in detail["urls"]
    assert detail["p"] == 0.012346
    assert "Panels: aids, not verdicts" in page.words and "took no part in the verdict" in page.words


def test_details_come_in_blocks(tmp_path: Path) -> None:
    page = write(tmp_path, list(many(201)))
    assert [len(page.data[f"data-details-{number}"]) for number in range(3)] == [100, 100, 1]
    assert page.data["data-details-2"][0]["file"][0] == hashlib.sha256(b"200").hexdigest()


def test_more_images_than_fit_make_parts_with_the_strongest_first(tmp_path: Path) -> None:
    images = list(many(25))
    (tmp_path / "index-0009.html").write_text("of an earlier run")
    (tmp_path / "index-notes.html").write_text("somebody else's")
    write_report(tmp_path, run_of(images, 2), [*images, *failures()], rows_per_part=10)
    names = ["index.html", "index-0002.html", "index-0003.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "index-notes.html"])
    parts = [Page(tmp_path / name) for name in names]
    rows = [row for part in parts for row in part.data["data-rows"]]
    assert [len(part.data["data-rows"]) for part in parts] == [10, 10, 5]
    assert [len(part.data["data-failures"]) for part in parts] == [2, 0, 0]
    rank = {"forged": 0, "inconclusive": 1, "no_evidence": 2}
    assert [(rank[row[3]], -row[4]) for row in rows] == sorted((rank[row[3]], -row[4]) for row in rows)
    assert len({row[0] for row in rows}) == 25
    for number, part in enumerate(parts, start=1):
        assert f"This is part {number} of 3" in part.words and "Forged 9" in part.words
        details = part.data["data-details-0"]
        assert len(details) == len(part.data["data-rows"])
        for row, detail in zip(part.data["data-rows"], details, strict=True):
            number_in_name = str(int(row[0][-10:-4]))
            assert detail["file"][0] == hashlib.sha256(number_in_name.encode()).hexdigest()
    write_report(tmp_path, run_of(images, 2), [*images, *failures()])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index-notes.html", "index.html"]


def test_large_records_make_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "BYTES_PER_PART", 10_000)
    images = list(many(30))
    write_report(tmp_path, run_of(images, 0), images)
    counts = [len(Page(path).data["data-rows"]) for path in sorted(tmp_path.iterdir())]
    assert sum(counts) == 30 and len(counts) > 2 and min(counts) >= 1
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 135_000, "style, script and words are 105,000"


def test_failures_alone_can_make_parts(tmp_path: Path) -> None:
    write_report(tmp_path, run_of([], 2), failures(), rows_per_part=1)
    assert [row[3] for row in Page(tmp_path / "index-0002.html").data["data-failures"]] == ["corrupt_image"]
    data = write(tmp_path, []).data
    assert data.pop("data-shared") | {"run": ""} == {
        "blockSize": 100, "run": "", "kinds": [], "types": [], "phrases": [], "models": [],
    }  # fmt: skip
    assert data == {"data-rows": [], "data-groups": [], "data-notes": {}, "data-failures": []}


@pytest.mark.parametrize("moment", ["while reading", "while writing"])
def test_an_error_leaves_the_old_page(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [record_of(SHAPES[0])]
    write(tmp_path, images)
    before = (tmp_path / "index.html").read_bytes()

    def broken() -> Iterator[ImageRecord]:
        yield images[0]
        raise OSError(5, "Input/output error")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    if moment == "while writing":
        monkeypatch.setattr("model.whole_file.os.fsync", full)
    with pytest.raises(OSError, match=r"error|space"):
        write_report(tmp_path, run_of([], 0), broken() if moment == "while reading" else [])
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_bytes() == before


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        run = run_of([], 0, counts=Counts(images=count))
        write_report(tmp_path, run, many(10))
        tracemalloc.start()
        write_report(tmp_path, run, many(count))
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    per_record = (peak(1500) - peak(500)) / 1000
    assert per_record < 250, "bytes, most of them to find copies; a record as JSON has more than a thousand"


def test_every_verdict_has_a_name_in_the_page() -> None:
    script = report._script()
    assert set(report.VERDICT_ORDER) | {*report.SECOND_ORDER} == {*Verdict, "not_asked"}
    for verdict in Verdict:
        assert f"{verdict.value}: " in script
    assert set(STATUS) == set(RunRecord.model_fields["status"].annotation.__args__)  # type: ignore[union-attr]


def test_the_legend_has_the_colours_of_the_heatmap() -> None:
    [stops] = re.findall(r"linear-gradient\(90deg, ([^)]*)\)", asset("clue_cli.report", "page.css"))
    for share, stop in zip((0, 0.25, 0.5, 0.75, 1), stops.split(", "), strict=True):
        colour = [int(stop[i : i + 2], 16) for i in (1, 3, 5)]
        table = inferno()[round(share * 255)].astype(int)
        assert max(abs(table - colour)) <= 8, stop


def test_the_answers_to_the_second_question_are_counted_apart(tmp_path: Path) -> None:
    said = [None, (Verdict.GENERATED, 0.9), (Verdict.NO_EVIDENCE, 0.1)]
    images = [with_second(record, answer) for record, answer in zip(many(3), said, strict=True)]
    page = write(tmp_path, images)
    assert "not asked of 1 of the 3 images" in page.words and "Generated 1" in page.words
    assert [row[12:14] for row in page.data["data-rows"]] == [
        ["not_asked", None],
        ["generated", 0.9],
        ["no_evidence", 0.1],
    ]
    assert [detail["second"] is None for detail in page.data["data-details-0"]] == [True, False, False]
    write_report(tmp_path, run_of(images, 0), images, rows_per_part=1)
    [first] = Page(tmp_path / "index.html").data["data-rows"]
    [second] = Page(tmp_path / "index-0002.html").data["data-rows"]
    assert (first[3], second[3], second[12]) == ("forged", "no_evidence", "generated")


def test_copies_that_may_be_missing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.groups._MOST", 5)
    monkeypatch.setattr("clue_cli.results.groups._BLOCK", 10)
    monkeypatch.setattr("clue_cli.results.hamming._PLACES", list(range(64)))
    for count, told in ((5, False), (100, True)):
        made = []
        for number, record in enumerate(many(count)):
            value = sum(0b11111 << 5 * bit for bit in range(12) if number >> bit & 1)
            made.append(record.model_copy(update={"perceptual_hash": f"{value:016x}"}))
        assert ("Not all pictures that look alike were found" in write(tmp_path, made).text) is told


def test_what_was_not_examined_and_alerts_stand_at_the_top(tmp_path: Path) -> None:
    page = write(tmp_path, [], not_opened={"PDF": 20, "video": 1}, alerts=["evidence/<b>.jpg"])
    assert "Not examined: 20 PDF and 1 video were not opened; they can hold pictures." in page.words
    assert "On the alert list: 1. evidence/<b>.jpg" in page.words
    assert "Not examined" not in write(tmp_path, []).words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.jpg", "plain.jpg"),
        ("ümlaut 写真", "ümlaut 写真"),
        ("a\u202egpj.exe", "a⟨U+202E⟩gpj.exe"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("line\nbreak\u2028", "line⟨U+000A⟩break⟨U+2028⟩"),
        ("bytes\udce9", "bytes⟨U+DCE9⟩"),
        ("\U000e0041tag", "⟨U+E0041⟩tag"),
        ("", ""),
    ],
)
def test_invisible_characters_are_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (None, None),
        ("masks/a.png", "masks/a.png"),
        ("masks/a b#?%&'\"<>.png", "masks/a%20b%23%3F%25%26%27%22%3C%3E.png"),
        ("masks/%2e%2e/x", "masks/%252e%252e/x"),
        ("masks/case.zip!/1.png", "masks/case.zip!/1.png"),
        ("javascript:alert(1)", "javascript%3Aalert(1)"),
        ("masks/é\udce9.png", "masks/%C3%A9%E9.png"),
        ("masks/a\\b.png", "masks/a%5Cb.png"),
    ],
)
def test_urls_are_encoded_segment_by_segment(path: str | None, url: str | None) -> None:
    assert local_url(path) == url


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "masks/../../x", "masks//x", "./x", "", "masks/"])
def test_a_path_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="results folder"):
        local_url(path)


@pytest.mark.parametrize("text", [*HOSTILE, "]]>", "\u2028\u2029", "&lt;", "\x00", "-->"])
def test_embedded_json_is_inert_and_complete(text: str) -> None:
    embedded = embed({"x": text})
    assert embedded.isascii()
    assert not set("<>&\u2028\u2029\x00") & set(embedded)
    assert json.loads(embedded) == {"x": text}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_an_error(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        embed([number])


def test_a_row_has_what_the_table_sorts_by() -> None:
    record = record_of(SHAPES[8], "case7/scan.tif.p0001")
    assert image_row(record) == [
        "case7/scan.tif", 1, 2, "forged", 0.7777, pytest.approx(0.7777), pytest.approx(0.015), 1, 700, 990,
        "previews/case7/scan.tif.p0001.thumb.jpg", "", "not_asked", None,
    ]  # fmt: skip


def test_a_row_notes_what_the_verdict_does_not_say() -> None:
    record = record_of(SHAPES[0], "a")
    claim = Finding(kind="x", source=Origin.METADATA, statement="s", weight=Weight.SUPPORTS_EDIT)
    missing = NotExamined(rows=[5, 9], box=BoundingBox(x=0, y=5, width=9, height=5), reason="r")
    record = record.model_copy(update={"findings": [claim, claim], "not_examined": [missing]})
    assert image_row(record)[11] == "not all of it examined; 2 findings outside the pixels support an edit"


def test_the_details_hold_the_rest_of_the_record() -> None:
    record = record_of(SHAPES[0], "a #")
    detail = image_detail(record, 3)
    assert detail["file"] == [record.file.sha256, 960_000, "jpeg", None]
    assert detail["thresholds"] == [0.5, 0.5]
    assert detail["regions"][0] == [660, 320, 300, 280, 84000, 0.0875, 0.8125, 0.9604, None]
    assert detail["regions"][1][8] == [100, 400, 200, 160, 0.875, 1.2, -30.0, True]
    assert detail["urls"] == {
        "mask": "masks/a%20%23.png",
        "heatmap": "heatmaps/a%20%23.png",
        "verdict": "verdicts/a%20%23.json",
        "preview": "previews/a%20%23.preview.jpg",
        "heat_overlay": "previews/a%20%23.heat.png",
        "outline": "previews/a%20%23.outline.png",
    }
    assert detail["seed"] == "18446744073709551615", "all digits of 64 bits"
    assert detail["tiles"] == [512, 64, 4]
    assert detail["exif"]["gps_present"] is True and "thumbnail_present" not in detail["exif"]
    assert detail["decoding"] == record.decoding
    assert detail["findings"] == [
        [found.source.value, found.weight.value, found.statement] for found in record.findings
    ]
    assert detail["seconds"] == [0.0012, 0.0123, 0.1456, 0.0301]
    assert detail["model"] == 3


def test_the_model_is_told_once_without_the_seed() -> None:
    record = record_of(SHAPES[0])
    facts = model_facts(record.model)
    assert "seed" not in facts
    assert facts["noise_levels"] == [0.25, 0.5, 0.75] and facts["digest"] == record.model.digest


def test_a_failure_keeps_its_reason_and_advice() -> None:
    whole, page = (failure_row(record) for record in failures())
    assert whole[1:] == [None, "archive", "archive_encrypted", "The archive is encrypted.",
                         "Unpack it with its password, and scan the folder.", None]  # fmt: skip
    assert page[1:4] == [2, "decode", "corrupt_image"] and page[6] == "ab" * 32
