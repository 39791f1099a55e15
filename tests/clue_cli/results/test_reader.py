"""The reader shows what a scan wrote, changes nothing, and refuses what no scan wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clue_cli.errors import NothingToScanError
from clue_cli.records import SCHEMA_VERSION, FailureRecord, ImageRecord, RunRecord
from clue_cli.results.reader import ResultsReader
from tests.clue_cli.e2e import fingerprint
from tests.clue_cli.results.made import failure, first_schema, image, open_store, put, run


def lines(*records: ImageRecord | FailureRecord, without: tuple[str, ...] = (), version: str = "1.2") -> bytes:
    """A log as an earlier version wrote it: with another version, and without the fields that it had not."""
    texts = []
    for record in records:
        document = first_schema(record, version)
        for path in without:
            *outer, name = path.split(".")
            part = document
            for key in outer:
                part = part.get(key, {})
            part.pop(name, None)
        texts.append(json.dumps(document, separators=(",", ":")))
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two runs: the second found `b` changed, and did not meet `lost`."""
    with open_store(tmp_path / "out") as store:
        for record in (image("lost"), image("b", 0, 2), image("b", 1, 2)):
            put(store, record)
        store.finish(run(status="finished"))
    with open_store(tmp_path / "out") as store:
        put(store, image("b"))
        store.write_failure(failure("a"))
        store.finish(run(status="finished", version="second"))
    return tmp_path / "out"


def test_the_current_records_and_the_latest_run(out: Path) -> None:
    with ResultsReader(out) as reader:
        records = list(reader.records())
        assert [(record.locator, record.page) for record in records] == [("a", None), ("b", 0), ("lost", 0)]
        assert [record.kind for record in records] == ["failure", "image", "image"]
        assert reader.run == RunRecord.model_validate_json((out / "run.json").read_bytes())
        assert reader.run.version == "second"
        assert records[0].run_id == records[1].run_id == reader.run.run_id != records[2].run_id
        assert (reader.unfinished, reader.damaged) == (False, 0)
        assert list(reader.records()) == records
    reader.close()


def test_nothing_is_changed_in_a_folder_that_cannot_be_written(out: Path) -> None:
    with (out / "records.jsonl").open("ab") as log:
        log.write(b'{"kind":"ima')
    (out / ".tmp").mkdir()
    (out / ".tmp/77-0").write_bytes(b"half")
    paths = [out, *out.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = fingerprint(out)
        with ResultsReader(out) as reader:
            assert len(list(reader.records())) == 3
            assert reader.damaged == 1
        assert fingerprint(out) == before
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_while_a_scan_writes_there(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        put(store, image("a"))
        with ResultsReader(tmp_path) as reader:
            assert reader.unfinished
            put(store, image("b"))
            assert [record.locator for record in reader.records()] == ["a"]
        put(store, image("c"))
    with ResultsReader(tmp_path) as reader:
        assert [record.locator for record in reader.records()] == ["a", "b", "c"]


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_come_to_its_end(tmp_path: Path, status: str) -> None:
    with open_store(tmp_path) as store:
        store.write_run(run(status=status))
    for _ in range(2):
        with ResultsReader(tmp_path) as reader:
            assert reader.unfinished
            assert list(reader.records()) == []
        (tmp_path / "records.jsonl").unlink(missing_ok=True)  # as of a run that was killed before its first line


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"tool":"clue","schema_version":"1.0"}'])
def test_without_a_readable_run_json_the_log_is_enough(out: Path, content: bytes | None) -> None:
    (out / "run.json").unlink()
    if content is not None:
        (out / "run.json").write_bytes(content)
    with ResultsReader(out) as reader:
        assert reader.run is None
        assert reader.unfinished
        assert len(list(reader.records())) == 3


NEW_IN_1_1 = (
    "p_value",
    "model.calibration_sha256",
    "outputs.error_level_analysis",
    "outputs.jpeg_ghosts",
    "outputs.noise_inconsistency",
)


@pytest.mark.parametrize(("version", "without"), [("1.0", NEW_IN_1_1), ("1.1", ()), ("1.2", ())])
def test_records_of_every_version_so_far(tmp_path: Path, version: str, without: tuple[str, ...]) -> None:
    """1.2 added a key to regions alone, and these have none."""
    (tmp_path / "records.jsonl").write_bytes(lines(image("a"), failure("b"), without=without, version=version))
    (tmp_path / "run.json").write_text(run(schema_version=version, status="finished").model_dump_json())
    with ResultsReader(tmp_path) as reader:
        assert list(reader.records()) == [image("a"), failure("b")]
        assert reader.damaged == 0
        assert not reader.unfinished


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    whole = lines(image("a"), image("b"))
    (tmp_path / "records.jsonl").write_bytes(whole + b"\0\0\n" + lines(image("c")) + whole[:30])
    with ResultsReader(tmp_path) as reader:
        assert [record.locator for record in reader.records()] == ["a", "b", "c"]
        assert reader.damaged == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("holiday.jpg", b"\xff\xd8"),
        ("run.json", b'{"tool": "something else", "schema_version": "1.0"}'),
        ("records.jsonl", b'{"level": "info"}\n'),
        ("results.json", b"{}"),
    ],
)
def test_what_no_scan_wrote_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name, tmp_path / "absent"):
        with pytest.raises(NothingToScanError, match="no results of clue scan") as caught:
            ResultsReader(path)
        assert "--out" in str(caught.value.advice)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_results_of_a_newer_version_are_refused(out: Path) -> None:
    (out / "run.json").write_text('{"tool":"clue","schema_version":"9.0","unheard":"of"}')
    with pytest.raises(NothingToScanError, match="newer version") as caught:
        ResultsReader(out)
    assert caught.value.advice == "Update clue."


def test_what_cannot_be_read_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(NothingToScanError, match=r"run\.json cannot be read: Permission denied"):
        ResultsReader(out)


def of_version(record: ImageRecord | FailureRecord, version: str, **more: object) -> bytes:
    return json.dumps(json.loads(record.model_dump_json()) | {"schema_version": version, **more}).encode() + b"\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            [of_version(image("b"), "9.1")],
            "1 line of records.jsonl was written by a newer version of clue (schema 9.1; this one knows {known}). It "
            "is read as this version understands records, and what it does not know may be missing. Update clue.",
        ),
        (
            [of_version(image("b"), "9.1", unheard="of"), of_version(failure("c"), "10.0", unheard="of")],
            "2 lines of records.jsonl were written by a newer version of clue (schema 10.0; this one knows {known}). "
            "They are left out, since this version cannot read them. Update clue.",
        ),
        (
            [of_version(image("b"), "9.1", unheard="of"), of_version(failure("c"), "2.999"), b"{}\n"],
            "2 lines of records.jsonl were written by a newer version of clue (schema 9.1; this one knows {known}). "
            "1 of them is left out, since this version cannot read it. The others are read as this version understands "
            "records, and what it does not know may be missing. Update clue.",
        ),
        ([of_version(image("b"), "newer"), of_version(image("c"), "9.1.1"), of_version(image("d"), "2.0")], None),
    ],
)
def test_records_of_a_newer_version_are_told(tmp_path: Path, written: list[bytes], said: str | None) -> None:
    (tmp_path / "records.jsonl").write_bytes(lines(image("a")) + b"".join(written))
    damaged = written.count(b"{}\n")
    with ResultsReader(tmp_path) as reader:
        expected = [] if said is None else [said.format(known=SCHEMA_VERSION)]
        assert reader.problems() == [f"{damaged} damaged line of records.jsonl left out."] * damaged + expected
        assert (reader.damaged, reader.left_out) == (damaged, damaged + sum(b"unheard" in line for line in written))
        assert len(list(reader.records())) == 1 + len(written) - reader.left_out
