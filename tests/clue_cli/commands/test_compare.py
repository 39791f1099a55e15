"""`clue compare`: which pictures of a results folder are in others, and nothing in any of them is changed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.records import Finding, ImageRecord, Origin, Verdict
from clue_cli.results.groups import NOT_A_PHOTOGRAPH
from tests.clue_cli.results.made import failure, identity, image, open_store, put, run

HASH = "f0f0f0f0f0f0f0f0"


def record(locator: str, content: str, perceptual_hash: str | None = HASH, **changes: Any) -> ImageRecord:
    fields = {"file": identity(content * 64), "perceptual_hash": perceptual_hash, "verdict": Verdict.NO_EVIDENCE}
    return image(locator, **{**fields, **changes})


def results(folder: Path, *records: ImageRecord, model: str | None = None, status: str = "finished") -> str:
    with open_store(folder, **({} if model is None else {"model": model})) as store:
        for each in records:
            put(store, each)
        store.write_failure(failure("case/broken.jpg"))
        store.finish(run(status=status))
    return str(folder)


def compared(out: Path, *arguments: str) -> list[dict[str, str]]:
    assert clue(["compare", *arguments, "--out", str(out)]) == ExitCode.OK
    with out.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_picture_of_a_is_found_by_its_bytes_or_its_look(tmp_path: Path) -> None:
    a = results(
        tmp_path / "a",
        record("a/copy.jpg", "1", "0000000000000001"),
        record("a/saved_again.jpg", "2"),
        record("a/same_hash.jpg", "3", "00000000ffffffff"),
        record("a/five_bits.jpg", "4", "ffffffff00000000"),
        record("a/no_hash.jpg", "5", None),
        record("a/flat.jpg", "6", None),
    )
    b = results(
        tmp_path / "b",
        record("b/1.jpg", "1", "0000000000000001"),
        record("b/2.zip!/far.jpg", "9", "f0f0f0f0f0f0f0ff"),
        record("b/2.zip!/near.jpg", "a", "f0f0f0f0f0f0f0f3"),
        record("b/3.jpg", "b", "00000000ffffffff"),
        record("b/4.jpg", "c", "ffffffff0000001f"),
        record("b/5.jpg", "5"),
        record("b/6.jpg", "1", "0000000000000001"),
        record("b/7.jpg", "d", None),
    )
    before = files(tmp_path / "a") | files(tmp_path / "b")
    rows = compared(tmp_path / "found.csv", a, b)
    assert [(row["locator_a"], row["kind"], row["distance"], row["locator_b"], row["in_b"]) for row in rows] == [
        ("a/copy.jpg", "exact", "0", "b/1.jpg", "2"),
        ("a/no_hash.jpg", "exact", "0", "b/5.jpg", "1"),
        ("a/same_hash.jpg", "near", "0", "b/3.jpg", "1"),
        ("a/saved_again.jpg", "near", "0", "b/5.jpg", "1"),
    ]
    assert {row["results_b"] for row in rows} == {b}
    assert rows[0]["sha256_a"] == rows[0]["sha256_b"] == "1" * 64
    assert files(tmp_path / "a") | files(tmp_path / "b") == before


def test_the_nearest_is_named_up_to_four_bits_and_none_beyond(tmp_path: Path) -> None:
    b = results(tmp_path / "b", record("b/0.jpg", "9", "f0f0f0f0f0f0f00f"), record("b/2.jpg", "a", "f0f0f0f0f0f0f0f3"))
    changed = {"0.jpg": HASH, "1.jpg": "f0f0f0f0f0f0f0ff", "2.jpg": "f0f0f0f0f0f0ffff", "3.jpg": "0f0f0f0f0f0f0f0f"}
    a = results(tmp_path / "a", *(record(name, str(at), value) for at, (name, value) in enumerate(changed.items())))
    found = {row["locator_a"]: (row["locator_b"], row["distance"]) for row in compared(tmp_path / "x.csv", a, b)}
    assert found == {"0.jpg": ("b/2.jpg", "2"), "1.jpg": ("b/2.jpg", "2")}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"file": identity("2" * 64)}, "other bytes"),
        ({"width": 12, "file": identity("2" * 64)}, "another size"),
        ({"score_threshold": 0.7}, "another calibration or other thresholds"),
    ],
)
def test_differing_verdicts_are_explained_by_what_is_not_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], why: str
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    results(a, record("a.jpg", "1"), record("b.jpg", "3", None))
    results(b, record("x.jpg", "1", **({"verdict": Verdict.FORGED} | changes)), record("y.jpg", "3", None))
    rows = compared(tmp_path / "found.csv", str(a), str(b))
    assert [row["verdicts_differ"] for row in rows] == ["yes", "no"]
    assert why in rows[0]["why"] and bool(why) == bool(rows[0]["why"])
    shown = capfd.readouterr().out
    assert "2 of 2 pictures found among 2" in shown and "verdicts differ in 1" in shown and "VERDICTS DIFFER" in shown
    assert shown.index("x.jpg") < shown.index("y.jpg")


def test_another_model_is_named(tmp_path: Path) -> None:
    one = record("a.jpg", "1")
    other = record("a.jpg", "1", verdict=Verdict.FORGED, model=one.model.model_copy(update={"digest": "d" * 64}))
    rows = compared(tmp_path / "x.csv", results(tmp_path / "a", one), results(tmp_path / "b", other, model="d" * 64))
    assert rows[0]["why"].startswith("another model")


@pytest.mark.parametrize(
    ("wanted", "verdict", "code"),
    [
        ("found", Verdict.NO_EVIDENCE, ExitCode.FORGED_FOUND),
        ("differ", Verdict.NO_EVIDENCE, ExitCode.OK),
        ("differ", Verdict.FORGED, ExitCode.FORGED_FOUND),
    ],
)
def test_fail_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], wanted: str, verdict: Verdict, code: ExitCode
) -> None:
    a, b = results(tmp_path / "a", record("a.jpg", "1")), results(tmp_path / "b", record("b.jpg", "1", verdict=verdict))
    assert clue(["compare", a, b, "--fail-on", wanted, "--quiet"]) == code
    assert capfd.readouterr().out == ""


def test_several_folders_hostile_names_and_formulas(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = results(tmp_path / "a", record("=cmd\x1b[2J.jpg", "1"))
    b, c = results(tmp_path / "b", record("+b\n.jpg", "1")), results(tmp_path / "c", record("c.jpg", "2"))
    rows = compared(tmp_path / "found.csv", a, b, c)
    assert [(row["locator_a"], row["locator_b"], row["kind"]) for row in rows] == [
        ("'=cmd\x1b[2J.jpg", "'+b\n.jpg", "exact"),
        ("'=cmd\x1b[2J.jpg", "c.jpg", "near"),
    ]
    shown = capfd.readouterr()
    assert "\x1b" not in shown.out + shown.err and r"\x1b[2J" in shown.out


def test_unfinished_results_and_records_without_a_hash_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a = results(tmp_path / "a", record("a.jpg", "1", None), status="interrupted")
    b = results(tmp_path / "b", record("b.jpg", "1"))
    assert clue(["compare", a, b]) == ExitCode.OK
    told = capfd.readouterr()
    assert "did not finish" in told.err and "1 picture of" in told.err and "1 of 1 picture found" in told.out


def test_damaged_records_are_not_passed_over_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is not found may be in a line that cannot be read."""
    a, b = results(tmp_path / "a", record("a.jpg", "1")), results(tmp_path / "b", record("b.jpg", "1"))
    with (tmp_path / "b/records.jsonl").open("r+b") as log:
        log.write(b"x")
    for first, second in ((a, b), (b, a)):
        assert clue(["compare", first, second, "--fail-on", "found"]) == ExitCode.SOME_FAILED
        assert "1 damaged line of records.jsonl left out" in capfd.readouterr().err


def test_screens_drawings_and_pages_are_compared_by_their_bytes_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = [Finding(kind=NOT_A_PHOTOGRAPH, source=Origin.PIXELS, statement="A page.")]
    a = results(tmp_path / "a", record("1.png", "1", findings=page), record("2.png", "2", findings=page))
    b = results(tmp_path / "b", record("1.png", "1", findings=page), record("3.jpg", "3"))
    c = results(tmp_path / "c", record("4.jpg", "4"))
    assert [row["kind"] for row in compared(tmp_path / "x.csv", a, b, c)] == ["exact"]
    told = capfd.readouterr().err
    assert told.count("2 pictures of") == 1 and told.count("1 picture of") == 1 and "by bytes alone: screens" in told


def test_what_cannot_be_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = results(tmp_path / "a", record("a.jpg", "1")), results(tmp_path / "b", record("b.jpg", "1"))
    (tmp_path / "empty").mkdir()
    for code, *arguments in (
        (ExitCode.BAD_USAGE, a, a),
        (ExitCode.BAD_USAGE, a),
        (ExitCode.BAD_USAGE, a, b, "--out", str(tmp_path / "b" / "x.csv")),
        (ExitCode.NOTHING_TO_SCAN, a, str(tmp_path / "empty")),
        (ExitCode.NOTHING_TO_SCAN, str(tmp_path / "missing"), b),
        (ExitCode.OUTPUT_NOT_WRITABLE, a, b, "--out", str(tmp_path / "no" / "x.csv")),
    ):
        assert clue(["compare", *map(str, arguments)]) == code, arguments
    assert not (tmp_path / "b" / "x.csv").exists() and not list(tmp_path.glob("*.csv"))
    assert "records.jsonl" not in capfd.readouterr().out
