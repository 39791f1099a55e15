"""From paths to items: order, options, and everything that a file system can put in the way."""

from __future__ import annotations

import inspect
import io
import os
import socket
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from clue_cli.errors import ExitCode, NothingToScanError
from clue_cli.evidence import walk as walk_module
from clue_cli.evidence.archive import Event
from clue_cli.evidence.item import ArchiveOpened, Item, Skipped, Unreadable
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.streams import ReadFailure
from clue_cli.evidence.walk import WalkOptions, check_paths, open_file, walk
from clue_cli.records import FailureCode, Step
from tests.faults import archives, pictures


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "ev"
    for name in ("b.jpg", "a/2.jpg", "a/10.jpg", "c/d/e.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.jpeg())
    return folder


def shown(events: Sequence[Event] | Iterator[Event]) -> list[str]:
    """Events in short: an item is its locator, others have a word before it."""
    words = []
    for event in events:
        match event:
            case Item(locator=locator):
                words.append(locator)
            case Skipped(locator=locator, reason=reason):
                words.append(f"skipped {reason} {locator}")
            case Unreadable(locator=locator, code=code):
                words.append(f"{code} {locator}")
            case ArchiveOpened(locator=locator):
                words.append(f"archive {locator}")
    return words


def test_files_come_sorted_folder_by_folder(evidence: Path) -> None:
    expected = ["ev/a/10.jpg", "ev/a/2.jpg", "ev/b.jpg", "ev/c/d/e.jpg"]
    assert shown(walk([evidence])) == expected
    assert shown(walk([evidence])) == expected


def test_the_walk_is_lazy(evidence: Path) -> None:
    events = walk([evidence])
    assert shown([next(events)]) == ["ev/a/10.jpg"]
    (evidence / "b.jpg").unlink()
    assert "ev/c/d/e.jpg" in shown(events)


def test_an_item_knows_its_size_and_opens_its_bytes(evidence: Path) -> None:
    (item,) = walk([evidence / "b.jpg"])
    assert isinstance(item, Item)
    assert (item.locator, item.size, item.path) == ("b.jpg", len(pictures.jpeg()), evidence / "b.jpg")
    with item.open() as file:
        assert file.read() == pictures.jpeg()


def test_roots_of_one_name_are_told_apart_and_equal_roots_scanned_once(tmp_path: Path) -> None:
    for folder in ("x/ev", "y/ev"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").write_bytes(b"")
    roots = [tmp_path / "x/ev", tmp_path / "y/ev", tmp_path / "x" / ".." / "x" / "ev"]
    assert shown(walk(roots)) == ["ev/a.jpg", "ev~2/a.jpg"]


@pytest.mark.parametrize(("given", "name"), [(".", "ev"), ("a/..", "ev"), ("../ev/", "ev")])
def test_a_root_without_a_name_of_its_own_gets_one(
    evidence: Path, monkeypatch: pytest.MonkeyPatch, given: str, name: str
) -> None:
    monkeypatch.chdir(evidence)
    assert shown(walk([Path(given)]))[0] == f"{name}/a/10.jpg"


def test_hidden_files_are_an_option(evidence: Path) -> None:
    (evidence / ".secret").mkdir()
    (evidence / ".secret" / "s.jpg").write_bytes(b"x")
    (evidence / ".h.jpg").write_bytes(b"x")
    assert "skipped hidden ev/.secret" in shown(walk([evidence]))
    assert "skipped hidden ev/.h.jpg" in shown(walk([evidence]))
    everything = shown(walk([evidence], WalkOptions(hidden=True)))
    assert {"ev/.secret/s.jpg", "ev/.h.jpg"} <= set(everything)
    assert shown(walk([evidence / ".h.jpg"])) == [".h.jpg"]


def test_links_are_an_option(evidence: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.jpg").write_bytes(b"x")
    (evidence / "z").symlink_to(outside)
    (evidence / "z.jpg").symlink_to(outside / "o.jpg")
    assert {"skipped link ev/z", "skipped link ev/z.jpg"} <= set(shown(walk([evidence])))
    assert {"ev/z/o.jpg", "ev/z.jpg"} <= set(shown(walk([evidence], WalkOptions(follow_links=True))))
    assert shown(walk([evidence / "z"])) == ["z/o.jpg"]


def test_link_loops_and_broken_links_are_told_and_the_walk_goes_on(evidence: Path) -> None:
    (evidence / "a" / "up").symlink_to(evidence)
    (evidence / "c" / "self").symlink_to("self")
    (evidence / "c" / "nowhere").symlink_to("does-not-exist")
    (evidence / "c" / "aside").symlink_to(evidence / "a")
    events = shown(walk([evidence], WalkOptions(follow_links=True)))
    assert {"link_loop ev/a/up", "link_loop ev/c/self", "unreadable ev/c/nowhere"} <= set(events)
    assert {"ev/c/aside/2.jpg", "link_loop ev/c/aside/up", "ev/c/d/e.jpg"} <= set(events)
    assert len(events) == len(set(events))


def test_links_between_folders_do_not_multiply(tmp_path: Path) -> None:
    folders = [tmp_path / "ev" / str(number) for number in range(7)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "p.jpg").write_bytes(b"x")
    for folder in folders:
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    events = shown(walk([tmp_path / "ev"], WalkOptions(follow_links=True)))
    assert sum(event.endswith("p.jpg") for event in events) <= 2 * len(folders)
    assert len(events) < 300


def test_a_root_that_is_a_link_loop_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    check_paths([tmp_path / "loop"])
    assert shown(walk([tmp_path / "loop"])) == ["link_loop loop"]


def test_pipes_and_sockets_are_never_opened(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(evidence / "a" / "pipe.jpg")
    monkeypatch.chdir(evidence)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock.jpg")
        events = list(walk([evidence]))
    told = {event.locator: event.message for event in events if isinstance(event, Unreadable)}
    assert told == {"ev/a/pipe.jpg": "It is a pipe, not a file.", "ev/sock.jpg": "It is a socket, not a file."}
    assert "ev/c/d/e.jpg" in shown(events)


def test_a_device_is_not_a_file() -> None:
    (event,) = walk([Path("/dev/null")])
    assert isinstance(event, Unreadable)
    assert (event.step, event.message) == (Step.WALK, "It is a device, not a file.")


def test_a_pipe_put_in_place_of_a_file_does_not_make_us_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "was-a-file.jpg")
    with pytest.raises(ReadFailure) as caught:
        open_file(tmp_path / "was-a-file.jpg")
    assert caught.value.code is FailureCode.CHANGED_DURING_SCAN


def _denied(target: Path, function: Any) -> Any:
    """The function, refusing the target: what permissions do to everybody but root, who runs some tests."""

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if os.fspath(path) == os.fspath(target):
            raise PermissionError(13, "Permission denied")
        return function(path, *args, **kwargs)

    return refuse


@pytest.mark.parametrize(
    ("name", "where", "step"),
    [("scandir", "a", Step.WALK), ("open", "b.jpg", Step.READ)],
)
def test_what_may_not_be_read_is_told_and_the_walk_goes_on(
    evidence: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str, step: Step
) -> None:
    monkeypatch.setattr(walk_module.os, name, _denied(evidence / where, getattr(os, name)))
    events = list(walk([evidence]))
    (failure,) = [event for event in events if isinstance(event, Unreadable)]
    assert (failure.locator, failure.step, failure.code) == (f"ev/{where}", step, FailureCode.UNREADABLE)
    assert "Permission denied" in failure.message
    assert "ev/c/d/e.jpg" in shown(events)


def test_the_access_time_is_given_up_before_the_file_is(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, flags = os.open, []

    def not_the_owner(path: Any, flag: int, *args: Any) -> int:
        flags.append(flag)
        if flag & os.O_NOATIME:
            raise PermissionError(1, "Operation not permitted")
        return real(path, flag, *args)

    monkeypatch.setattr(walk_module.os, "open", not_the_owner)
    with open_file(evidence / "b.jpg") as file:
        assert file.read() == pictures.jpeg()
    assert len(flags) == 2


def test_a_file_that_vanishes_before_its_turn_is_told(evidence: Path) -> None:
    events = walk([evidence / "a"])
    next(events)
    (evidence / "a" / "2.jpg").unlink()
    (failure,) = events
    assert isinstance(failure, Unreadable)
    assert "vanished" in failure.message


def test_the_results_folder_is_left_out(evidence: Path) -> None:
    out = evidence / "results"
    options = WalkOptions(exclude=out)
    assert "ev/b.jpg" in shown(walk([evidence], options))
    (out / "masks").mkdir(parents=True)
    (out / "masks" / "m.png").write_bytes(b"x")
    events = shown(walk([evidence], options))
    assert "skipped results ev/results" in events
    assert not any("m.png" in event for event in events)


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath("d", *["d"] * 199)
    deepest.mkdir(parents=True)
    (deepest / "deep.jpg").write_bytes(b"x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        (event,) = walk([tmp_path / "d"])
    finally:
        sys.setrecursionlimit(limit)
    assert event.locator == "d/" * 200 + "deep.jpg"


@pytest.mark.parametrize(
    ("name", "locator"),
    [
        (b"caf\xe9.jpg", r"ev/caf\xe9.jpg"),
        (b"two\nlines.jpg", r"ev/two\u000alines.jpg"),
        ("\u202egpj.exe".encode(), r"ev/\u202egpj.exe"),
        (b"case.zip!", r"ev/case.zip\u0021"),
    ],
)
def test_strange_names_are_shown_escaped_and_opened_all_the_same(tmp_path: Path, name: bytes, locator: str) -> None:
    folder = tmp_path / "ev"
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"content")
    (item,) = walk([folder])
    assert isinstance(item, Item)
    assert item.locator == locator
    with item.open() as file:
        assert file.read() == b"content"


def test_a_folder_and_an_archive_never_share_a_locator(tmp_path: Path) -> None:
    folder = tmp_path / "ev"
    (folder / "case.zip!").mkdir(parents=True)
    (folder / "case.zip!" / "a.jpg").write_bytes(b"x")
    (folder / "case.zip").write_bytes(archives.zip_of({"a.jpg": b"x"}))
    items = [event.locator for event in walk([folder]) if isinstance(event, Item)]
    assert items == ["ev/case.zip!/a.jpg", r"ev/case.zip\u0021/a.jpg"]


def test_missing_paths_are_told_before_anything_is_done(evidence: Path) -> None:
    with pytest.raises(NothingToScanError, match="nowhere, no") as caught:
        check_paths([evidence, Path("nowhere"), Path("no/thing")])
    assert caught.value.exit_code is ExitCode.NOTHING_TO_SCAN
    with pytest.raises(NothingToScanError, match="No path"):
        check_paths([])
    check_paths([evidence])


def test_nothing_beside_the_evidence_is_touched(evidence: Path) -> None:
    (evidence / "case.zip").write_bytes(archives.nested(2, pictures.jpeg()))
    before = {path: path.stat() for path in sorted(evidence.rglob("*"))}
    for event in walk([evidence]):
        if isinstance(event, Item):
            with event.open() as file:
                file.read()
    after = {path: path.stat() for path in sorted(evidence.rglob("*"))}
    assert after.keys() == before.keys()
    for path in before:
        assert (after[path].st_size, after[path].st_mtime_ns, after[path].st_ino) == (
            before[path].st_size,
            before[path].st_mtime_ns,
            before[path].st_ino,
        )


SCAN_RUN = '{\n  "schema_version": "1.2",\n  "tool": "clue",\n  "run_id": "x"}'
SCAN_LOG = '{"kind":"image","schema_version":"1.2"}\n'


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize(
    ("marks", "pictures_in"),
    [
        ({"run.json": SCAN_RUN}, "masks"),
        ({"records.jsonl": SCAN_LOG}, "previews"),
        ({"run.json": SCAN_RUN, "explanations.jsonl": "{}"}, "masks"),
        ({"run.json": SCAN_RUN, "records.jsonl": SCAN_LOG}, "heatmaps"),
        ({"results.json": '{\n "tool": "clue eval",'}, "contact"),
        ({"measurements.jsonl": '{"format":2,"settings":"%s","set":"c"}' % ("0" * 64)}, "contact"),
        ({"forge.json": '{\n "format": 1,\n "tool": {\n  "clue": "0.1.0"'}, "images"),
        ({"forgeries.jsonl": '{"number": 0, "file": "images/0.png"}'}, "masks"),
    ],
)
def test_results_of_an_earlier_run_are_no_evidence(
    tmp_path: Path, marks: dict[str, str], pictures_in: str, included: bool
) -> None:
    results = tmp_path / "evidence" / "results"
    (results / pictures_in).mkdir(parents=True)
    for name, content in {**marks, f"{pictures_in}/m.png": "a picture", "put_there.jpg": "a picture"}.items():
        (results / name).write_text(content)
    found = list(walk([tmp_path / "evidence"], WalkOptions(results=included, made=included)))
    names = [event.locator.removeprefix("evidence/results/") for event in found if isinstance(event, Item)]
    assert names == (sorted([*marks, f"{pictures_in}/m.png", "put_there.jpg"]) if included else ["put_there.jpg"])
    skipped = [event for event in found if isinstance(event, Skipped)]
    assert skipped == ([] if included else [Skipped("evidence/results", "former results")])


def test_forgeries_that_are_named_themselves_are_taken(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"a picture")
    (tmp_path / "forge.json").write_text('{"tool": {"clue": "0.1.0"}}')
    assert any(event.endswith("images/0.png") for event in shown(walk([tmp_path], WalkOptions(made=False))))


@pytest.mark.parametrize("run", [b'{"tool": "clueless"}', b"", b"\xff" * 9000])
def test_a_folder_that_only_looks_like_results_is_evidence(tmp_path: Path, run: bytes) -> None:
    (tmp_path / "run.json").write_bytes(run)
    (tmp_path / "records.jsonl").write_text('{"kind":"image"}')
    (tmp_path / "masks").mkdir()
    assert not any(isinstance(event, Skipped) for event in walk([tmp_path]))


def test_patterns_choose_files_members_and_folders(evidence: Path) -> None:
    (evidence / "case.zip").write_bytes(archives.zip_of({"dcim/1.jpg": b"x", "dcim/2.PNG": b"x", "other/3.jpg": b"x"}))
    chosen = WalkOptions(selection=Selection(include=("*.jpg",), exclude=("other", "c/d", "10.*")))
    assert shown(walk([evidence], chosen)) == [
        "skipped excluded ev/a/10.jpg",
        "ev/a/2.jpg",
        "ev/b.jpg",
        "skipped excluded ev/c/d",
        "archive ev/case.zip",
        "ev/case.zip!/dcim/1.jpg",
        "skipped not included ev/case.zip!/dcim/2.PNG",
        "skipped excluded ev/case.zip!/other/3.jpg",
    ]
    assert shown(walk([evidence / "b.jpg"], WalkOptions(selection=Selection(exclude=("b.*",))))) == [
        "skipped excluded b.jpg"
    ]


def test_a_hard_link_to_an_excluded_member_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "a.jpg").write_bytes(pictures.jpeg())
    os.link(tmp_path / "tmp" / "a.jpg", tmp_path / "b.jpg")
    with tarfile.open(tmp_path / "case.tar", "w") as archive:
        archive.add(tmp_path / "tmp" / "a.jpg", "tmp/a.jpg")
        archive.add(tmp_path / "b.jpg", "kept/b.jpg")
    events = walk([tmp_path / "case.tar"], WalkOptions(selection=Selection(exclude=("tmp",))))
    assert shown(events) == [
        "archive case.tar",
        "skipped excluded case.tar!/tmp/a.jpg",
        "case.tar!/kept/b.jpg",
    ]


def test_a_damaged_archive_stays_a_failure_whatever_is_included(evidence: Path) -> None:
    (evidence / "cut.zip").write_bytes(b"PK\x03\x04cut")
    events = shown(walk([evidence], WalkOptions(selection=Selection(include=("*.jpg",)))))
    assert "archive_corrupt ev/cut.zip" in events


def test_older_files_are_left_out(evidence: Path) -> None:
    os.utime(evidence / "b.jpg", (1000, 1000))
    events = shown(walk([evidence], WalkOptions(selection=Selection(since=2000.0))))
    assert "skipped older ev/b.jpg" in events
    assert "ev/a/2.jpg" in events


def test_listed_paths_have_their_whole_path_as_locator(
    evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = str(evidence / "b.jpg").lstrip("/")
    listed = [Path("ev/c/d/../d/e.jpg"), Path("no/such.jpg"), Path("./ev/a"), evidence / "b.jpg"]
    events = list(walk([], listed=listed))
    assert shown(events) == ["ev/c/d/e.jpg", "unreadable no/such.jpg", "ev/a/10.jpg", "ev/a/2.jpg", absolute]
    assert isinstance(events[1], Unreadable)
    assert events[1].message == "It does not exist."


class _Blocked(io.RawIOBase):
    """What a FUSE file system or a drained kernel log is to a reader that does not wait."""

    def read(self, size: int = -1, /) -> Any:
        return None


def test_a_file_whose_read_would_block_is_told_and_the_walk_goes_on(
    evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = walk_module.open_file
    monkeypatch.setattr(walk_module, "open_file", lambda path: _Blocked() if path.name == "2.jpg" else real(path))
    events = list(walk([evidence]))
    (failure,) = [event for event in events if isinstance(event, Unreadable)]
    assert (failure.locator, failure.code) == ("ev/a/2.jpg", FailureCode.UNREADABLE)
    assert "would block" in failure.message
    assert "ev/c/d/e.jpg" in shown(events)


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="needs Linux")
def test_the_walk_of_proc_ends() -> None:
    assert all(event.locator.startswith("self/") for event in walk([Path("/proc/self")], WalkOptions(hidden=True)))


def test_members_that_are_named_like_results_are_told(tmp_path: Path) -> None:
    ours = ["r/masks/ev/a.jpg.png", "r/previews/ev/a.jpg.p0002.heat.png", "previews/a.jpg~0123456789ab.thumb.jpg"]
    others = ["r/masks/party.png", "r/a.jpg.png", "previews/a.jpg"]
    (tmp_path / "a.zip").write_bytes(archives.zip_of(dict.fromkeys([*ours, *others], b"x")))
    items = [event for event in walk([tmp_path / "a.zip"]) if isinstance(event, Item)]
    told = [item.locator for item in items if "named_like_results" in [finding.kind for finding in item.findings]]
    assert told == [f"a.zip!/{name}" for name in ours]
