"""Objects of a store: listed page by page, read in ranges and ahead of their turn, each in one version.

Memory does not grow with the number of objects: S3 is listed a thousand keys at a time, other stores folder by folder.
What is read is what was listed: S3 compares the ETag with each request, and of the others size, time and ETag are
compared after each one.
"""

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, TypeVar, cast

from clue_cli.evidence.formats import HEAD_SIZE, claimed_type, is_picture
from clue_cli.evidence.streams import ReadFailure
from clue_cli.records import FailureCode
from clue_cli.remote import ATTEMPTS, BODY_SECONDS, Problem, RemoteError, Url, described, filesystem, problem_of
from model.errors import ClueError

BLOCK = 4 << 20
"""Bytes of one request for what is not read whole."""

AHEAD_BYTES, AHEAD_OBJECTS = 64 << 20, 32
"""How much is fetched before its turn."""

_WHOLE_PICTURE, _WHOLE = 32 << 20, 1 << 18
"""Bytes of the largest object that is fetched whole in advance: one named like a picture, and any other."""

_BLOCKS = 4
_PAGE = 1000
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "timeModified", "modify")
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "checksum", *_TIMES)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Object:
    """One object as it was listed.

    Attributes:
        path: below the URL of the store; empty for the object that the URL itself names.
        key: its whole name in the store.
        size: bytes; -1 if the store does not say.
        modified: time of the last change, seconds since 1970, None if the store does not say.
        version: what changes when its content does, such as the ETag; empty if there is nothing.
    """

    path: str
    key: str
    size: int
    modified: float | None
    version: str
    is_link: bool = False


class NotThere(ReadFailure):
    """There is nothing at a URL."""

    def __init__(self) -> None:
        super().__init__(FailureCode.UNREADABLE, "It does not exist.", "Check the spelling in the list.")


class Store(ABC):
    """What is at and below one URL.

    Attributes:
        url: the URL.
        lost: why nothing in the store can be read any more, None while it can.
    """

    def __init__(self, url: Url) -> None:
        self.url = url
        self.lost: RemoteError | None = None

    @abstractmethod
    def itself(self) -> Object | None:
        """The object that the URL names, None if there is none. Raises ReadFailure."""

    @abstractmethod
    def below(self) -> Iterator[Object]:
        """All objects below the URL, folder by folder, sorted; one that only marks the folder itself has no path.

        Raises:
            NotThere: the URL names no folder.
            ReadFailure: the listing breaks off.
        """

    @abstractmethod
    def _begin(self, listed: Object, start: int, size: int) -> Future[bytes]:
        """Have some bytes of an object fetched, in the version that was listed."""

    def _answers(self) -> bool:
        """Whether the store can be reached although a request failed; False if that is not known."""
        return False

    @abstractmethod
    def beginning(self, path: str, size: int) -> bytes | None:
        """The first bytes of an object below the URL in any version, None if there is none or it cannot be read."""

    def fetch(self, listed: Object, start: int, size: int) -> Future[bytes]:
        """Begin to fetch bytes `start` to `start + size` of an object, fewer at its end; `wait` has them."""
        size = min(size, listed.size - start)
        if size > 0:
            return self._begin(listed, start, size)
        nothing: Future[bytes] = Future()
        nothing.set_result(b"")
        return nothing

    def wait(self, listed: Object, fetched: Future[bytes], size: int) -> bytes:
        """The bytes that were fetched.

        Raises:
            ReadFailure: they cannot be had, or are not `size` bytes.
        """
        where = self.url.shown if not listed.path else self.url.below(listed.path).shown
        data = self.attempt(fetched.result, where, one_of_many=True)
        if len(data) != size:
            came = f"More than {size:,} bytes came" if len(data) > size else f"{len(data):,} bytes came"
            raise ReadFailure(
                FailureCode.CHANGED_DURING_SCAN,
                f"{came} in the place of the {size:,} that the listing promises.",
                Problem.CHANGED.advice,
            )
        return data

    def attempt(self, action: Callable[[], T], where: str, doing: str = "read", *, one_of_many: bool = False) -> T:
        """What the action returns; raises ReadFailure if it fails, and notes if the whole store is lost.

        Args:
            where, doing: as of `described`.
            one_of_many: what breaks off may be the fault of one object: the store is asked whether it answers.
        """
        try:
            return action()
        except (ClueError, ReadFailure, MemoryError):
            raise
        except CancelledError:
            raise ReadFailure(FailureCode.UNREADABLE, "Reading it was given up.") from None
        except Exception as error:
            raise self.failure(error, where, doing, one_of_many=one_of_many) from None

    def failure(self, error: Exception, where: str, doing: str = "read", *, one_of_many: bool = False) -> ReadFailure:
        """What a plug-in's error means; notes if the whole store is lost."""
        problem = problem_of(error)
        if one_of_many and problem is Problem.UNREACHABLE and self._answers():
            problem = Problem.BROKEN
        problem, message = described(error, where, doing, problem)
        if problem.is_total:
            self.lost = RemoteError(message, problem.advice)
        if problem is Problem.MISSING and doing == "read":
            return ReadFailure(FailureCode.UNREADABLE, "It vanished between listing and reading.")
        code = FailureCode.CHANGED_DURING_SCAN if problem is Problem.CHANGED else FailureCode.UNREADABLE
        return ReadFailure(code, message, problem.advice)

    def open(self, listed: Object, first: bytes = b"") -> BinaryIO:
        """The object as a file; `first`: its first bytes, if they are there."""
        return cast(BinaryIO, _ObjectFile(self, listed, first))


def open_store(url: Url, opened: dict[str, Any]) -> Store:
    """The store of a URL; `opened` keeps the connections of one run, by protocol. Raises ClueError."""
    if url.protocol not in opened or url.protocol in ("sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs"):
        opened[url.protocol] = filesystem(url)[0]
    kind = _S3 if url.protocol == "s3" else _Plugin
    return kind(url, opened[url.protocol])


def check_url(url: Url, opened: dict[str, Any]) -> bool:
    """Whether there is something at or below a URL. One request or two; True if that may not be known.

    Args:
        opened: as of `open_store`.

    Raises:
        RemoteError: the store cannot be reached, or has no such bucket.
    """
    store = open_store(url, opened)
    try:
        if store.itself() is None:
            next(store.below(), None)
    except NotThere:
        return False
    except ReadFailure as failure:
        if store.lost is not None:
            raise store.lost from None
        if Problem.NO_BUCKET.words[1:-1] in failure.message:
            raise RemoteError(failure.message, failure.advice) from None
    return True


class _S3(Store):
    def __init__(self, url: Url, opened: Any) -> None:
        super().__init__(url)
        self._opened = opened
        self._prefix = f"{url.key}/" if url.key else ""

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        call = self._opened._call_s3(method, Bucket=self.url.bucket, **arguments)
        limited = asyncio.wait_for(call, BODY_SECONDS)  # an answer may come in drops for ever
        return cast(dict[str, Any], asyncio.run_coroutine_threadsafe(limited, self._opened.loop).result())

    def itself(self) -> Object | None:
        key = self.url.key
        if not key:
            return None
        try:
            head = self._call("head_object", Key=key)
        except Exception as error:
            if problem_of(error) is Problem.MISSING:
                return None
            if problem_of(error) is Problem.UNREACHABLE:
                raise self.failure(error, self.url.shown) from None
            return self._unlike_head(key)
        return Object("", key, int(head["ContentLength"]), _time(head), str(head.get("ETag", "")))

    def _unlike_head(self, key: str) -> Object | None:
        """What GET says of an object that HEAD is refused for: an answer to HEAD has no body, and with it no reason."""
        try:
            got = self._call("get_object", Key=key, Range="bytes=0-0")
        except Exception as error:
            if problem_of(error) is Problem.MISSING:
                return None
            raise self.failure(error, self.url.shown) from None
        got["Body"].close()
        size = got["ContentRange"].rpartition("/")[2] if got.get("ContentRange") else got["ContentLength"]
        return Object("", key, int(size), _time(got), str(got.get("ETag", "")))

    def _page(self, more: dict[str, str]) -> tuple[list[Object], str | None]:
        """The objects of one page of the listing, and the token of the next page."""
        page = self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=_PAGE, **more)
        if "IsTruncated" not in page:
            raise self._nonsense("what answers does not speak S3")
        found = []
        for entry in page.get("Contents", ()):
            key = str(entry["Key"])
            if not key.startswith(self._prefix):
                raise self._nonsense("the listing names objects that are not below the prefix")
            path = key[len(self._prefix) :]
            found.append(Object(path, key, int(entry.get("Size", -1)), _time(entry), str(entry.get("ETag", ""))))
        if page["IsTruncated"] and not page.get("NextContinuationToken"):
            raise self._nonsense("the listing is not complete, and does not say where it goes on")
        return found, page.get("NextContinuationToken") if page["IsTruncated"] else None

    def _nonsense(self, why: str) -> ReadFailure:
        return ReadFailure(
            FailureCode.UNREADABLE,
            f"{self.url.shown} cannot be listed: {why}.",
            "Check the endpoint, such as AWS_ENDPOINT_URL, or download the objects and scan them.",
        )

    def below(self) -> Iterator[Object]:
        token: str | None = None
        tokens: set[str] = set()
        first, latest = None, None
        while True:
            more = {} if token is None else {"ContinuationToken": token}
            found, token = self.attempt(lambda: self._page(more), self.url.shown, "listed")  # noqa: B023
            if token in tokens or (found and found[0].key == first):
                raise self._nonsense("the listing goes in a circle")
            first = found[0].key if found else first
            for listed in found:
                if listed.key != latest:
                    yield listed
                latest = listed.key
            if token is None:
                if self._prefix and latest is None:
                    raise NotThere
                return
            tokens.add(token)

    def _answers(self) -> bool:
        try:
            self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)
        except Exception as error:
            return problem_of(error) is not Problem.UNREACHABLE
        return True

    def _begin(self, listed: Object, start: int, size: int) -> Future[bytes]:
        return asyncio.run_coroutine_threadsafe(self._get(listed, start, size), self._opened.loop)

    async def _get(self, listed: Object, start: int, size: int) -> bytes:
        arguments: dict[str, Any] = {"Bucket": self.url.bucket, "Key": listed.key}
        if listed.version:
            arguments["IfMatch"] = listed.version
        if size < listed.size:
            arguments["Range"] = f"bytes={start}-{start + size - 1}"
        for attempt in range(1, ATTEMPTS + 1):
            response = await self._opened._call_s3("get_object", **arguments)
            if listed.version and response.get("ETag") not in (None, listed.version):  # a server without If-Match
                response["Body"].close()
                raise _Changed
            try:
                async with response["Body"] as body:
                    return await _body(body.read, size)
            except Exception as error:  # the client repeats requests, and not what breaks off behind their heads
                if attempt == ATTEMPTS or isinstance(error, _Drips) or problem_of(error) is not Problem.UNREACHABLE:
                    raise
                await asyncio.sleep(2**attempt / 4)
        raise AssertionError

    def beginning(self, path: str, size: int) -> bytes | None:
        sought = Object(path, self._prefix + path, size + 1, None, "")
        try:
            return self._begin(sought, 0, size).result()
        except Exception:
            return None


class _Changed(Exception):
    """The object has another version than when it was listed."""

    status = 412


class _Drips(ConnectionError):
    """The bytes of a request come too slowly."""


async def _body(read: Callable[[int], Awaitable[bytes]], size: int, before: int = 0) -> bytes:
    """Some bytes of an answer, and one more if it goes on, behind those `before` them, which are not kept."""
    pieces, left = [], size + 1
    try:
        async with asyncio.timeout(BODY_SECONDS) as limit:
            while before and (piece := await read(min(before, 1 << 20))):
                before -= len(piece)
            while left and (piece := await read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _Drips(f"{size + 1 - left:,} of {size:,} bytes came in {BODY_SECONDS} seconds") from None
    return b"".join(pieces)


class _Plugin(Store):
    """Any other file system that fsspec has a plug-in for."""

    def __init__(self, url: Url, opened: Any) -> None:
        super().__init__(url)
        self._opened = opened
        self._is_web = url.protocol in ("http", "https")
        self._root = str(url) if self._is_web else str(opened._strip_protocol(str(url))).rstrip("/")
        self._threads = ThreadPoolExecutor(16, "clue-fetch")

    def itself(self) -> Object | None:
        try:
            info = self._opened.info(self._root)
        except Exception as error:
            if problem_of(error) is Problem.MISSING:
                return None
            raise self.failure(error, self.url.shown) from None
        if info.get("type") == "directory":
            return None
        return self._object("", self._root, info)

    def _object(self, path: str, name: str, info: dict[str, Any]) -> Object:
        version = [str(info[field]) for field in _VERSIONS if info.get(field) is not None]
        size = -1 if info.get("size") is None else int(info["size"])
        return Object(path, name, size, _time(info), "|".join([str(size), *version]), info.get("type") == "link")

    def below(self) -> Iterator[Object]:
        if self._is_web:  # a page is no listing
            raise NotThere
        folders = [self._entries(self._root)]
        while folders:
            entry = next(folders[-1], None)
            if entry is None:
                folders.pop()
            elif entry.get("type") == "directory":
                folders.append(self._entries(str(entry["name"]).rstrip("/")))
            else:
                name = str(entry["name"])
                yield self._object(name[len(self._root) :].lstrip("/"), name, entry)

    def _entries(self, folder: str) -> Iterator[dict[str, Any]]:
        def listed() -> list[dict[str, Any]]:
            try:
                found: list[dict[str, Any]] = self._opened.ls(folder, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                if folder == self._root:
                    raise NotThere from None
                raise
            # What is not below it would lead in a circle.
            return sorted(
                (entry for entry in found if str(entry["name"]).startswith(f"{folder}/")),
                key=lambda entry: str(entry["name"]),
            )

        return iter(self.attempt(listed, self.url.shown, "listed"))

    def _begin(self, listed: Object, start: int, size: int) -> Future[bytes]:
        return self._threads.submit(self._get, listed, start, size)

    def _get(self, listed: Object, start: int, size: int) -> bytes:
        data = self._bytes(listed, start, size)
        if listed.version and self._object("", listed.key, self._opened.info(listed.key)).version != listed.version:
            raise _Changed
        return data

    def _bytes(self, listed: Object, start: int, size: int) -> bytes:
        if not self._is_web:
            return cast(bytes, self._opened.cat_file(listed.key, start=start, end=start + size))
        fetched = self._fetch(listed.key, start, size, listed.size)
        return asyncio.run_coroutine_threadsafe(fetched, self._opened.loop).result()

    async def _fetch(self, name: str, start: int, size: int, whole: int) -> bytes:
        session = await self._opened.set_session()
        headers = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
        async with session.get(self._opened.encode_url(name), headers=headers) as answer:
            answer.raise_for_status()
            if answer.status == 206:
                return await _body(answer.content.read, size)
            data = await _body(answer.content.read, size, before=start)  # a server that knows no ranges
            return data[:size] if start + size < whole else data

    def beginning(self, path: str, size: int) -> bytes | None:
        try:
            return cast(bytes, self._opened.cat_file(f"{self._root}/{path}", start=0, end=size))
        except Exception:
            return None


def _time(info: dict[str, Any]) -> float | None:
    for field in _TIMES:
        value = info.get(field)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


class _ObjectFile(io.RawIOBase):
    """An object as a seekable file: a few blocks of it are in memory, and the next one is on its way."""

    def __init__(self, store: Store, listed: Object, first: bytes) -> None:
        self._store, self._object, self._first = store, listed, first
        self._position = 0
        self._blocks: dict[int, Future[bytes]] = {}
        self._latest = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = max(0, offset + (0, self._position, self._object.size)[whence])
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """As many bytes as are asked for, fewer at the end. Raises ReadFailure."""
        if self.closed:
            raise ValueError("read of a closed object")
        left = max(0, self._object.size - self._position)
        left = left if size is None or size < 0 else min(left, size)
        pieces = []
        while left:
            if self._position < len(self._first):
                piece = self._first[self._position : self._position + left]
            else:
                number, offset = divmod(self._position, BLOCK)
                piece = self._block(number)[offset : offset + left]
            pieces.append(piece)
            self._position += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _block(self, number: int) -> bytes:
        self._begin(number)
        if number == self._latest + 1 and (number + 1) * BLOCK < self._object.size:
            self._begin(number + 1)
        self._latest = number
        while len(self._blocks) > _BLOCKS:  # the one that was asked for first
            self._blocks.pop(next(iter(self._blocks.keys() - {number, number + 1}))).cancel()
        size = min(BLOCK, self._object.size - number * BLOCK)
        return self._store.wait(self._object, self._blocks[number], size)

    def _begin(self, number: int) -> None:
        if number not in self._blocks:
            self._blocks[number] = self._store.fetch(self._object, number * BLOCK, BLOCK)

    def close(self) -> None:
        for fetched in self._blocks.values():
            fetched.cancel()
        self._blocks, self._first = {}, b""
        super().close()


class Fetched:
    """An object whose first bytes are on their way."""

    def __init__(self, store: Store, listed: Object, locator: str, name: str) -> None:
        self.object, self.locator, self.name = listed, locator, name
        self._store = store
        whole = _WHOLE_PICTURE if is_picture(claimed_type(name)) else _WHOLE
        self.size = listed.size if listed.size <= whole else 16 * HEAD_SIZE
        self._first: Future[bytes] | None = store.fetch(listed, 0, self.size)

    def look(self) -> BinaryIO:
        """The object as a file, with its first bytes, which stay here for `open`. Raises ReadFailure."""
        assert self._first is not None
        if self.object.size < 0:
            raise ReadFailure(
                FailureCode.UNREADABLE, "The store does not say how long it is.", "Download it and scan the copy."
            )
        return self._store.open(self.object, self._store.wait(self.object, self._first, self.size))

    def open(self) -> BinaryIO:
        """The object as a file; the first one that is opened gets the bytes that are here. Raises ReadFailure."""
        first, self._first = self._first, None
        data = b"" if first is None else self._store.wait(self.object, first, self.size)
        return self._store.open(self.object, data)

    def cancel(self) -> None:
        """Its bytes are not needed."""
        if self._first is not None:
            self._first.cancel()


def ahead(things: Iterator[T]) -> Generator[T, None, None]:
    """The same things in the same order, asked for before their turn, so that several are fetched at once."""
    waiting: deque[T] = deque()
    held, error, more = 0, None, True
    try:
        while True:
            while more and (not waiting or (held < AHEAD_BYTES and len(waiting) < AHEAD_OBJECTS)):
                try:
                    thing = next(things)
                except StopIteration:
                    more = False
                except Exception as raised:  # what was listed before comes first
                    error, more = raised, False
                else:
                    waiting.append(thing)
                    held += thing.size if isinstance(thing, Fetched) else 0
            if not waiting:
                break
            thing = waiting.popleft()
            held -= thing.size if isinstance(thing, Fetched) else 0
            yield thing
    finally:
        for thing in waiting:
            if isinstance(thing, Fetched):
                thing.cancel()
    if error is not None:
        raise error
