"""summary.csv: readable by programs, harmless in spreadsheets."""

from __future__ import annotations

import csv
import io

import pytest

from clue_cli.records import ExifBrief, FailureRecord, Finding, ImageRecord, Origin
from clue_cli.results.summary import COLUMNS, write_summary
from tests.clue_cli.results.made import failure, identity, image


def rows(*records: tuple[ImageRecord | FailureRecord, bool]) -> list[dict[str, str]]:
    text = io.StringIO(newline="")
    write_summary(text, records)
    text.seek(0)
    return list(csv.DictReader(text))


def test_an_image_and_a_failure() -> None:
    exif = ExifBrief(camera_make="Canon", gps_present=True)
    notes = [Finding(kind="note", source=Origin.FILE, statement=text) for text in ("a", "b")]
    one, two = rows((image(findings=notes, exif=exif, confidence=0.9), True), (failure(page=3), False))
    assert list(one) == list(COLUMNS)
    assert {key: one[key] for key in ("kind", "verdict", "score", "confidence", "findings", "failure_code")} == {
        "kind": "image",
        "verdict": "forged",
        "score": "0.75",
        "confidence": "0.9",
        "findings": "a | b",
        "failure_code": "",
    }
    assert (one["camera_make"], one["gps_present"], one["met_in_this_run"]) == ("Canon", "yes", "yes")
    assert (two["kind"], two["page"], two["failure_code"]) == ("failure", "3", "corrupt_image")
    assert (two["reason"], two["verdict"], two["met_in_this_run"]) == ("It is cut short.", "", "no")


def test_a_failure_of_unknown_bytes() -> None:
    (row,) = rows((failure(file=None), True))
    assert (row["page"], row["sha256"], row["byte_size"]) == ("", "", "")


def test_hashes_time_and_words() -> None:
    file = identity().model_copy(update={"md5": "d" * 32, "modified": "2026-01-01T00:00:00+00:00"})
    words = ["=A region is marked.", "Look."]
    one, two = rows((image(file=file, plain_words=words, perceptual_hash="0" * 16), True), (failure(file=file), True))
    for row in (one, two):
        assert (row["md5"], row["sha1"], row["modified"]) == ("d" * 32, "", "2026-01-01T00:00:00+00:00")
    assert (one["plain_words"], one["perceptual_hash"]) == ("'=A region is marked. Look.", "0" * 16)
    assert (two["plain_words"], two["perceptual_hash"]) == ("", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_formulas_are_disarmed(start: str) -> None:
    hostile = start + 'HYPERLINK("http://evil","x")'
    (row,) = rows((image(hostile, exif=ExifBrief(software=hostile)), True))
    assert row["locator"] == row["software"] == "'" + hostile


@pytest.mark.parametrize("harmless", ["a=b", 'a,"b"\n;c', "写真 é", "'"])
def test_other_strings_are_as_they_were(harmless: str) -> None:
    (row,) = rows((image(harmless), True))
    assert row["locator"] == harmless


def test_every_column_has_a_meaning() -> None:
    assert all(meaning.endswith(".") for meaning in COLUMNS.values())
