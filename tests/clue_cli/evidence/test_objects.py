"""Evidence in a store, over HTTP: the same as in a folder, whatever the keys are called and whatever goes wrong."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from clue_cli.errors import NothingToScanError
from clue_cli.evidence import objects
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Skipped, Unreadable
from clue_cli.evidence.objects import Store, ahead, check_url, open_store
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.shard import Shard
from clue_cli.evidence.streams import ReadFailure
from clue_cli.evidence.walk import WalkOptions, check_paths, walk
from clue_cli.records import FailureCode, Step
from clue_cli.remote import RemoteError, Url, parse
from tests.clue_cli.evidence.collect import READER
from tests.faults.pictures import jpeg
from tests.object_store import ObjectStore

PICTURE = jpeg(24, 16)


def events(*paths: str | Path, listed: Iterable[str] = (), **options: object) -> dict[str, str | bytes]:
    """What a walk comes upon, by locator: the bytes of a picture, or what became of anything else, in a word."""
    found: dict[str, str | bytes] = {}
    given = [path if isinstance(path, Path) else parse(path) for path in paths]
    for event in walk(given, WalkOptions(**options), READER, [parse(url) for url in listed]):  # type: ignore[arg-type]
        assert event.locator not in found or isinstance(event, Unreadable | ArchiveOpened), event
        match event:
            case Item():
                content = read_item(event)
                if isinstance(content, Unreadable):
                    found[event.locator] = f"{content.code}: {content.message}"
                else:
                    found[event.locator] = "other" if isinstance(content, NotAPicture) else content[0]
            case Skipped(reason=reason):
                found[event.locator] = f"skipped: {reason}"
            case Unreadable():
                found[event.locator] = f"{event.code}: {event.message}"
            case ArchiveOpened():
                found[event.locator] = "archive"
    return found


@pytest.fixture
def case(object_store: ObjectStore) -> ObjectStore:
    object_store.bucket("case")
    return object_store


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


OPTIONS: list[dict[str, object]] = [
    {},
    {"hidden": True},
    {"results": True},
    {"made": False},
    {"selection": Selection(include=("*.jpg",), exclude=("sub", "pack.zip/in.jpg"))},
    {"selection": Selection(since=4e9)},
    {"archive_depth": 0},
    {"shard": Shard(1, 2)},
    {"shard": Shard(2, 2)},
]


def test_a_bucket_gives_what_the_same_folder_gives(case: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "u"
    contents = {
        "a.jpg": PICTURE,
        "a/b/deep.jpg": PICTURE,
        "a.txt": b"text",
        ".hidden/x.jpg": PICTURE,
        "sub/.y.jpg": PICTURE,
        "sub/empty.jpg": b"",
        "pack.zip": zipped(**{"in.jpg": PICTURE, "more/.z.jpg": PICTURE}),
        "tail.zip": b"before it" + zipped(**{"in.jpg": PICTURE}),
        "scans/run.json": b'{"tool": "clue"}',
        "scans/masks/a.png": PICTURE,
        "scans/.clue.lock": b"",
        "scans/mine.jpg": PICTURE,
        "made/forge.json": b'{"tool": {"clue": 1}}',
        "made/images/a.jpg": PICTURE,
        "images/no results.jpg": PICTURE,
        "wü$t und\x07\u202egpj.exe~2!": PICTURE,
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    case.upload(folder, "case", "u/")
    root = "s3://case/"
    for options in OPTIONS:
        found = {locator.removeprefix(root): content for locator, content in events("s3://case/u", **options).items()}
        assert found == events(folder, **options), options


def test_hostile_keys_are_read_and_told_apart(case: ObjectStore) -> None:
    keys = [
        "p/../../etc/x.jpg",
        "p/./a.jpg",
        "p/a.jpg",
        "p//a.jpg",
        "p///a.jpg",
        "p/A.jpg",
        "p/a\x01\x1b[2J.jpg",
        "p/a?versionId=x&b#c%20d.jpg",
        "p/x!/a.jpg",
        "p/s3:/case/p/a.jpg",
        "p/\u202egpj.exe",
        "p/" + "k" * 1018 + ".jpg",
        "p/folder.jpg/",
        "p/" + "d/" * 400 + "a.jpg",
    ]
    for key in keys:
        case.put("case", key, PICTURE)
    case.put("case", "p/marker/", b"")
    case.put("case", "p/", b"")
    found = events("s3://case/p")
    assert len(found) == len(keys)
    assert [locator for locator, content in found.items() if content != PICTURE] == []
    assert all(locator.isprintable() and locator.startswith("s3://case/p/") for locator in found)
    assert r"s3://case/p/\u002e\u002e/\u002e\u002e/etc/x.jpg" in found
    assert {r"s3://case/p/\u002f/a.jpg", r"s3://case/p/\u002f/\u002f/a.jpg", r"s3://case/p/\u002e/a.jpg"} < set(found)


def test_listings_are_read_page_by_page(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAGE", 10)
    monkeypatch.setattr(objects, "AHEAD_OBJECTS", 4)
    for number in range(35):
        case.put("case", f"p/{number:03}.txt", b"text")
    case.front.requests.clear()
    walking = walk([parse("s3://case/p")], WalkOptions(), READER)
    next(walking)
    pages = [request for request in case.front.requests if "list-type=2" in request]
    assert len(pages) == 1
    assert len(list(walking)) == 34
    assert len([request for request in case.front.requests if "list-type=2" in request]) == 4


def test_an_object_and_a_folder_of_one_name_are_both_taken(case: ObjectStore) -> None:
    case.put("case", "x.jpg", PICTURE)
    case.put("case", "x.jpg/y.jpg", PICTURE)
    case.put("case", "x.jpgs", PICTURE)
    assert list(events("s3://case/x.jpg")) == ["s3://case/x.jpg", "s3://case/x.jpg/y.jpg"]


def test_urls_inside_one_another_and_twice(case: ObjectStore) -> None:
    case.put("case", "a/.b/c.jpg", PICTURE)
    case.put("case", "a/d.jpg", PICTURE)
    found = events("s3://case/a", "s3://case/a/", listed=["s3://case/a/.b", "s3://case/nothing"])
    assert found == {
        "s3://case/a/.b": "skipped: hidden",
        "s3://case/a/d.jpg": PICTURE,
        "s3://case/a/.b~2/c.jpg": PICTURE,
        "s3://case/nothing": "unreadable: It does not exist.",
    }


def test_paths_that_do_not_exist(case: ObjectStore) -> None:
    case.put("case", "a/b.jpg", PICTURE)
    case.put("case", "empty/", b"")
    case.bucket("nothing-in-it")
    there = ["s3://case", "s3://case/a", "s3://case/a/b.jpg", "s3://case/empty", "s3://nothing-in-it"]
    check_paths(list(map(parse, there)))
    assert events("s3://case/empty", "s3://nothing-in-it") == {}
    for missing in ("s3://case/a/b", "s3://case/b"):
        with pytest.raises(NothingToScanError, match=f"Not found: {missing}"):
            check_paths([parse(missing)])
    with pytest.raises(RemoteError, match="there is no such bucket"):
        check_paths([parse("s3://nowhere/a")])
    case.front.rule = lambda method, path, query: (400, "ExpiredToken")
    with pytest.raises(RemoteError, match="the credentials have expired"):
        check_paths([parse("s3://case/a")])


def test_what_vanishes_or_changes_becomes_a_failure_and_the_rest_is_read(case: ObjectStore) -> None:
    for number in range(4):
        case.put("case", f"{number}.jpg", PICTURE)

    def meddle(method: str, path: str, query: str) -> None:
        if (method, path) == ("GET", "/case/0.jpg"):
            case.front.rule = None
            case.client.delete_object(Bucket="case", Key="1.jpg")
            case.put("case", "2.jpg", PICTURE + b"more")

    case.front.rule = meddle
    objects_ahead, objects.AHEAD_OBJECTS = objects.AHEAD_OBJECTS, 1
    try:
        found = events("s3://case")
    finally:
        objects.AHEAD_OBJECTS = objects_ahead
    assert found["s3://case/0.jpg"] == found["s3://case/3.jpg"] == PICTURE
    assert found["s3://case/1.jpg"] == "unreadable: It vanished between listing and reading."
    assert str(found["s3://case/2.jpg"]).startswith("changed_during_scan: s3://case/2.jpg cannot be read: it changed")


def test_a_large_archive_is_read_in_ranges_of_one_version(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1 << 16)
    noise = np.random.default_rng(0).bytes(300_000)
    content = zipped(**{"a.bin": noise, "b.jpg": PICTURE, "c.bin": noise, "d.jpg": PICTURE})
    case.put("case", "big.zip", content)
    found = events("s3://case/big.zip")
    assert found == {
        "s3://case/big.zip": "archive",
        "s3://case/big.zip!/a.bin": "other",
        "s3://case/big.zip!/b.jpg": PICTURE,
        "s3://case/big.zip!/c.bin": "other",
        "s3://case/big.zip!/d.jpg": PICTURE,
    }

    def replace(method: str, path: str, query: str) -> None:
        if len([request for request in case.front.requests if request == "GET /case/big.zip"]) == 3:
            case.front.rule = None
            case.put("case", "big.zip", content + b"\0")

    case.front.requests.clear()
    case.front.rule = replace
    assert "changed_during_scan" in str(events("s3://case/big.zip")["s3://case/big.zip"])


def test_an_object_file_reads_like_a_file(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1000)
    content = np.random.default_rng(1).bytes(10_500)
    case.put("case", "x", content)
    store = open_store(parse("s3://case/x"), {})
    listed = store.itself()
    assert listed is not None
    plain, drawn = io.BytesIO(content), np.random.default_rng(2)
    with store.open(listed, content[:700]) as file:
        for _ in range(60):
            where, size = int(drawn.integers(0, 11_000)), int(drawn.integers(0, 3000))
            assert file.seek(where) == plain.seek(where)
            assert file.read(size) == plain.read(size)
        assert file.seek(-500, os.SEEK_END) == 10_000
        assert file.read() == content[-500:]
        assert len(file._blocks) <= objects._BLOCKS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "access is denied"),
        (503, "SlowDown", "too many requests"),
        (400, "InvalidObjectState", "archive tier"),
    ],
)
def test_one_object_that_is_refused(
    case: ObjectStore, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    monkeypatch.setattr("clue_cli.remote.ATTEMPTS", 2)
    case.put("case", "a.jpg", PICTURE)
    case.put("case", "b.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (status, code) if path == "/case/a.jpg" else None
    found = events("s3://case")
    assert words in str(found["s3://case/a.jpg"]) and str(found["s3://case/a.jpg"]).startswith("unreadable")
    assert found["s3://case/b.jpg"] == PICTURE


def test_a_prefix_without_permission_is_a_failure_and_the_next_path_is_read(case: ObjectStore) -> None:
    case.put("case", "mine/a.jpg", PICTURE)
    case.put("case", "theirs/b.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (403, "AccessDenied") if "theirs" in path + query else None
    check_paths([parse("s3://case/theirs"), parse("s3://case/mine")])
    found = events("s3://case/theirs", "s3://case/mine")
    assert found.pop("s3://case/mine/a.jpg") == PICTURE
    assert found == {"s3://case/theirs": "unreadable: s3://case/theirs cannot be listed: access is denied."}


def test_who_may_read_an_object_need_not_be_allowed_to_list(case: ObjectStore) -> None:
    case.put("case", "a.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (403, "AccessDenied") if "list-type" in query else None
    assert events("s3://case/a.jpg") == {"s3://case/a.jpg": PICTURE}


def test_expired_credentials_end_the_walk_after_what_was_fetched(case: ObjectStore) -> None:
    for number in range(9):
        case.put("case", f"{number}.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (
        (400, "ExpiredToken") if path == "/case/5.jpg" or "token=" in query else None
    )
    seen = []
    with pytest.raises(RemoteError, match="the credentials have expired") as caught:
        for event in walk([parse("s3://case")], WalkOptions(), READER):
            seen.append(event.locator)
            assert not isinstance(event, Item) or not isinstance(read_item(event), Unreadable)
    assert seen == [f"s3://case/{number}.jpg" for number in range(6)]
    assert caught.value.advice is not None and "resumes" in caught.value.advice


def test_a_body_that_breaks_off_is_asked_for_again(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    case.put("case", "a.jpg", PICTURE)
    aiohttp = pytest.importorskip("aiohttp")
    from aiobotocore.response import StreamingBody

    original, failures = StreamingBody.read, [1, 1]

    async def torn(self: object, *arguments: object, **named: object) -> bytes:
        if failures:
            failures.pop()
            raise aiohttp.ClientPayloadError("broke off")
        return bytes(await original(self, *arguments, **named))

    monkeypatch.setattr(StreamingBody, "read", torn)
    assert events("s3://case") == {"s3://case/a.jpg": PICTURE}
    assert failures == []


def _listing(*keys: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    entries = "".join(f"<Contents><Key>{key}</Key><Size>{len(PICTURE)}</Size></Contents>" for key in keys)
    return (
        f"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{more}{entries}</ListBucketResult>".encode()
    )


@pytest.mark.parametrize(
    ("listing", "why"),
    [
        (b"<html>The console</html>", "what answers does not speak S3"),
        (_listing("elsewhere/x.jpg"), "objects that are not below the prefix"),
        (_listing("in/a.jpg", more="<IsTruncated>true</IsTruncated>"), "does not say where it goes on"),
        (
            _listing(
                "in/a.jpg", more="<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
            ),
            "the listing goes in a circle",
        ),
    ],
)
def test_a_listing_that_makes_no_sense_is_a_failure(case: ObjectStore, listing: bytes, why: str) -> None:
    case.put("case", "in/a.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (200, {}, [listing]) if "list-type" in query else None
    found = events("s3://case/in")
    assert why in str(found.pop("s3://case/in"))
    assert found in ({}, {"s3://case/in/a.jpg": PICTURE})  # no other one, and none twice


def test_a_listing_that_comes_in_drops_is_given_up(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BODY_SECONDS", 1)

    def drops() -> Iterable[bytes]:
        for _ in range(100):
            time.sleep(0.1)
            yield b" "

    case.front.rule = lambda method, path, query: (200, {}, drops()) if "list-type" in query else None
    began = time.monotonic()
    with pytest.raises(RemoteError, match="the store cannot be reached"):
        events("s3://case")
    assert time.monotonic() - began < 8


def test_one_object_whose_bytes_are_not_those_of_the_listing(
    case: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "ATTEMPTS", 2)
    monkeypatch.setattr(objects, "BODY_SECONDS", 5)
    for name in ("cut", "fine", "long", "slow"):
        case.put("case", f"{name}.jpg", PICTURE)
    sent = []

    def endless() -> Iterable[bytes]:
        for _ in range(1000):
            sent.append(1)
            yield bytes(1 << 20)

    def slow() -> Iterable[bytes]:
        for number in range(len(PICTURE)):
            time.sleep(0.1)
            yield PICTURE[number : number + 1]

    answers = {"/case/cut.jpg": lambda: [PICTURE[:9]], "/case/long.jpg": endless, "/case/slow.jpg": slow}

    def rule(method: str, path: str, query: str) -> object:
        length = {} if path == "/case/long.jpg" else {"Content-Length": str(len(PICTURE))}
        return (200, length, answers[path]()) if path in answers else None

    case.front.rule = rule  # type: ignore[assignment]
    found = events("s3://case")
    assert found["s3://case/fine.jpg"] == PICTURE
    assert "do not arrive, while the store answers" in str(found["s3://case/cut.jpg"])
    assert "bytes came in 5 seconds" in str(found["s3://case/slow.jpg"])
    assert f"More than {len(PICTURE)} bytes came" in str(found["s3://case/long.jpg"])
    assert len(sent) < 100


def test_redirects_are_not_followed(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    case.put("case", "a.jpg", PICTURE)
    case.client.put_object_acl(Bucket="case", Key="a.jpg", ACL="public-read")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-for-one-store")
    away = {"Location": f"{case.endpoint}/elsewhere/a.jpg", "Content-Length": "0"}
    case.front.rule = lambda method, path, query: (302, away, []) if path == "/case/a.jpg" else None
    assert "at another endpoint" in str(events("s3://case")["s3://case/a.jpg"])
    assert "at another endpoint" in str(events("s3://case/a.jpg")["s3://case/a.jpg"])
    assert "redirects to another address" in str(list(events(f"{case.endpoint}/case/a.jpg").values()))
    assert not [request for request in case.front.requests if "elsewhere" in request]


def test_an_object_that_may_be_read_but_not_asked_about(case: ObjectStore) -> None:
    case.put("case", "a.jpg", PICTURE)
    case.front.rule = lambda method, path, query: (403, "AccessDenied") if method == "HEAD" else None
    assert events("s3://case/a.jpg") == {"s3://case/a.jpg": PICTURE}
    assert not check_url(parse("s3://case/b.jpg"), {})


def test_a_web_server_that_knows_no_ranges(case: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1000)
    content = np.random.default_rng(3).bytes(5500)
    length = {"Content-Length": str(len(content))}
    case.front.rule = lambda method, path, query: (200, length, [] if method == "HEAD" else [content])
    store = open_store(parse(f"{case.endpoint}/case/x"), {})
    listed = store.itself()
    assert listed is not None
    with store.open(listed) as file:
        assert file.seek(2300) and file.read(1000) == content[2300:3300] and file.read() == content[3300:]


def test_objects_are_fetched_ahead_in_order_and_within_bounds(case: ObjectStore) -> None:
    for number in range(40):
        case.put("case", f"{number:02}.jpg", PICTURE)
    case.front.seconds = 0.02
    assert list(events("s3://case")) == [f"s3://case/{number:02}.jpg" for number in range(40)]
    assert 4 < case.front.most_at_once <= objects.AHEAD_OBJECTS

    started = threading.Event()

    class Thing:
        size = objects.AHEAD_BYTES // 3

    def things() -> Iterable[objects.Fetched]:
        for number in range(100):
            assert number < 5 or started.is_set()
            yield fetched[number]

    fetched = [object.__new__(objects.Fetched) for _ in range(100)]
    for thing in fetched:
        thing.size, thing._first = Thing.size, None
    taken = ahead(iter(things()))
    assert next(taken) is fetched[0]
    started.set()
    assert list(taken) == fetched[1:]


def test_other_plug_ins_are_listed_folder_by_folder_and_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.store.clear()
    for name in ("b/z.jpg", "b/sub/y.jpg", "b/a.jpg", "bb/x.jpg"):
        memory.pipe(f"/{name}", PICTURE)
    store: Store = objects._Plugin(Url("memory", "b"), memory)
    listed = list(store.below())
    assert [found.path for found in listed] == ["a.jpg", "sub/y.jpg", "z.jpg"]
    assert store.open(listed[0]).read() == PICTURE
    assert store.itself() is None
    memory.pipe("/b/a.jpg", PICTURE + b"?")
    with pytest.raises(ReadFailure, match="it changed after it was listed") as caught:
        store.open(listed[0]).read()
    assert caught.value.code is FailureCode.CHANGED_DURING_SCAN
    odd = {"name": "b/l", "type": "link", "size": None}
    assert store._object("l", "b/l", odd).is_link  # type: ignore[attr-defined]
    with pytest.raises(ReadFailure, match="does not say how long"):
        objects.Fetched(store, store._object("l", "b/l", odd), "", "l").look()  # type: ignore[attr-defined]
    memory.rm("/b/z.jpg")
    with pytest.raises(ReadFailure, match="vanished"):
        store.open(listed[2]).read()
    memory.store.clear()


def test_one_file_of_a_web_server(case: ObjectStore) -> None:
    case.put("case", "a.jpg", PICTURE)
    case.client.put_object_acl(Bucket="case", Key="a.jpg", ACL="public-read")
    url = f"{case.endpoint}/case/a.jpg"
    assert check_url(parse(url), {})
    assert list(events(url).values()) == [PICTURE]
    assert not check_url(parse(f"{case.endpoint}/case/b.jpg"), {})


def test_the_step_of_a_failure_is_reading(case: ObjectStore) -> None:
    case.put("case", "a.jpg", PICTURE)
    (item,) = walk([parse("s3://case")], WalkOptions(), READER)
    case.client.delete_object(Bucket="case", Key="a.jpg")
    assert isinstance(item, Item) and not item.is_member
    with item.open() as stream:
        stream.read()  # these bytes were fetched before
    failed = read_item(item)
    assert isinstance(failed, Unreadable) and failed.step is Step.READ
