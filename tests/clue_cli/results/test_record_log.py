"""The log survives what kills a scan, and knows which of its lines count."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from clue_cli.errors import OutputError
from clue_cli.results.record_log import RecordLog
from tests.clue_cli.results.made import failure, image, open_store, put


class Folder:
    """Opens the same log again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "records.jsonl"
        self.torn = folder / "records.torn"
        self.opened: list[RecordLog] = []

    def open(self) -> RecordLog:
        self.opened.append(RecordLog(self.path, self.torn))
        return self.opened[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    for log in made.opened:
        log.close()


def shown(log: RecordLog) -> list[tuple[str, int | None, str, bool]]:
    return [(record.locator, record.page, record.run_id, met) for record, met in log.records()]


def test_what_is_appended_is_there_when_opened_again(folder: Folder) -> None:
    records = [image("b", run_id="1"), failure("a", run_id="1"), image("b", 1, 2, run_id="1")]
    log = folder.open()
    for record in records:
        log.append(record)
    assert log.current("b") == [records[0], records[2]]
    log.close()
    again = folder.open()
    assert again.warnings == []
    assert again.current("b") == [records[0], records[2]]
    assert again.current("a") == [records[1]]
    assert again.current("c") == []


def test_records_come_once_each_by_locator_and_page(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.record_log._BATCH", 3)
    log = folder.open()
    for record in (
        image("b", 1, 2),
        *(image(f"a{number}") for number in range(9, -1, -1)),
        image("b", 0, 2),
        failure("b"),
    ):
        log.append(record)
    assert [entry[:2] for entry in shown(log)] == [
        *((f"a{number}", 0) for number in range(10)), ("b", None), ("b", 0), ("b", 1)
    ]  # fmt: skip


@pytest.mark.parametrize("reopened", [False, True])
def test_the_latest_run_that_wrote_about_a_locator_counts(folder: Folder, reopened: bool) -> None:
    log = folder.open()
    log.append(image("three pages", 0, 3, run_id="1"))
    log.append(image("three pages", 2, 3, run_id="1"))
    log.append(image("untouched", run_id="1"))
    log.append(failure("failed first", run_id="1"))
    log.close()
    log = folder.open()
    log.append(image("three pages", 0, 1, run_id="2"))
    log.append(image("failed first", run_id="2"))
    if reopened:
        log.close()
        log = folder.open()
    assert [entry[:3] for entry in shown(log)] == [
        ("failed first", 0, "2"),
        ("three pages", 0, "2"),
        ("untouched", 0, "1"),
    ]
    assert len(list(log.history())) == 6


def test_runs_that_alternate_over_many_lines_leave_what_each_wrote_last(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clue_cli.results.record_log._BATCH", 3)
    log = folder.open()
    for run in range(1, 5):  # run n writes about the locators n to 9, of n pages each
        for number in range(run, 10):
            for page in range(5 - run):
                log.append(image(str(number), page, 5 - run, run_id=str(run % 3)))
        log.close()
        log = folder.open()
    wanted = [
        (str(number), page, str(min(number, 4) % 3), False)
        for number in range(1, 10)
        for page in range(5 - min(number, 4))
    ]
    assert shown(log) == wanted


def test_what_the_run_has_met(folder: Folder) -> None:
    log = folder.open()
    for name in ("kept", "lost", "done again"):
        log.append(image(name, run_id="1"))
    log.close()
    log = folder.open()
    assert log.not_met() == 3
    log.keep("kept")
    log.append(image("done again", run_id="2"))
    assert [(locator, met) for locator, _, _, met in shown(log)] == [
        ("done again", True),
        ("kept", True),
        ("lost", False),
    ]
    assert log.not_met() == 1


def test_outdated_records_are_handed_out_once(folder: Folder) -> None:
    log = folder.open()
    log.append(image("a", run_id="1"))
    log.close()
    log = folder.open()
    assert [record.run_id for record in log.outdate("a")] == ["1"]
    assert list(log.outdate("a")) == []
    log.append(image("a", run_id="2"))
    assert list(log.outdate("a")) == []


@pytest.mark.parametrize("tail", [b'{"kind":"im', b"x" * 200_000, b"\0\0\0", b"{}"])
@pytest.mark.parametrize("lines", [0, 2])
def test_a_torn_last_line_is_set_aside(folder: Folder, tail: bytes, lines: int) -> None:
    log = folder.open()
    for number in range(lines):
        log.append(image(str(number)))
    log.close()
    whole = folder.path.read_bytes()
    folder.path.write_bytes(whole + tail)
    log = folder.open()
    assert folder.path.read_bytes() == whole
    assert folder.torn.read_bytes() == tail + b"\n"
    assert len(log.warnings) == 1
    log.append(image("next"))
    assert [entry[0] for entry in shown(log)] == [*map(str, range(lines)), "next"]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs O_NOFOLLOW")
@pytest.mark.parametrize("linked", ["records.jsonl", "records.torn"])
def test_nothing_is_written_to_what_a_link_leads_to(folder: Folder, tmp_path: Path, linked: str) -> None:
    folder.path.write_bytes(b'{"kind":"im')
    target = tmp_path / "elsewhere"
    target.write_bytes(b'{"kind":"im')
    (tmp_path / linked).unlink(missing_ok=True)
    (tmp_path / linked).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        folder.open()
    assert target.read_bytes() == b'{"kind":"im'


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("pipe", ["records.jsonl", "records.torn"])
def test_a_pipe_is_not_waited_for_nor_written_to(folder: Folder, tmp_path: Path, pipe: str) -> None:
    folder.path.write_bytes(b'{"kind":"im')
    (tmp_path / pipe).unlink(missing_ok=True)
    os.mkfifo(tmp_path / pipe)
    reader = os.open(tmp_path / pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="no regular file"):
            folder.open()
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
    with pytest.raises(OSError, match=r"no regular file|No such device"):
        folder.open()


def test_damaged_lines_are_ignored_with_a_warning(folder: Folder) -> None:
    log = folder.open()
    log.append(image("first"))
    log.append(image("last"))
    log.close()
    first, last = folder.path.read_bytes().splitlines(keepends=True)
    folder.path.write_bytes(first + b"\0\0\0\n" + b'{"kind":"image"}\n' + last)
    log = folder.open()
    assert "2 lines" in log.warnings[0]
    assert "line 2, 3" in log.warnings[0]
    assert [entry[0] for entry in shown(log)] == ["first", "last"]
    assert log.current("last")[0].locator == "last"


def test_a_full_disk_leaves_the_log_as_it_was(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    log = folder.open()
    log.append(image("a"))
    before = folder.path.read_bytes()
    write = os.write
    calls: list[int] = []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.append(image("b"))
    monkeypatch.undo()
    assert folder.path.read_bytes() == before
    assert log.current("b") == []
    log.append(image("c"))
    assert [entry[0] for entry in shown(log)] == ["a", "c"]


def test_short_writes_are_completed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    log = folder.open()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    log.append(image("a"))
    assert log.current("a") == [image("a")]


def test_a_log_changed_under_way_is_noticed(folder: Folder) -> None:
    log = folder.open()
    log.append(image("a"))
    folder.path.write_bytes(b"")
    with pytest.raises(OutputError, match="changed by another program"):
        log.current("a")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_deleted_or_replaced_under_way_is_noticed(folder: Folder, replaced: bool) -> None:
    log = folder.open()
    log.append(image("a"))
    log.sync()
    folder.path.unlink()
    if replaced:
        folder.path.write_bytes(b"")
    with pytest.raises(OutputError, match="deleted or moved"):
        log.sync()


def test_names_belong_to_one_locator(folder: Folder) -> None:
    log = folder.open()
    assert log.take_name(PurePosixPath("A.jpg"), "A.jpg")
    assert log.take_name(PurePosixPath("A.jpg"), "A.jpg")
    assert not log.take_name(PurePosixPath("a.jpg"), "a.jpg")


def test_the_log_is_synced_now_and_then_and_when_closed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = folder.open()
    log.append(image("a"))
    assert synced == []
    monkeypatch.setattr("clue_cli.results.log.SYNC_SECONDS", -1.0)
    log.append(image("b"))
    assert len(synced) == 1
    log.close()
    log.close()
    assert len(synced) == 2


def test_a_log_where_files_cannot_be_read_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr("os.pread")
    monkeypatch.delattr("os.O_CLOEXEC")
    with open_store(tmp_path / "r") as store:
        first = put(store, image("evidence/a.jpg"))
        second = put(store, image("evidence/b.jpg"))
        assert list(store.records()) == [first, second]
    with open_store(tmp_path / "r") as store:
        assert list(store.records()) == [first, second]
