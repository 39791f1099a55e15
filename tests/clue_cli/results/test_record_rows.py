"""A large log is validated by other processes: what is read is the same, whatever becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.errors import ClueError
from clue_cli.evidence.sandbox.process import Child, ChildDied
from clue_cli.records import SCHEMA_VERSION, ImageRecord
from clue_cli.results import names, record_rows
from clue_cli.results.log import DAMAGED_NAMED
from clue_cli.results.record_log import RecordLog
from clue_cli.results.record_rows import Newer
from tests.clue_cli.results.made import failure, image

LONG = 4000  # bytes; the records are shorter


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """1,000 records of two runs, among them a damaged line, one in bytes that are no text, two of newer versions, of
    which one cannot be read, and a torn one."""
    path = tmp_path / "records.jsonl"
    lines = []
    for number in range(1000):
        made = image if number % 7 else failure
        locator = f"{number % 900} ä\u2028{'x' * (number % 50)}.jpg"
        record = made(locator, run_id=str(number // 900))
        if isinstance(record, ImageRecord):
            mask = f"masks/{names.stem_text(locator, record.page, record.page_count)}.png"
            record = record.model_copy(update={"outputs": record.outputs.model_copy(update={"mask": mask})})
        lines.append(record.model_dump_json().encode())
    lines[17] = b"{}"
    lines[500] = b"\xff" + lines[500]
    lines[700] = lines[700].replace(f'"schema_version":"{SCHEMA_VERSION}"'.encode(), b'"schema_version":"8.0"')
    lines[800] = b'{"kind":"video","schema_version":"8.2"}'
    lines[801] = b'{"kind":"image","schema_version":"8.1","unheard":"of"}'
    lines[900] = b'"' + b"y" * 100_000
    path.write_bytes(b"\n".join(lines) + b"\n" + lines[3][:100])
    return path


def rows_of(log: RecordLog) -> tuple[list[tuple[object, ...]], ...]:
    tables = ("SELECT * FROM line ORDER BY locator, page", "SELECT * FROM name ORDER BY key")
    return tuple(log._index.execute(table).fetchall() for table in tables)


def opened(path: Path, *, read_only: bool = True) -> tuple[object, ...]:
    with RecordLog(path, read_only=read_only) as log:
        return rows_of(log), log.damaged_lines, log.torn, log.newer


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every log counts as large, and parts are small; the list gets an entry for each process that is started."""
    started = list[bool]()
    start = Child.start

    def counted(child: Child) -> None:
        started.append(True)
        start(child)

    monkeypatch.setattr(record_rows, "SMALL", 0)
    monkeypatch.setattr(record_rows, "PART", 10_000)
    monkeypatch.setattr(record_rows, "cores", lambda: 2)
    monkeypatch.setattr(Child, "start", counted)
    return started


@pytest.mark.parametrize("read_only", [True, False])
def test_processes_read_what_one_reads(
    log: Path, read_only: bool, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.read_bytes()
    found = opened(log, read_only=read_only)
    assert elsewhere
    log.write_bytes(before)
    monkeypatch.setattr(record_rows, "SMALL", 1 << 40)
    assert opened(log, read_only=read_only) == found
    (lines, keys), damaged, torn, newer = found
    assert (damaged, torn) == ([18, 501, 801, 901], True)
    assert newer == Newer(2, 1, "8.1")
    assert len(lines) == 897 and bool(keys) is not read_only


@pytest.mark.parametrize("answers", [0, 1, 5])
def test_where_a_process_dies_the_rest_is_read_here(
    log: Path, answers: int, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(answers))
    receive = Child.receive

    def dies(child: Child, seconds: float | None = None) -> dict[str, object]:
        reply = receive(child, seconds)
        if "size" in reply and next(left, None) is None:
            child.kill()
            raise ChildDied("crashed (signal SIGKILL)")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(Child, "receive", dies)
        found = opened(log)
    assert elsewhere
    monkeypatch.setattr(record_rows, "SMALL", 1 << 40)
    assert opened(log) == found


def test_nonsense_of_a_process_is_not_believed(
    log: Path, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lies(child: Child, view: memoryview, seconds: float | None = None) -> None:
        receive_into(child, view, seconds)
        view[:10] = b"x" * 10

    receive_into = Child.receive_into
    with monkeypatch.context() as patch:
        patch.setattr(Child, "receive_into", lies)
        found = opened(log)
    monkeypatch.setattr(record_rows, "SMALL", 1 << 40)
    assert opened(log) == found


@pytest.mark.parametrize("error", [OSError("no more processes"), ClueError("No temporary file can be made.")])
def test_where_no_process_can_be_started_all_is_read_here(
    log: Path, error: Exception, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(child: Child) -> None:
        elsewhere.append(True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Child, "start", start)
        found = opened(log)
    assert elsewhere
    monkeypatch.setattr(record_rows, "SMALL", 1 << 40)
    assert opened(log) == found


@pytest.mark.parametrize(("at", "length"), [(100, 50), (0, 0), (0, 1 << 40), (0, 101), (-5, 10)])
def test_rows_of_a_process_lie_within_its_part(at: int, length: int) -> None:
    def part(*places: tuple[int, int]) -> record_rows.Part:
        return record_rows.Part([("a.jpg", 0, at, length, "1", None) for at, length in places], 0, [], 2, 100)

    assert record_rows._within(part((0, 60), (60, 40)), 0) and record_rows._within(part(), 0)
    assert not record_rows._within(part((at, length)), 0)
    assert not record_rows._within(part((0, 60), (59, 20)), 0)


def test_a_log_of_nothing_but_damage_takes_no_memory(
    tmp_path: Path, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n" * 30_000)
    for small in (0, 1 << 40):
        monkeypatch.setattr(record_rows, "SMALL", small)
        with RecordLog(path) as log:
            assert (log.damaged, log.damaged_lines) == (30_000, list(range(1, DAMAGED_NAMED + 1)))
            assert "30000 lines" in log.warnings[0]


def test_a_line_that_is_too_long_is_one_damaged_line(
    log: Path, elsewhere: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clue_cli.results.log.LONGEST_LINE", LONG)
    monkeypatch.setattr(record_rows, "LONGEST_LINE", LONG)
    monkeypatch.setattr(record_rows, "SMALL", 1 << 40)
    (lines, _), damaged, *_ = opened(log)
    assert damaged == [18, 501, 801, 901] and len(lines) == 897
