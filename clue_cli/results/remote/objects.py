"""Requests to an object store: repeated for a while if they fail, and confirmed."""

from __future__ import annotations

import base64
import errno
import hashlib
import mimetypes
import re
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from clue_cli.errors import ClueError, OutputError, UsageError
from clue_cli.remote import Problem, Url, filesystem, problem_of, store_errors

PATIENCE = 300.0
"""Seconds for which a request is repeated while a run is going on."""

THREADS = 16
"""Requests at a time."""

_LONGEST_WAIT = 30.0
_FEW = 3
"""How often a request is tried that is refused for a reason which time seldom removes."""

_REFUSED = frozenset(
    {Problem.DENIED, Problem.NO_BUCKET, Problem.NO_CREDENTIALS, Problem.WRONG_CREDENTIALS, Problem.ELSEWHERE}
)
_LOCAL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_WHOLE = 64 << 20
"""Larger objects are sent in parts, each with a checksum of its own."""

_MOST_KEY = 1024
"""Bytes of a key in S3; the strictest of the usual stores."""

_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_DENIED = "These credentials may not write there: clue lists, reads, writes and deletes objects below --out."

Result = TypeVar("Result")


class Objects:
    """The objects below one URL, by their names relative to it. Thread-safe.

    Args:
        url: of the prefix.
        raising: the class of all errors below.

    Attributes:
        raising: the class of errors.
        patience: seconds for which a request that failed is repeated.

    Raises:
        UsageError: no results can be kept at such a URL, or the plug-in is missing.
        OutputError: the plug-in cannot be set up.
    """

    def __init__(self, url: Url, raising: type[ClueError] = OutputError) -> None:
        if url.protocol in ("http", "https"):
            raise UsageError(f"{url.shown}: no results are kept behind {url.protocol}.", "Name a folder or a bucket.")
        parts = url.key.split("/") if url.key else []
        if "" in parts or "." in parts or ".." in parts or "?" in url.key:
            raise UsageError(
                f"{url.shown} is no place for results.",
                f"Name a folder in the bucket, such as {url.protocol}://{url.bucket}/results, without . or .. or ?.",
            )
        self.url, self.patience = url, 0.0
        self.raising = raising
        self._fs, self._root = filesystem(url, raising)
        self._s3 = url.protocol == "s3"
        self._hurry = threading.Event()

    def check_names(self, longest: int) -> None:
        """Raise UsageError if names of so many bytes are too long together with the prefix."""
        if len(self.url.key.encode()) + 1 + longest > _MOST_KEY:
            raise UsageError(f"{self.url.shown} is too long for a results folder.", "Choose a shorter --out.")

    def hurry(self) -> None:
        """Repeat no request from now on."""
        self._hurry.set()

    def names(self, folder: str = "", most: int | None = None) -> dict[str, int | None]:
        """What lies directly below a folder, and its size in bytes; None for a folder. Empty if there is nothing.

        Args:
            most: about how many are looked at.
        """
        return self._persistently(folder, "listed", lambda: dict(self._entries(folder, most)))

    def hashes(self, folder: str, *, deep: bool) -> array[int]:
        """`hash()` of the name of each object in a folder that is not empty, relative to the URL.

        Args:
            deep: also in the folders below.
        """
        if not self._s3:
            path = self._path(folder)

            def find() -> array[int]:
                found = self._fs.find(path, maxdepth=None if deep else 1, detail=True)
                names = (name for name, entry in found.items() if entry["size"])
                start = len(str(self._fs._strip_protocol(self._root)).rstrip("/")) + 1
                return array("q", (hash(name[start:]) for name in names))

            return self._persistently(folder, "listed", find)

        from fsspec.asyn import sync

        bucket, key, _ = self._fs.split_path(self._path(folder))
        start = len(self._root) + 1

        async def collect() -> array[int]:
            found = array("q")
            async for entry in self._fs._iterdir(bucket, prefix=f"{key}/", delimiter="" if deep else "/"):
                if entry["type"] != "directory" and entry["size"]:
                    found.append(hash(entry["name"][start:]))
            return found

        return self._persistently(folder, "listed", lambda: sync(self._fs.loop, collect))

    def put(self, name: str, content: bytes) -> None:
        """Write an object, or replace it; when this returns the store has confirmed that it has these bytes."""
        self._persistently(name, "written", lambda: self._put(name, content))

    def create(self, name: str, content: bytes) -> bool:
        """`put` for an object that must not exist. False if there is one with other bytes."""

        def make() -> bool:
            try:
                self._put(name, content, new=True)
            except Exception as error:
                if not isinstance(error, FileExistsError) and problem_of(error) is not Problem.CHANGED:
                    raise
                return False
            return True

        # A request may have been carried out although its answer was lost.
        return self._persistently(name, "written", make) or self.get(name) == content

    def put_file(self, name: str, path: Path) -> None:
        """`put` for a file of any size."""
        size = path.stat().st_size
        if size <= _WHOLE:
            self.put(name, path.read_bytes())
            return

        def send() -> None:
            self._fs.put_file(str(path), self._path(name), **({"max_concurrency": 2} if self._s3 else {}))
            self._confirm_size(name, size)

        self._persistently(name, "written", send)

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """The content of an object, or its first bytes if it is not empty; None if there is none."""

        def read() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(self._path(name), **({} if most is None else {"start": 0, "end": most})))
            except FileNotFoundError as error:
                if problem_of(error) is Problem.NO_BUCKET:
                    raise
                return None

        return self._persistently(name, "read", read)

    def get_file(self, name: str, to: Path, size: int) -> None:
        """Read an object of a size that is known into a file.

        Raises:
            OutputError: what was read is of another size, or cannot be read.
        """

        def read() -> None:
            try:
                self._fs.get_file(self._path(name), str(to))
            except OSError as error:
                if error.errno in _LOCAL_ERRORS and not hasattr(error.__cause__, "response"):
                    message = f"{to} cannot be written: {error.strerror}."
                    raise self.raising(message, "Free some space on that disk.") from error
                raise
            if to.stat().st_size != size:
                raise OSError(f"{to.stat().st_size} bytes were read, {size} were listed")

        self._persistently(name, "read", read)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; what does not exist is no error."""

        def one(name: str) -> None:
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError as error:
                if problem_of(error) is Problem.NO_BUCKET:
                    raise

        self.each(names, lambda name: self._persistently(name, "deleted", lambda: one(name)))

    def each(self, names: Iterable[str], action: Callable[[str], Result]) -> list[Result]:
        """The results of an action for each of a few thousand names, several at a time."""
        wanted = list(names)
        if len(wanted) <= 1:
            return list(map(action, wanted))
        with ThreadPoolExecutor(min(THREADS, len(wanted))) as pool:
            return list(pool.map(action, wanted))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _entries(self, folder: str, most: int | None) -> Iterator[tuple[str, int | None]]:
        path = self._path(folder)
        if self._s3:  # its `ls` lists the folder above, too, if it finds nothing
            found = self._listed_by_s3(path, most)
        else:
            try:
                found = [(entry["name"], entry["type"], entry["size"]) for entry in self._fs.ls(path, detail=True)]
            except FileNotFoundError:
                return
        for entry, kind, size in found:
            name = entry.rstrip("/").rpartition("/")[2]
            if entry.rstrip("/") != str(self._fs._strip_protocol(path)).rstrip("/"):
                yield name, None if kind == "directory" else int(size or 0)

    def _listed_by_s3(self, path: str, most: int | None) -> list[tuple[str, str, int]]:
        from fsspec.asyn import sync

        bucket, key, _ = self._fs.split_path(path)

        async def collect() -> list[tuple[str, str, int]]:
            listed = self._fs._iterdir(bucket, prefix=f"{key}/" if key else "", max_items=most)
            return [(str(entry["name"]), entry["type"], entry["size"]) async for entry in listed]

        found: list[tuple[str, str, int]] = sync(self._fs.loop, collect)
        return found

    def _put(self, name: str, content: bytes, *, new: bool = False) -> None:
        extra: dict[str, Any] = {"mode": "create"} if new else {}
        md5 = hashlib.md5(content, usedforsecurity=False)  # the one digest that every store compares
        if self._s3:
            kind = mimetypes.guess_type(name)[0]
            extra |= {"ContentType": kind} if kind else {}
            extra |= {"ContentMD5": base64.b64encode(md5.digest()).decode()} if len(content) <= _WHOLE else {}
        said = self._fs.pipe_file(self._path(name), content, **extra)
        answer = said if isinstance(said, dict) else {}
        tag = _ETAG.fullmatch(str(answer.get("ETag", "")))
        if (
            tag is None
            or "KMS" in str(answer.get("ServerSideEncryption", "")).upper()
            or "SSECustomerAlgorithm" in answer
        ):
            self._confirm_size(name, len(content))
        elif tag[1] != md5.hexdigest():
            raise OSError(f"the store has other bytes: MD5 {tag[1]}, sent were {md5.hexdigest()}")

    def _confirm_size(self, name: str, size: int) -> None:
        stored = self._fs.info(self._path(name))["size"]
        if stored != size:
            raise OSError(f"the store has {stored} bytes, sent were {size}")

    def _persistently(self, name: str, doing: str, request: Callable[[], Result]) -> Result:
        """The result of a request, which is repeated with growing waits while there is patience."""
        begun, tried = time.monotonic(), 0
        while True:
            try:
                with self._errors(name, doing):
                    return request()
            except self.raising as error:
                tried += 1
                wait = min(_LONGEST_WAIT, 2.0 ** (tried - 1))
                hopeless = getattr(error, "problem", None) in _REFUSED and tried >= _FEW
                if hopeless or time.monotonic() + wait > begun + self.patience or self._hurry.wait(wait):
                    raise

    @contextmanager
    def _errors(self, name: str, doing: str) -> Iterator[None]:
        try:
            with store_errors(self.url.below(name) if name else self.url, doing, self.raising):
                yield
        except self.raising as error:
            if getattr(error, "problem", None) is Problem.DENIED and self.raising is OutputError:
                error.advice = _DENIED
            raise
