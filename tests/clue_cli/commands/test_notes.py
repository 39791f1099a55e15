"""`clue notes`: what people noted becomes a part of the results; nothing of it is lost, and no record changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.merge import merge
from clue_cli.records import FailureRecord, ImageRecord, Verdict
from clue_cli.results.notes import NOTES, notes_in
from clue_cli.results.reader import TORN, ResultsReader
from clue_cli.results.scan_store import LOCK
from model.reporter import SILENT
from tests.clue_cli.results.made import OTHER_SHA, SHA, failure, identity, image, open_store, put, run

MARKUP = '</script><img src=x onerror="alert(1)"> \u202egpj.exe \x1b[31m\n=1+1'


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return made_results(tmp_path / "results")


def made_results(folder: Path, *records: ImageRecord | FailureRecord) -> Path:
    model = {"name": "mini", "digest": "c" * 64, "dtype": "float32"}
    with open_store(folder) as store:
        for record in records or (image("case/a.jpg", verdict=Verdict.FORGED), image("case/b.jpg")):
            put(store, record) if isinstance(record, ImageRecord) else store.write_failure(record)
        store.finish(run(status="finished", model=model))
    return folder


def run_id(results: Path) -> str:
    with ResultsReader(results) as reader:
        assert reader.run is not None
        return reader.run.run_id


def note(**changes: Any) -> dict[str, Any]:
    fields = {"locator": "case/a.jpg", "page": 0, "sha256": SHA, "mark": "checked", "note": "Seen.", "who": "Ada"}
    return {**fields, "when": "2026-02-01T10:00:00Z", **changes}


def saved(path: Path, run: str, *notes: object, **changes: Any) -> Path:
    path.write_text(json.dumps({"format": "clue-notes/1", "run_id": run, "notes": notes, **changes}))
    return path


def merged(results: Path, *files: Path) -> int:
    return clue(["notes", str(results), *map(str, files)])


def lines(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / NOTES).read_bytes().splitlines()]


def test_notes_are_merged_once_and_nothing_else_changes(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    wanted = [note(note=MARKUP), note(who="Ben", mark="to_be_checked"), note(locator="case/b.jpg", mark=None)]
    file = saved(tmp_path / "notes.json", run_id(results), *wanted)
    assert merged(results, file) == ExitCode.OK
    assert "3 notes merged, 0 known already" in capfd.readouterr().err
    assert [{name: one[name] for name in note()} for one in lines(results)] == wanted
    assert all(datetime.fromisoformat(one["merged"]).tzinfo for one in lines(results))
    content = (results / NOTES).read_bytes()
    assert merged(results, file, file) == ExitCode.OK
    assert "0 notes merged, 6 known already" in capfd.readouterr().err
    assert (results / NOTES).read_bytes() == content
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in results.rglob("*") if path.is_file()} - set(before) == {results / NOTES} | (
        {results / LOCK} - set(before)
    )


def test_the_latest_note_of_each_person_counts(results: Path, tmp_path: Path) -> None:
    written = [
        note(note="second", when="2026-02-01T10:00:00+01:00", mark="not_relevant"),
        note(note="third", when="2026-02-01T09:30:00Z"),
        note(note="first", when="2026-02-01T08:59:59.5Z", mark="to_be_checked"),
        note(who="Ben", mark="to_be_checked"),
        note(sha256=OTHER_SHA, note="of other bytes", when="2026-02-02T10:00:00Z"),
    ]
    merged(results, saved(tmp_path / "n.json", run_id(results), *written))
    log = notes_in(results)
    assert log is not None
    with log:
        assert [(one.who, one.note) for one in log.of(image("case/a.jpg"))] == [("Ada", "third"), ("Ben", "Seen.")]
        assert log.of(image("case/a.jpg", page=1, page_count=2)) == []
        assert log.disagreements() == 1
        assert len(list(log.entries())) == 5


def test_a_list_of_what_is_noted(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert clue(["notes", str(results)]) == ExitCode.OK
    assert "Nothing is noted" in capfd.readouterr().err
    notes = [note(note=MARKUP), note(who="Ben\x1b", mark="to_be_checked"), note(locator="gone.jpg"), note(who="Eve")]
    notes += [note(who="Eve", when="2026-02-03T00:00:00Z", mark=None, note="")]
    assert merged(results, saved(tmp_path / "n.json", run_id(results), *notes)) == ExitCode.SOME_FAILED
    capfd.readouterr()
    assert clue(["notes", str(results)]) == ExitCode.OK
    shown = capfd.readouterr().out
    assert shown.splitlines()[:3] == ["Ada: 2 checked", "Ben\\x1b: 1 to be checked", "People disagree about 1 picture."]
    assert "case/a.jpg\tchecked\tAda\t2026-02-01T10:00:00Z\t</script>" in shown
    assert "gone.jpg\tchecked\tAda\t2026-02-01T10:00:00Z\tSeen.\tno such picture here" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert "Eve" not in shown  # she took hers back


def test_a_note_about_a_picture_that_is_not_here_is_named_and_kept(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [note(locator="case/\x1bgone.jpg"), note(sha256=OTHER_SHA), note(page=1)]
    file = saved(tmp_path / "n.json", run_id(results), note(), *odd)
    assert merged(results, file) == ExitCode.SOME_FAILED
    err = capfd.readouterr().err
    assert "4 notes merged" in err and "3 notes about pictures that are not here" in err
    assert "case/\\x1bgone.jpg (page 0), Ada" in err
    assert len(lines(results)) == 4


def test_a_failure_can_be_noted(tmp_path: Path) -> None:
    results = made_results(tmp_path / "r", failure("case/broken.jpg"))
    assert merged(results, saved(tmp_path / "n.json", run_id(results), note(locator="case/broken.jpg"))) == ExitCode.OK


def test_a_time_that_has_not_come_is_pointed_out(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert merged(results, saved(tmp_path / "n.json", run_id(results), note(when=later), note())) == ExitCode.OK
    assert "Warning: 1 note with a time that has not come yet" in capfd.readouterr().err
    assert len(lines(results)) == 2


def test_notes_of_another_run_are_refused(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mine, other = saved(tmp_path / "a.json", run_id(results), note()), saved(tmp_path / "b.json", "other", note())
    assert merged(results, mine, other) == ExitCode.BAD_USAGE
    err = capfd.readouterr().err
    assert "b.json holds notes on run other, which is none of" in err and "--any-run" in err
    assert not (results / NOTES).exists()
    assert clue(["notes", str(results), str(other), "--any-run"]) == ExitCode.OK
    assert len(lines(results)) == 1
    with open_store(results) as store:  # a later run: the notes on the page of the former one are still welcome
        store.finish(run(status="finished"))
    assert merged(results, mine) == ExitCode.OK


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a file of notes"),
        (b"\xff\xfe\x00", "is not a file of notes"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", 'no "format"'),
        (b'{"format": "clue-notes/1", "format": "clue-notes/1"}', "a key occurs twice"),
        (b'{"format": "clue-notes/2"}', "this version cannot read"),
        (b'{"format": "clue-notes/1", "run_id": 1, "notes": []}', "does not name its run"),
        (b'{"format": "clue-notes/1", "run_id": "RUN", "notes": {}}', "has no list of notes"),
        (b'{"format": "clue-notes/1", "run_id": "RUN", "notes": [], "\\u001bx": 1}', "a key that is unknown: \\x1bx"),
        ({"page": "0"}, "note 2: page"),
        ({"page": True}, "note 2: page"),
        ({"page": -1}, "note 2: page"),
        ({"mark": "forged"}, "note 2: mark"),
        ({"note": None}, "note 2: note"),
        ({"note": "x" * 100_001}, "note 2: note"),
        ({"note": "\ud800"}, "note 2: note"),
        ({"who": "  "}, "note 2: who"),
        ({"when": "2026-02-01T10:00:00"}, "a time without a zone"),
        ({"when": "yesterday"}, "note 2: when"),
        ({"when": "2026-W05-7T10:00:00+00:00"}, "not a time as"),
        ({"when": "2026-02-01T10:00:00+00:00:30"}, "not a time as"),
        ({"when": "20260201T100000Z"}, "not a time as"),
        ({"when": "0001-01-01T00:00:00+23:00"}, "note 2: when"),
        ({"sha256": "A" * 64}, "note 2: sha256"),
        ({"\x1bmore": 1}, "note 2: \\x1bmore"),
    ],
)
def test_what_is_no_file_of_notes(
    content: bytes | dict[str, Any], says: str, results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "n.json"
    if isinstance(content, bytes):
        file.write_bytes(content.replace(b"RUN", run_id(results).encode()))
    else:
        saved(file, run_id(results), note(), note(**content))
    assert merged(results, file) == ExitCode.BAD_USAGE
    assert says in capfd.readouterr().err
    assert not (results / NOTES).exists()


def test_a_file_that_is_too_large_is_not_read(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "n.json").open("wb") as stream:
        stream.truncate(100 << 20)
    assert merged(results, tmp_path / "n.json") == ExitCode.BAD_USAGE
    assert "larger than 32 MiB" in capfd.readouterr().err


def test_a_busy_folder_a_missing_file_and_no_results(results: Path, tmp_path: Path) -> None:
    file = saved(tmp_path / "n.json", run_id(results), note())
    with FileLock(results / LOCK):
        assert merged(results, file) == ExitCode.OUTPUT_NOT_WRITABLE
    assert merged(results, tmp_path / "gone.json") == ExitCode.NOTHING_TO_SCAN
    assert merged(tmp_path / "empty", file) == ExitCode.NOTHING_TO_SCAN
    assert not (tmp_path / "empty").exists()
    assert clue(["notes", str(results), "--any-run"]) == ExitCode.BAD_USAGE


def test_a_torn_and_a_damaged_line(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "n.json", run_id(results), note(), note(who="Ben"))
    merged(results, file)
    whole = (results / NOTES).read_bytes()
    (results / NOTES).write_bytes(b"damaged\n" + whole[:-20])
    capfd.readouterr()
    assert merged(results, file) == ExitCode.OK
    err = capfd.readouterr().err
    assert "1 note merged, 1 known already" in err and "2 damaged lines of notes.jsonl left out" in err
    assert (results / NOTES).read_bytes().startswith(b"damaged\n" + whole[:-20] + b"\n"), "nothing is removed"
    assert not (results / TORN).exists(), "a file that the manifest does not list would look like tampering"


def test_overwriting_a_scan_keeps_notes(results: Path, tmp_path: Path) -> None:
    merged(results, saved(tmp_path / "n.json", run_id(results), note()))
    content = (results / NOTES).read_bytes()
    with open_store(results, overwrite=True) as store:
        put(store, image("case/a.jpg"))
        store.finish(run(status="finished"))
    assert (results / NOTES).read_bytes() == content


def test_a_merge_of_results_carries_notes(tmp_path: Path) -> None:
    one = made_results(tmp_path / "one", image("case/a.jpg"))
    other = made_results(tmp_path / "other", image("case/a.jpg", file=identity(OTHER_SHA)), image("case/b.jpg"))
    merged(one, saved(tmp_path / "1.json", run_id(one), note(), note(locator="gone.jpg")))
    merged(
        other, saved(tmp_path / "2.json", run_id(other), note(sha256=OTHER_SHA, who="Ben"), note(locator="case/b.jpg"))
    )
    for _ in range(2):
        merge([one, other], tmp_path / "out", SILENT, ("clue", "merge"))
        found = {(line["locator"], line["who"]) for line in lines(tmp_path / "out")}
        assert found == {("case/a.jpg", "Ada"), ("gone.jpg", "Ada"), ("case/a.jpg~2", "Ben"), ("case/b.jpg", "Ada")}
        assert len(lines(tmp_path / "out")) == 4
    assert merged(tmp_path / "out", tmp_path / "1.json") == ExitCode.SOME_FAILED  # of a run that was merged
    assert len(lines(tmp_path / "out")) == 4
