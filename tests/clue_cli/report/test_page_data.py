"""What the page's script is given: every field, escaped."""

from __future__ import annotations

import json

import pytest

from clue_cli.report.page import (
    embed,
    failure_row,
    image_detail,
    image_row,
    local_url,
    model_facts,
    printable,
)
from tests.clue_cli.report.demo import HOSTILE, SHAPES, failures, record_of


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
        "previews/case7/scan.tif.p0001.thumb.jpg",
    ]  # fmt: skip


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


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: ascii(shape.locator))
def test_every_record_can_be_embedded(shape: object) -> None:
    record = record_of(shape, "x")  # type: ignore[arg-type]
    row, detail = json.loads(embed(image_row(record))), json.loads(embed(image_detail(record, 0)))
    assert row[0] == printable(record.locator) and detail["reason"] == record.reason
