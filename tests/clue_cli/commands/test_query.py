"""`clue query` and `--query`: SQL over the records of a scan or an export, which can do nothing but read them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode, NothingToScanError, UsageError
from clue_cli.evidence.sandbox.process import ChildDied
from clue_cli.results.query import _received
from clue_cli.results.query import answer as run_query
from clue_cli.results.query_worker import Query, opened
from tests.clue_cli.results.made import failure, first_schema, image, run
from tests.clue_cli.results.test_tables import full

pyarrow = pytest.importorskip("pyarrow", reason="the extra tables brings it")
pytest.importorskip("duckdb", reason="the extra tables brings it")


def write_results(folder: Path, *records: object) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(f"{record.model_dump_json()}\n" for record in records))  # type: ignore[attr-defined]
    (folder / "run.json").write_text(run(status="finished").model_dump_json())
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A results folder, and both kinds of its export."""
    folder = tmp_path_factory.mktemp("made [x]*")
    records = [
        full("=a.jpg"),
        full("b\0\u202e.jpg"),
        full("tiff", page=0, page_count=2),
        full("tiff", page=1, page_count=2),
    ]
    made = {"folder": write_results(folder / "results", *records, failure("d.jpg"))}
    for name, words in (("file", ()), ("partitions", ("--partition",))):
        made[name] = folder / name
        words = ("export", str(made["folder"]), "--format", "parquet", "--out", str(made[name]), *words)
        assert clue(words) == ExitCode.OK
    return made


@pytest.fixture
def results(made: dict[str, Path]) -> Path:
    return made["file"]


def answer(capfd: pytest.CaptureFixture[str], results: Path, sql: str, form: str = "json") -> str:
    capfd.readouterr()
    assert clue(["query", str(results), sql, "--format", form]) == ExitCode.OK, capfd.readouterr().err
    return capfd.readouterr().out


@pytest.mark.parametrize("source", ["folder", "file", "partitions"])
def test_the_views(source: str, made: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    def rows(sql: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(answer(capfd, made[source], sql))
        return found

    before = {path: path.read_bytes() for path in made["folder"].iterdir()}
    assert rows("select count(*) as n, sum(score) as s, any_value(day) as day from images") == [
        {"n": 4, "s": 3.0, "day": "2026-01-31"}
    ]
    assert rows("select locator, code, file.byte_size from failures") == [
        {"locator": "d.jpg", "code": "corrupt_image", "byte_size": 100}
    ]
    assert rows("select number, box.width, matching_place.turned as turned from regions where locator = '=a.jpg'") == [
        {"number": 1, "width": 3, "turned": -90.0},
        {"number": 2, "width": 3, "turned": None},
    ]
    assert rows("select data->>'text' as text, verdict from findings where locator = 'tiff' and page = 1") == [
        {"text": 'a"\0é', "verdict": "forged"}
    ]
    assert rows("select verdicts.synthetic.parts['vae'] as p, model.seed from images limit 1") == [
        {"p": 0.25, "seed": 2**64 - 1}
    ]
    assert rows("select 1 from images where false") == []
    assert {path: path.read_bytes() for path in made["folder"].iterdir()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "copy images to 'OUT'",
        "copy (select 1) to 'OUT'",
        "attach 'OUT'",
        "export database 'OUT'",
        "install httpfs",
        "load httpfs",
        "pragma database_list",
        "call pragma_version()",
        "set threads = 1",
        "set enable_external_access = true",
        "create table x as select 1",
        "create view x as select 1",
        "insert into records values (1)",
        "delete from records",
        "drop view images",
        "checkpoint",
        "explain analyze select 1",
        "select 1; copy images to 'OUT'",
        "",
        "/* nothing */",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('SECRET')",
        "select * from read_json('SECRET')",
        "select * from read_parquet('SECRET')",
        "select * from sniff_csv('SECRET')",
        "select * from glob('/etc/*')",
        "select * from 'SECRET'",
        "from '/etc/passwd'",
        "select * from query('copy images to ''OUT''')",
        "select getenv('HOME')",
        "select * from sql",
        "select * from connection",
    ],
)
def test_nothing_but_the_records_is_read(
    sql: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    monkeypatch.chdir(tmp_path)
    sql = sql.replace("OUT", str(tmp_path / "out")).replace("SECRET", str(tmp_path / "secret.csv"))
    with pytest.raises(UsageError) as refused:
        list(Query(sql, folder=str(tmp_path), memory=1 << 28, disk=1 << 20, threads=1).run(opened(results, tmp_path)))
    assert "hunter2" not in str(refused.value) and "{" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize("source", ["file", "folder"])
def test_a_file_with_the_name_of_the_database_is_not_read(
    source: str, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ":memory:").write_text("hunter2")
    monkeypatch.chdir(tmp_path)
    sql = "select content from read_text(['OUT/:memory:', ':memory:'])".replace("OUT", str(tmp_path))
    with pytest.raises(UsageError, match="may read the records alone"), run_query(made[source], sql) as found:
        list(found.rows)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select * frm images", 'SQL: syntax error at or near "images" (line 1, column 14).'),
        ("select 'é',\n wrong from images", "(line 2, column 2)."),
        ("select * from pictures", "Tables: images, failures, regions, findings."),
        ("select locator::int from images", "Could not convert string '=a.jpg' to INT32"),
        ("update images set score = 1", "The query is no SELECT (UPDATE)"),
        ("select 1; select 2", "The query has 2 statements in the place of one."),
        ("select * from read_csv('/etc/passwd')", "The query may read the records alone"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    sql: str, words: str, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert clue(["query", str(results), sql]) == ExitCode.BAD_USAGE
    assert words in capfd.readouterr().err


def test_a_wrong_query_is_refused_before_the_records_are_read(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clue_cli.results.query.ResultsReader", None)
    assert clue(["query", str(made["folder"]), "select wrong from images"]) == ExitCode.BAD_USAGE


def test_a_table_is_printable_and_says_what_it_leaves_out(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = answer(
        capfd, results, "select locator, 'x\x1b[31m' as \"a\x1b[1m\" from images order by page, locator", "table"
    )
    assert "b\\x00\\u202e.jpg" in shown and "a\\x1b[1m" in shown
    assert not any(sign in shown for sign in "\0\x1b\u202e")
    assert clue(["query", str(results), "select range as n, repeat('y', 5000) from range(1001)"]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert "The first 1,000 rows" in err
    assert f" {'y' * 200}… " in out and " 999 " in out and " 1000 " not in out


def test_csv_cells_are_harmless_in_a_spreadsheet(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sql = (
        'select locator, -1 as n, -0.5 as d, null as e, true as t, box, day as "=1+1" '
        "from regions join images using (locator) where number = 1 and locator = '=a.jpg'"
    )
    header, row = csv.reader(io.StringIO(answer(capfd, results, sql, "csv"), newline=""))
    assert header == ["locator", "n", "d", "e", "t", "box", "'=1+1"]
    assert row == ["'=a.jpg", "-1", "-0.5", "", "true", '{"x": 1, "y": 2, "width": 3, "height": 4}', "2026-01-31"]


VALUES = (
    "select 'inf'::float as a, 12345678901234567890.10::decimal(38,2) as b, interval 1 day as c, '\\xFF'::blob as d, "
    "['nan'::float] as e, 2::hugeint ** 100 as f, map {date '2026-01-31': 0.10::decimal(3,2)} as g, "
    "timestamptz '2026-01-31 12:00:00+00' as h, '' as i, null as j, (2::hugeint << 99)::hugeint as k"
)


def test_values_in_json_and_csv(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = answer(capfd, results, VALUES)
    (row,) = json.loads(text)
    assert (row["a"], row["d"], row["e"], row["i"], row["j"], row["k"]) == (None, "ff", [None], "", None, 2**100)
    assert row["h"].startswith("2026-01-31T") and row["h"][-6] in "+-"
    assert '"b": 12345678901234567890.10,' in text and '"g": {"2026-01-31": 0.10}' in text
    _, cells = csv.reader(io.StringIO(answer(capfd, results, VALUES, "csv"), newline=""))
    assert (cells[0], cells[1], cells[4], cells[6]) == (
        "inf", "12345678901234567890.10", "[null]", '{"2026-01-31": 0.10}',
    )  # fmt: skip
    assert clue(["query", str(results), "select 1 as a, 2 as a", "--format", "json"]) == ExitCode.BAD_USAGE


def test_a_terminal_gets_nothing_that_it_obeys(
    results: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "select chr(155) || '31m' || chr(8238) || chr(127) || 'ä日' as \"a\x9b\""
    text = answer(capfd, results, sql)
    assert json.loads(text) == [{"a\x9b": "\x9b31m\u202e\x7fä日"}] and "ä日" in text
    assert text.replace("\n", "").isprintable()
    assert "\x9b31m\u202e" in answer(capfd, results, sql, "csv")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert answer(capfd, results, sql, "csv") == "a\\x9b\r\n\\x9b31m\\u202e\\x7fä日\r\n"


def test_a_row_that_is_too_wide_for_the_terminal_is_a_table(
    results: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    lines = answer(capfd, results, "select * from images where locator = '=a.jpg'", "table").splitlines()
    assert any(line.split() == ["│", "locator", "│", "=a.jpg", "│"] for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_page_and_an_export_of_a_query(made: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    def exported(sql: str, *more: str) -> list[tuple[str, int | None]]:
        capfd.readouterr()
        assert clue(["export", str(made["folder"]), "--format", "jsonl", "--query", sql, *more]) == ExitCode.OK
        out, err = capfd.readouterr()
        said.append(err)
        return [(row["locator"], row["page"]) for row in map(json.loads, out.splitlines())]

    said: list[str] = []

    tiff = "select distinct locator from regions where locator = 'tiff'"
    assert exported(tiff) == [("tiff", 0), ("tiff", 1)]
    assert exported("select Page, LOCATOR, score from images where page = 1") == [("tiff", 1)]
    assert exported("select upper(locator) as locator from images order by 1 desc limit 1") == []
    assert "1 locator of --query without a record:\n  TIFF\n" in said[-1]
    assert exported("select locator, page from failures") == [("d.jpg", None)]
    assert exported(tiff, "--where", "page=1") == [("tiff", 1)]
    assert exported("select locator from failures", "--only", "forged") == []
    assert clue(["report", str(made["folder"]), "--query", tiff, "--name", "tiff"]) == ExitCode.OK
    page = (made["folder"] / "tiff.html").read_text()
    assert "A selection." in page and "query select distinct locator" in page and "=a.jpg" not in page
    (made["folder"] / "tiff.html").unlink()
    for wrong in ("select score from images", "select 1 as locator", "select locator, 'x' as page from images",
                  "select locator, true as page from images",
                  "select locator, locator as locator from images", "copy images to 'x'"):  # fmt: skip
        assert clue(["report", str(made["folder"]), "--query", wrong]) == ExitCode.BAD_USAGE
    assert not (made["folder"] / "selection.html").exists()


def test_what_is_no_export_of_clue(made: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pyarrow import parquet

    table = parquet.read_table(made["file"])
    version = {**table.schema.metadata, b"clue.schema_version": b"99.0"}
    place = table.schema.get_field_index("score")
    (tmp_path / "mixed").mkdir()
    for name, written in {
        "newer": table.replace_schema_metadata(version),
        "other": pyarrow.table({"locator": ["a"]}),
        "mixed/a.parquet": table,
        "mixed/b.parquet": pyarrow.table({"locator": ["a"]}),
        "fewer": table.drop_columns("score"),
        "more": table.append_column("mine", table["locator"]),
        "text": table.set_column(place, "score", table["locator"]),
    }.items():
        parquet.write_table(written, tmp_path / name)
    (tmp_path / "cut").write_bytes(made["file"].read_bytes()[:-100])
    part = next(made["partitions"].glob("verdict=forged/*/*.parquet"))
    (tmp_path / "part").write_bytes(part.read_bytes())
    for name, words in {
        "newer": "is an export of a newer version of clue.",
        "other": "is not a Parquet export of clue: other has no clue.schema_version in its metadata.",
        "mixed": "b.parquet has no clue.schema_version in its metadata.",
        "fewer": "fewer has no column score.",
        "more": "more has a column mine, which no export has.",
        "text": "text has a column score of the type string, which is double.",
        "part": "part is a part of a divided export and not in its folder verdict=…/day=….",
        "cut": "is not a Parquet export of clue: ",
        "missing": "There are no results of clue scan in ",
    }.items():
        assert clue(["query", str(tmp_path / name), "select 1"]) == ExitCode.NOTHING_TO_SCAN
        assert words in capfd.readouterr().err


def test_a_damaged_export_is_named_as_such(results: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    column = parquet.ParquetFile(results).metadata.row_group(0).column(2)
    assert column.path_in_schema == "locator"
    content = bytearray(results.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    (tmp_path / "damaged").write_bytes(content)
    with (
        pytest.raises(NothingToScanError, match="The records cannot be read: "),
        run_query(tmp_path / "damaged", "select locator from images") as found,
    ):
        list(found.rows)


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes")
def test_names_that_are_not_utf_8(made: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / os.fsdecode(b"verdict=\xe9")
    out = odd / "out"
    words = ["export", str(made["folder"]), "--format", "parquet", "--partition", "--out", str(out)]
    assert clue(words) == ExitCode.OK
    file = odd / os.fsdecode(b"\xff.parquet")
    file.write_bytes(made["file"].read_bytes())
    part = next(out.glob("verdict=forged/*/*.parquet"))
    for path in (out, part.parent.parent, part, file):
        sql = "select distinct verdict, day from images"
        assert json.loads(answer(capfd, path, sql)) == [{"verdict": "forged", "day": "2026-01-31"}]
    assert clue(["query", str(file), "select '\udcff'"]) == ExitCode.BAD_USAGE


def test_records_of_earlier_schemas(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_results(tmp_path / "results")
    lines = [first_schema(image("1")), first_schema(failure("2"))]
    lines += [image(version, schema_version=version).model_dump(mode="json") for version in ("2.0", "2.1")]
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"kind":"image","torn')
    sql = "select locator, score from images union all select locator, null from failures order by all"
    assert [list(row.values()) for row in json.loads(answer(capfd, folder, sql))] == [
        ["1", 0.75], ["2", None], ["2.0", 0.75], ["2.1", 0.75],
    ]  # fmt: skip


def test_what_an_export_refuses(made: dict[str, Path], tmp_path: Path) -> None:
    words = ["export", str(made["folder"]), "--format"]
    (tmp_path / "mine").mkdir()
    for more in (
        ["parquet"],
        ["csv", "--partition", "--out", str(tmp_path / "x")],
        ["parquet", "--partition", "--out", str(tmp_path / "mine")],
        ["parquet", "--partition"],
    ):
        assert clue([*words, *more]) == ExitCode.BAD_USAGE
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


@pytest.mark.parametrize("more", [[], ["--partition"]])
def test_a_killed_export_leaves_nothing_under_its_name(more: list[str], made: dict[str, Path], tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom clue_cli.results.export import parquet\nfrom clue_cli.app import run\n"
        "parquet._File.flush = lambda self: os.kill(os.getpid(), signal.SIGKILL)\nrun(sys.argv[1:])"
    )
    out = tmp_path / "out"
    words = ["export", str(made["folder"]), "--format", "parquet", "--out", str(out), *more]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert all(path.name.endswith(".part") for path in tmp_path.iterdir())
    assert clue(words) == ExitCode.OK
    assert out.exists()


def test_an_export_that_fails_leaves_the_former_one(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("former")
    results = write_results(tmp_path / "results", full(region_count=2**80))
    words = ["export", str(results), "--format", "parquet", "--out", str(tmp_path / "out")]
    assert clue(words) == ExitCode.NOTHING_TO_SCAN
    assert (tmp_path / "out").read_text() == "former"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "results"}


def test_damaged_lines_and_an_empty_export(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = write_results(tmp_path / "results")
    surrogate = full().model_dump_json().replace("case/a.jpg", "\\ud800")
    (results / "records.jsonl").write_text(f'{surrogate}\n{{"kind":"image"}}\n')
    assert json.loads(answer(capfd, results, "select locator from images")) == []
    assert clue(["query", str(results), "select 1"]) == ExitCode.OK
    assert "2 damaged lines of records.jsonl left out" in capfd.readouterr().err
    for name, more in (("file", []), ("folder", ["--partition"])):
        words = ["export", str(results), "--format", "parquet", "--out", str(tmp_path / name), *more]
        assert clue(words) == ExitCode.SOME_FAILED
        assert json.loads(answer(capfd, tmp_path / name, "select count(*) as n from images")) == [{"n": 0}]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_query_ends_with_its_command(sent: signal.Signals, results: Path, tmp_path: Path) -> None:
    sql = "select count(*) from range(1000000000000) t(i) where hash(i) = 1"
    # A shell ignores Ctrl-C for what runs in the background, and so does what that starts.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program = heard + "from clue_cli.app import run; exit(run())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "query", str(results), sql],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    wait_until(lambda: any(tmp_path.iterdir()))
    time.sleep(3)  # by then it is answering; earlier, it is ended as well
    process.send_signal(sent)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED if sent == signal.SIGINT else -sent, b"", b"")
    wait_until(lambda: not any(tmp_path.iterdir()))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_query_that_needs_too_much_memory_is_stopped(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.query.memory", lambda: 1 << 20)
    sql = "select list(i) from range(1000000000) t(i)"
    with pytest.raises(UsageError, match="needs more memory") as refused, run_query(results, sql) as found:
        list(found.rows)
    assert "SET" not in refused.value.message


class Impostor:
    """A process that was taken over: sends what it likes."""

    def __init__(self, header: dict[str, Any], data: bytes = b"") -> None:
        self._header, self._data = header, data

    def receive(self) -> dict[str, Any]:
        return self._header

    def receive_into(self, view: memoryview) -> None:
        view[:] = self._data


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({}, b""),
        ({"size": -1}, b""),
        ({"size": 1 << 40}, b""),
        ({"size": 2}, b"{}"),
        ({"size": 3}, b"[1]"),
        ({"size": 3}, b"[[\xff"),
        ({"size": 200_000}, b"[" * 200_000),
        ({"error": "SystemExit", "message": "", "advice": ""}, b""),
    ],
)
def test_the_process_of_a_query_is_not_trusted(header: dict[str, Any], data: bytes) -> None:
    with pytest.raises(ChildDied):
        _received(Impostor(header, data))  # type: ignore[arg-type]


def test_a_process_that_dies_is_named(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.query.WORKER", "clue_cli.evidence.sandbox.framing")
    with pytest.raises(UsageError, match="The process that answers the query could not be started"):
        run_query(results, "select 1").__enter__()


def test_an_extra_that_is_missing_is_named(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = str(made["folder"])
    for words in (
        ["query", folder, "select 1"],
        ["report", folder, "--query", "select 1"],
        ["export", folder, "--format", "parquet", "--out", str(tmp_path / "x")],
    ):
        assert clue(words) == ExitCode.BAD_USAGE
        assert "pip install 'clue-forensics[tables]'" in capfd.readouterr().err
