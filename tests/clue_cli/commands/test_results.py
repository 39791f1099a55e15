"""`clue report` and `clue export` on a results folder: everything or a selection, and nothing is changed."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.records import RECORD, SCHEMA_VERSION, Verdict
from clue_cli.results.export import FORMATS
from clue_cli.results.scan_store import LOCK
from tests.clue_cli.results.made import failure, image, open_store, put, run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    records = [
        image("case/=a.jpg", verdict=Verdict.FORGED, score=0.9),
        image("case/b.jpg", verdict=Verdict.INCONCLUSIVE, score=0.7),
        image("case/c.jpg", verdict=Verdict.NO_EVIDENCE, score=0.1),
    ]
    with open_store(tmp_path / "results") as store:
        for record in records:
            put(store, record)
        store.write_failure(failure("case/d.jpg"))
        store.finish(run(status="finished"))
    return tmp_path / "results"


def exported(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> list[str]:
    assert clue(["export", *arguments, "--format", "jsonl"]) == ExitCode.OK
    lines = capfdbinary.readouterr().out.decode().splitlines()
    return [RECORD.validate_json(line).locator.removeprefix("case/") for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], ["=a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        (["--only", "forged"], ["=a.jpg"]),
        (["--only", "forged, failure"], ["=a.jpg", "d.jpg"]),
        (["--where", "score>=0.7"], ["=a.jpg", "b.jpg"]),
        (["--where", "score>=0.7", "--where", "score<0.9"], ["b.jpg"]),
        (["--where", "locator~C.JPG"], ["c.jpg"]),
        (["--where", "score=0.70"], ["b.jpg"]),
        (["--where", "verdict!=forged"], ["b.jpg", "c.jpg", "d.jpg"]),
        (["--where", "failure_code = corrupt_image"], ["d.jpg"]),
        (["--only", "forged", "--where", "score<0.5"], []),
    ],
)
def test_what_is_selected(
    arguments: list[str], left: list[str], results: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = files(results)
    assert exported(capfdbinary, str(results), *arguments) == left
    assert files(results) == before


def test_a_list_of_locators(results: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes("\ufeffcase/=a.jpg\r\ncase/gone.jpg\n\ncase/d.jpg".encode())
    assert exported(capfdbinary, str(results), "--list", str(listed)) == ["=a.jpg", "d.jpg"]


def test_locators_without_a_record_are_named(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["case/b.jpg", "case/\x1bx.jpg", *(f"gone/{number:02}.jpg" for number in range(12))]
    (tmp_path / "list.txt").write_text("\n".join(names))
    for words in (["export", str(results), "--only", "forged"], ["report", str(results)]):
        assert clue([*words, "--list", str(tmp_path / "list.txt")]) == ExitCode.OK
        err = capfd.readouterr().err
        assert "Warning: 13 locators of --list without a record:\n  case/\\x1bx.jpg\n  gone/00.jpg\n" in err
        assert "  and 3 more\n" in err
        assert "case/b.jpg" not in err


def test_a_page_of_a_busy_folder(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with FileLock(results / LOCK):
        assert clue(["report", str(results)]) == ExitCode.OUTPUT_NOT_WRITABLE
    err = capfd.readouterr().err
    assert "A scan is writing to" in err
    assert "wait for the scan" in err
    assert "--out" not in err


def test_every_format_writes_something(results: Path, tmp_path: Path) -> None:
    for name in FORMATS:
        assert clue(["export", str(results), "--format", name, "--out", str(tmp_path / name)]) == ExitCode.OK
        assert (tmp_path / name).stat().st_size > 0


def test_csv_has_the_columns_of_the_summary_and_no_formulas(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert clue(["export", str(results), "--format", "csv", "--out", str(out)]) == ExitCode.OK
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"), newline="")))
    summary = list(csv.DictReader(io.StringIO((results / "summary.csv").read_text("utf-8"), newline="")))
    assert [row | {"met_in_this_run": ""} for row in summary] == rows


def test_the_page_is_written_again_as_the_scan_wrote_it(results: Path) -> None:
    before = files(results)
    assert clue(["report", str(results)]) == ExitCode.OK
    first = (results / "index.html").read_bytes()
    assert "A selection." not in first.decode()
    assert clue(["report", str(results)]) == ExitCode.OK
    assert (results / "index.html").read_bytes() == first
    assert {name: content for name, content in files(results).items() if name in before} == before


def test_a_page_of_a_selection_says_that_it_is_one(results: Path) -> None:
    assert clue(["report", str(results), "--only", "forged"]) == ExitCode.OK
    page = (results / "selection.html").read_text()
    assert "A selection." in page
    assert "only forged" in page
    assert "Counts differ." not in page
    assert "None among the selected records" in page and "was read and judged" not in page
    assert "case/=a.jpg" in page and "case/b.jpg" not in page
    assert not (results / "index.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["report", "RESULTS", "--only", "authentic"], ExitCode.BAD_USAGE),
        (["report", "RESULTS", "--only", "forged", "--name", "index"], ExitCode.BAD_USAGE),
        (["report", "RESULTS", "--name", "../up"], ExitCode.BAD_USAGE),
        (["report", "RESULTS", "--only", "forged", "--name", "Index"], ExitCode.BAD_USAGE),
        (["report", "RESULTS", "--only", "forged", "--name", "index-0002"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "score==0.8"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "date_time_original>=2020"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "nothing"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "colour=red"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "score>high"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--where", "score>nan"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--out", "RESULTS/records.jsonl"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--format", "docx"], ExitCode.BAD_USAGE),
        (["export", "RESULTS", "--list", "RESULTS"], ExitCode.BAD_USAGE),
        (["export", "RESULTS/masks"], ExitCode.NOTHING_TO_SCAN),
        (["report", "RESULTS/nowhere"], ExitCode.NOTHING_TO_SCAN),
    ],
)
def test_what_is_refused(arguments: list[str], code: ExitCode, results: Path) -> None:
    before = files(results)
    assert clue([argument.replace("RESULTS", str(results)) for argument in arguments]) == code
    assert files(results) == before


def test_a_folder_without_its_run_has_no_page_and_is_exported(
    results: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (results / "run.json").unlink()
    assert clue(["report", str(results)]) == ExitCode.NOTHING_TO_SCAN
    assert len(exported(capfdbinary, str(results))) == 4


def test_a_reader_that_goes_away_is_no_error(results: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m clue_cli export {results} --format jsonl | head -c 1",
        shell=True,
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_record_that_names_a_file_elsewhere_is_not_shown(tmp_path: Path) -> None:
    outputs = image().outputs.model_copy(update={"mask": "../../etc/passwd"})
    line = image("a", outputs=outputs).model_dump_json()
    (tmp_path / "records.jsonl").write_text(line + "\n")
    (tmp_path / "run.json").write_text(run(status="finished").model_dump_json())
    assert clue(["report", str(tmp_path)]) == ExitCode.NOTHING_TO_SCAN
    assert not (tmp_path / "index.html").exists()


def test_a_damaged_record_is_missing_from_an_export(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = results / "records.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"case/b.jpg"', b'"case/b.jpg', 1))
    for form in ("csv", "jsonl", "case"):
        out = tmp_path / f"records.{form}"
        assert clue(["export", str(results), "--format", form, "--out", str(out)]) == ExitCode.SOME_FAILED
        assert "c.jpg" in out.read_text(encoding="utf-8")
        assert "1 damaged line of records.jsonl left out" in capfd.readouterr().err


def test_records_of_a_newer_version_are_said_once(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = results / "records.jsonl"
    version = f'"schema_version":"{SCHEMA_VERSION}"'.encode()
    count = log.read_bytes().count(version)
    log.write_bytes(log.read_bytes().replace(version, b'"schema_version":"9.1"'))
    other = shutil.copytree(results, tmp_path / "other")
    commands = [["export", str(results), "--out", str(tmp_path / "records.csv")], ["report", str(results)]]
    commands.append(["compare", str(results), str(other)])
    if find_spec("duckdb") and find_spec("pyarrow"):
        commands.append(["query", str(results), "select 1"])
    for command in commands:
        assert clue(command) == ExitCode.OK
        said = capfd.readouterr().err
        written = f"{count} lines of records.jsonl were written by a newer version of clue (schema 9.1; this one knows"
        assert said.count(written) == (2 if command[0] == "compare" else 1), command
        assert "damaged" not in said


def test_an_export_into_a_folder_that_is_not_there(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nowhere/records.csv"
    assert clue(["export", str(results), "--out", str(out)]) == ExitCode.OUTPUT_NOT_WRITABLE
    said = capfd.readouterr().err
    assert f"Cannot write {out}: No such file" in said and "Make the folder" in said and "continues" not in said
