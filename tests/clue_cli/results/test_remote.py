"""Results folders in a server that speaks S3: what a local folder would hold, whatever fails on the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clue_cli import remote
from clue_cli.errors import OutputError, UsageError
from clue_cli.records import RECORD, ImageRecord
from clue_cli.remote import Url, parse
from clue_cli.results.pictures import encode_mask
from clue_cli.results.remote import folder as remote_folder
from clue_cli.results.remote import lock as remote_lock
from clue_cli.results.remote import segments, uploads
from clue_cli.results.remote.objects import Objects
from clue_cli.results.scan_store import LOCK, ResultStore
from clue_cli.terminal import sentence
from tests.clue_cli.results.made import SHA, failure, files, image, mask, open_store, run
from tests.clue_cli.results.made import put as put_all
from tests.faults.object_server import FailingServer, failing
from tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

OUT = "out/one/"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sets the cache to an empty folder, as on another machine."""
    numbers = iter(range(10))

    def another() -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{next(numbers)}"))

    another()
    return another


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.bucket()
    return object_store


@pytest.fixture
def url(store: ObjectStore) -> Url:
    return parse("s3://case/out/one")


@pytest.fixture
def server(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingServer]:
    """The same store through a server that fails on demand."""
    from s3fs import S3FileSystem

    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    with failing() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.server.port}")
        S3FileSystem.clear_instance_cache()
        yield found
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are written at once."""
    monkeypatch.setattr(segments, "SECONDS", 0.01)
    monkeypatch.setattr(segments, "_LOOK", 0.02)


def put(results: ResultStore, record: ImageRecord) -> None:
    """Write an image with its mask and verdict alone."""
    results.write_image(record, {"mask": encode_mask(mask())})


def written(store: ObjectStore) -> dict[str, bytes]:
    """Every object below the prefix."""
    return {key.removeprefix(OUT): store.get("case", key) for key in store.keys("case", OUT)}


def lines(store: ObjectStore) -> list[bytes]:
    """The log as a reader would join it."""
    objects = written(store)
    parts = sorted(name for name in objects if name.startswith("records.parts/"))
    return b"".join([objects.get("records.jsonl", b""), *(objects[name] for name in parts)]).splitlines()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def die(results: ResultStore) -> None:
    """End all that a store does, as SIGKILL does: nothing more is written, nothing is released."""
    folder: Any = results._folder
    folder._objects.hurry()
    folder._segments.close()
    folder._uploads.close()
    folder._remote._done.set()
    folder._remote._thread.join()
    folder._here.release()


def bury(store: ObjectStore, **changes: Any) -> None:
    """Let the lock be that of a process that is gone."""
    holder = json.loads(store.get("case", OUT + LOCK))
    gone = 2**22 + 1  # above the largest process number of Linux
    store.put("case", OUT + LOCK, json.dumps({**holder, "process": gone, **changes}).encode())


def finish(results: ResultStore) -> None:
    (results.out / "index.html").write_text("the page")
    results.finish(run(status="finished"))
    results.close()


def test_the_prefix_holds_what_a_folder_holds(url: Url, store: ObjectStore, tmp_path: Path) -> None:
    for out in (tmp_path / "local", url):
        results = open_store(out)
        for name in ("a.jpg", "sub/b.png", "a?*[x].png", "ü/é.jpg"):
            put_all(results, image(f"evidence/{name}"), synthetic=True)
        results.write_failure(failure())
        finish(results)
    objects = written(store)
    assert set(objects) == files(tmp_path / "local") - {LOCK}
    for name, content in objects.items():
        local = (tmp_path / "local" / name).read_bytes()
        if name.endswith((".png", ".jpg", ".html")):
            assert content == local
        elif name == "records.jsonl":
            assert [_said(line) for line in content.splitlines()] == [_said(line) for line in local.splitlines()]
    assert json.loads(objects["run.json"])["status"] == "finished"
    assert not any(secret.encode() in content for content in objects.values() for secret in (ACCESS_KEY, SECRET_KEY))
    cache = Path(open_store(url).out).parent  # a copy is left neither at the end nor in the way of the next run
    assert store.client.head_object(Bucket="case", Key=OUT + "index.html")["ContentType"] == "text/html"
    assert {path.name for path in cache.rglob("*") if path.is_file()} == {".lock", "run.json", "records.jsonl"} | {
        path.rpartition("/")[2] for path in objects if path.startswith("runs/")
    } | {name.rpartition("/")[2] for name in written(store) if name.startswith("runs/")}


def _said(line: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(line)
    return {key: value for key, value in record.items() if key not in ("run_id", "seconds", "settings_digest")}


@pytest.mark.usefixtures("soon")
def test_killed_and_resumed_on_another_machine(url: Url, store: ObjectStore, machine: Callable[[], None]) -> None:
    first = open_store(url)
    for number in range(3):
        put(first, image(f"evidence/{number}.jpg"))
    first.write_failure(failure())
    until(lambda: len(lines(store)) == 4)
    die(first)
    bury(store)
    machine()
    before = lines(store)
    second = open_store(url)
    known = second.resume()
    for number in range(3):
        assert known.lookup(f"evidence/{number}.jpg", SHA) is not None
    assert known.lookup("evidence/3.jpg", SHA) is None
    put(second, image("evidence/3.jpg"))
    finish(second)
    assert lines(store)[:4] == before
    assert [json.loads(line)["locator"] for line in lines(store)].count("evidence/3.jpg") == 1
    assert len(lines(store)) == 5
    assert not [name for name in written(store) if name.startswith(("records.parts", LOCK))]


def test_segments_that_a_crash_left_behind_double_nothing(url: Url, store: ObjectStore) -> None:
    with open_store(url) as results:
        put(results, image())
        results.finish(run(status="finished"))
    log = store.get("case", OUT + "records.jsonl")
    store.put("case", f"{OUT}records.parts/{0:016d}.jsonl", log)
    with open_store(url) as results:
        assert len(list(results.records())) == 1
        put(results, image("evidence/b.jpg"))
    assert len(lines(store)) == 2
    assert not [name for name in written(store) if name.startswith("records.parts")]


def test_a_gap_in_the_log_is_an_error(url: Url, store: ObjectStore) -> None:
    with open_store(url) as results:
        put(results, image())
    store.put("case", f"{OUT}records.parts/{10**6:016d}.jsonl", b"{}\n")
    with pytest.raises(OutputError, match="has gaps"):
        open_store(url)
    assert f"{OUT}{LOCK}" not in store.keys("case")


def test_a_torn_line_of_a_copied_folder_is_cut_off(url: Url, store: ObjectStore, tmp_path: Path) -> None:
    results = open_store(tmp_path / "local")
    put(results, image())
    finish(results)
    with (tmp_path / "local" / "records.jsonl").open("ab") as log:
        log.write(b'{"kind":"image","to')
    store.upload(tmp_path / "local", "case", OUT)
    with open_store(url) as results:
        put(results, image("evidence/b.jpg"))
    assert len(lines(store)) == 2
    assert all(RECORD.validate_json(line) for line in lines(store))
    assert written(store)["records.torn"].startswith(b'{"kind":"image","to')


@pytest.mark.usefixtures("soon")
def test_no_record_before_its_pictures(
    url: Url, store: ObjectStore, server: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "PATIENCE", 600.0)
    results = open_store(url)
    put(results, image("evidence/a.jpg"))
    until(lambda: len(lines(store)) == 1)
    server.refuse = lambda method, path: 500 if method == "PUT" and "masks" in path else None
    put(results, image("evidence/b.jpg"))
    put(results, image("evidence/c.jpg"))
    until(lambda: "verdicts/evidence/c.jpg.json" in written(store))
    time.sleep(0.3)
    assert len(lines(store)) == 1
    server.refuse = lambda method, path: None
    results.close()  # it waits for what is repeated
    assert len(lines(store)) == 3


def test_a_store_that_fails_for_a_while_costs_nothing(url: Url, store: ObjectStore, server: FailingServer) -> None:
    results = open_store(url)
    begun, left = threading.Lock(), iter([500, 503] * 12)
    server.refuse = lambda method, path: _next(begun, left) if method == "PUT" else None
    for number in range(4):
        put(results, image(f"evidence/{number}.jpg"))
    finish(results)
    assert next(left, None) is None
    assert len(lines(store)) == 4


def _next(lock: threading.Lock, left: Iterator[int]) -> int | None:
    with lock:
        return next(left, None)


@pytest.mark.usefixtures("soon")
def test_a_store_that_goes_on_failing_ends_the_run(
    url: Url, store: ObjectStore, server: FailingServer, monkeypatch: pytest.MonkeyPatch, machine: Callable[[], None]
) -> None:
    monkeypatch.setattr(remote_folder, "PATIENCE", 0.5)
    with pytest.raises(OutputError) as caught, open_store(url) as results:
        put(results, image("evidence/a.jpg"))
        until(lambda: len(lines(store)) == 1)
        server.refuse = lambda method, path: 500 if method == "PUT" else None
        for number in range(1000):
            put(results, image(f"evidence/{number}.jpg"))
    assert "1 record of this run" in sentence(caught.value)
    assert "same command" in str(caught.value.advice)
    server.refuse = lambda method, path: None
    machine()
    for line in lines(store):
        outputs = json.loads(line)["outputs"]
        assert {path for path in outputs.values() if path} <= set(written(store))
    results = open_store(url)
    assert results.resume().lookup("evidence/a.jpg", SHA) is not None
    put(results, image("evidence/0.jpg"))
    finish(results)
    assert len(lines(store)) == 2


def test_no_permission_is_known_at_the_start(url: Url, store: ObjectStore, server: FailingServer) -> None:
    server.refuse = lambda method, path: 403 if method == "PUT" else None
    with pytest.raises(OutputError, match="access is denied") as caught:
        ResultStore(url)
    assert "may not write" in str(caught.value.advice)
    assert store.keys("case") == []


def test_a_bucket_that_is_missing(url: Url) -> None:
    with pytest.raises(OutputError, match="no such bucket"):
        ResultStore(parse("s3://nowhere/out"))


@pytest.mark.parametrize(
    "bad", ["s3://case/a//b", "s3://case/a/../b", "s3://case/a?versionId=1", "s3://case/" + 900 * "x"]
)
def test_urls_that_cannot_be_a_folder(url: Url, bad: str) -> None:
    with pytest.raises(UsageError):
        ResultStore(parse(f"s3://case/{bad}"))


def test_evidence_within_the_results(url: Url) -> None:
    with pytest.raises(UsageError, match="lies in the results folder"):
        ResultStore(url, [parse("s3://case/out/one/evidence")])
    ResultStore(url, [parse("s3://case/out/one-more"), Path("out/one")]).close()


def test_a_prefix_with_something_else_is_refused(url: Url, store: ObjectStore) -> None:
    store.put("case", OUT + "run.json", b'{"somebody": "else"}')
    with pytest.raises(OutputError, match=r"holds something else than results of clue: run\.json"):
        ResultStore(url)
    assert store.keys("case") == [OUT + "run.json"]


def test_overwriting_removes_what_clue_wrote_alone(url: Url, store: ObjectStore) -> None:
    results = open_store(url)
    put(results, image("evidence/a.jpg"))
    finish(results)
    store.put("case", OUT + "masks/evidence/a[b].png", b"somebody's")
    store.put("case", "out/one-more/masks/evidence/a.jpg.png", b"of another run")
    results = open_store(url, overwrite=True)
    assert set(written(store)) == {"run.json", LOCK, "masks/evidence/a[b].png"}
    put(results, image("evidence/b.jpg"))
    finish(results)
    assert len(lines(store)) == 1
    assert store.get("case", "out/one-more/masks/evidence/a.jpg.png") == b"of another run"


def test_pictures_that_a_replaced_record_named_are_removed(url: Url, store: ObjectStore) -> None:
    with open_store(url) as results:
        put(results, image("evidence/a.jpg", page=0, page_count=2))
        put(results, image("evidence/a.jpg", page=1, page_count=2))
    with open_store(url) as results:
        put(results, image("evidence/a.jpg"))
    assert [name for name in written(store) if name.startswith("masks")] == ["masks/evidence/a.jpg.png"]


def test_a_picture_that_is_missing_is_made_again(url: Url, store: ObjectStore) -> None:
    with open_store(url) as results:
        put(results, image("evidence/a.jpg"))
        put(results, image("evidence/b.jpg"))
    store.put("case", OUT + "masks/evidence/a.jpg.png", b"")
    results = open_store(url)
    assert results.resume().lookup("evidence/a.jpg", SHA) is None
    assert results.resume().lookup("evidence/b.jpg", SHA) is not None
    results.close()


def test_two_runs_at_once(url: Url, store: ObjectStore, machine: Callable[[], None]) -> None:
    first = open_store(url)
    machine()
    with pytest.raises(OutputError, match="Another scan is writing") as caught:
        ResultStore(url)
    assert f"delete s3://case/{OUT}{LOCK}" in str(caught.value.advice)
    put(first, image())
    finish(first)
    assert len(lines(store)) == 1
    ResultStore(url).close()


@pytest.mark.parametrize("alive", [True, False])
def test_the_lock_of_another_machine_is_watched(
    url: Url, store: ObjectStore, machine: Callable[[], None], monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(remote_lock, "BEAT", 0.2)
    monkeypatch.setattr(remote_lock, "_WATCH", 0.05)
    first = open_store(url)
    if not alive:
        die(first)
    holder = json.loads(store.get("case", OUT + LOCK))
    monkeypatch.setattr(remote_lock, "_machine", lambda: "another")
    monkeypatch.setattr(remote_lock, "FRESH", 0.0)  # no clock is asked
    machine()
    if alive:
        with pytest.raises(OutputError, match=f"process {holder['process']} on"):
            ResultStore(url)
        first.close()
    else:
        ResultStore(url).close()
    assert OUT + LOCK not in store.keys("case")


def test_a_run_whose_lock_was_taken_stops(url: Url, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "BEAT", 0.05)
    with pytest.raises(OutputError, match="was taken by process 1 on elsewhere"), open_store(url) as results:
        for number in range(10000):  # a sign of life that was on its way may replace the other lock once
            bury(store, token="another", process=1, host="elsewhere")
            put(results, image(f"evidence/{number}.jpg"))
            time.sleep(0.01)
    assert json.loads(store.get("case", OUT + LOCK))["token"] == "another"
    assert json.loads(store.get("case", OUT + "run.json"))["status"] == "running"


@pytest.mark.usefixtures("soon")
def test_of_two_writers_of_the_log_one_fails(url: Url, store: ObjectStore) -> None:
    with pytest.raises(OutputError, match="Another process writes to the log"), open_store(url) as results:
        store.put("case", f"{OUT}records.parts/{0:016d}.jsonl", b"{}\n")
        for number in range(10000):
            put(results, image(f"evidence/{number}.jpg"))
            time.sleep(0.01)
    assert store.get("case", f"{OUT}records.parts/{0:016d}.jsonl") == b"{}\n"


def test_what_arrives_damaged_is_an_error(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(url)
    send = objects._fs.pipe_file
    monkeypatch.setattr(objects._fs, "pipe_file", lambda path, data, **_: send(path, data[:-1]))
    with pytest.raises(OutputError, match="other bytes"):
        objects.put("a.png", b"some bytes")
    monkeypatch.setattr(objects._fs, "pipe_file", lambda path, data, **_: send(path, data[:-1]) and None)
    with pytest.raises(OutputError, match="has 9 bytes, sent were 10"):
        objects.put("a.png", b"some bytes")


def test_what_waits_is_bounded(url: Url, server: FailingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 1000)
    objects = Objects(url)
    objects.patience = 60
    queue = uploads.Uploads(objects)
    server.refuse = lambda method, path: 500
    queue.add("a", bytes(600))
    more = threading.Thread(target=queue.add, args=("b", bytes(600)))
    more.start()
    more.join(0.3)
    assert more.is_alive()
    server.refuse = lambda method, path: None
    more.join(30)
    assert not more.is_alive()
    queue.wait()
    queue.close()


def test_a_store_where_nothing_may_be_deleted(url: Url, store: ObjectStore, server: FailingServer) -> None:
    server.refuse = lambda method, path: 403 if method == "DELETE" else None
    with pytest.raises(OutputError, match="access is denied") as caught:
        ResultStore(url)
    assert "deletes objects" in str(caught.value.advice)
    assert store.keys("case") == []


def test_a_store_that_ignores_conditions(url: Url, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put_object = Objects._put
    monkeypatch.setattr(Objects, "_put", lambda self, name, content, new=False: put_object(self, name, content))
    with pytest.raises(OutputError, match="ignores conditional writes"):
        ResultStore(url)
    assert store.keys("case") == []


def test_a_store_that_has_no_conditions(url: Url, server: FailingServer) -> None:
    server.refuse = lambda method, path: 501 if method == "PUT" else None
    with pytest.raises(OutputError, match="does not support the request") as caught:
        ResultStore(url)
    assert "conditional writes" in str(caught.value.advice)


def test_a_folder_of_the_cache_that_leads_elsewhere(url: Url, tmp_path: Path) -> None:
    cache = ResultStore(url)
    cache.close()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"a photo")
    (cache.out / ".lock").unlink(missing_ok=True)
    cache.out.rmdir()
    cache.out.symlink_to(mine)
    with pytest.raises(OutputError, match="is no folder but a link"):
        ResultStore(url)
    assert files(mine) == {"photo.jpg"}


def test_a_reader_while_a_run_comes_to_its_end(
    url: Url, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(url) as results:
        put(results, image("evidence/a.jpg"))
    read = Objects.get_file

    def replaced(self: Objects, name: str, to: Path, size: int) -> None:
        monkeypatch.setattr(Objects, "get_file", read)
        with open_store(url) as results:
            put(results, image("evidence/b.jpg"))
        read(self, name, to, size)

    monkeypatch.setattr(Objects, "get_file", replaced)
    found = segments.fetch_log(Objects(url), tmp_path / "log")
    assert found.size == len((tmp_path / "log").read_bytes()) == len(store.get("case", OUT + "records.jsonl"))


@pytest.mark.usefixtures("soon")
def test_segments_of_runs_that_never_end_become_one_log(
    url: Url, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "_MOST_PARTS", 2)
    for number in range(3):
        results = open_store(url)
        put(results, image(f"evidence/{number}.jpg"))
        until(lambda: len(lines(store)) > number)  # noqa: B023 - called at once
        die(results)
        bury(store)
    results = open_store(url)
    assert not [name for name in written(store) if name.startswith("records.parts")]
    assert len(store.get("case", OUT + "records.jsonl").splitlines()) == 3
    results.close()


def test_the_end_of_a_run_leaves_what_came_after_it(url: Url, store: ObjectStore) -> None:
    results = open_store(url)
    put(results, image())
    end = (results.out / "records.jsonl").stat().st_size
    later = f"{OUT}records.parts/{end:016d}.jsonl"
    store.put("case", later, b"{}\n")
    results.close()
    assert store.get("case", later) == b"{}\n"
    assert len(store.get("case", OUT + "records.jsonl")) == end


def test_many_folders_of_pictures_are_listed_at_once(
    url: Url, server: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "_FEW_FOLDERS", 2)
    names = [f"evidence/{number}/a.jpg" for number in range(8)]
    with open_store(url) as results:
        for name in names:
            put(results, image(name))
    results = open_store(url)
    server.requests.clear()
    known = results.resume()
    assert all(known.lookup(name, SHA) for name in names)
    assert len(server.requests) == 2 * 3
    assert known.lookup("evidence/8/a.jpg", SHA) is None
    results.close()
