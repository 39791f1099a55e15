"""A results folder in an object store, for the run that writes there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from clue_cli.errors import OutputError
from clue_cli.remote import Url
from clue_cli.results import names
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import WAIT, ResultsFolder, output_errors
from clue_cli.results.notes import NOTES
from clue_cli.results.reader import LOG, RUN, SEGMENTS, TORN
from clue_cli.results.remote.lock import RemoteLock
from clue_cli.results.remote.objects import PATIENCE, Objects
from clue_cli.results.remote.segments import MOST_ENTRIES, Segments, fetch_log, segment, starts
from clue_cli.results.remote.uploads import Uploads
from clue_cli.terminal import counted

_RUNS = "runs"
_MOST_RUN = 64 << 20
"""Bytes of the largest `run.json` that is looked at."""

_BEGINNING = 64
"""Bytes by which a log is known."""

_RUN_NAME = re.compile(r"\w[\w.~-]*\.json")
_FEW_FOLDERS = 32
"""How many folders of pictures are listed one by one, below each of the streamed folders, before all are at once."""

_MOST_PARTS = 1000
"""Segments that runs may leave which never come to their end, before the log is made one object again."""

_IMPATIENCE = 10.0
"""Seconds for which a request is repeated while a run ends that failed."""


class RemoteFolder(ResultsFolder):
    """As `ResultsFolder`; `root` is a folder of the cache, with everything but the pictures.

    Args:
        url: where the results are.
        streamed: the folders below it whose files are not kept locally.

    Raises:
        UsageError, OutputError: as of `Objects`; there is no folder for the cache.
    """

    def __init__(self, url: Url, streamed: Collection[str]) -> None:
        super().__init__(cache_folder() / "results" / hashlib.sha256(str(url).encode()).hexdigest()[:32])
        self._objects = Objects(url)
        self._objects.check_names(names.MAX_PATH + max(map(len, streamed)) + 1)
        self._streamed = streamed
        self._here: FileLock | None = None
        self._remote: RemoteLock | None = None
        self._uploads: Uploads | None = None
        self._segments: Segments | None = None
        self._fetched, self._names = 0, frozenset[str]()
        self._parts: list[str] = []
        self._written: int | None = None
        self._removed: set[str] = set()
        self._removing = threading.Lock()
        self._unsaved: dict[str, None] = {}
        self._listed: dict[str, NDArray[np.int64]] = {}
        self._folders_listed: Counter[str] = Counter()

    @property
    def shown(self) -> str:
        """The URL."""
        return self._objects.url.shown

    def make(self) -> None:
        """Take the folder of the cache, and fetch that by which results are known again."""
        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check_own(self.root)
            self._here = FileLock(self.root / ".lock", thread_local=False)
            try:
                self._here.acquire(timeout=0)
            except Timeout as error:
                self._here = None
                message = f"Another scan of this machine is writing to {self.shown}."
                raise OutputError(message, "Wait until it is done, or choose another --out.") from error
        try:
            self._clear()
            known = self._objects.names(most=MOST_ENTRIES)
            if 0 < (known.get(RUN) or 0) <= _MOST_RUN:
                with output_errors(self.root):
                    _fetch(self._objects, self.root, RUN, known[RUN])
            if begins := self._objects.get(LOG if known.get(LOG) else segment(0), _BEGINNING):
                with output_errors(self.root):
                    (self.root / LOG).write_bytes(begins)
        except BaseException:
            self.release()
            raise

    def foreign(self, ours: Collection[str]) -> str | None:
        """As of a local folder."""
        return self._foreign({*self._objects.names(most=MOST_ENTRIES)} - {SEGMENTS}, ours)

    def lock(self, name: str, busy: str, advice: str = WAIT) -> None:
        """As of a local folder; afterwards `root` holds what the store holds, but for pictures and pages."""
        try:
            self._uploads = Uploads(self._objects)
            lock = RemoteLock(self._objects, name, self._uploads.fail)
            lock.acquire(busy, advice)
            self._remote = lock
            with output_errors(self.root):
                found = fetch_log(self._objects, self.root / LOG)
                self._objects.remove(found.superseded)
                self._fetched, self._parts, self._names = found.size, found.parts, frozenset(found.names)
                fetch_documents(self._objects, self.root, found.names)
        except BaseException:
            self.release()
            raise
        self._objects.patience = PATIENCE

    def follow(self, end: int) -> None:
        """As of a local folder; from now on what is appended to the log is written to the store."""
        torn = end != self._fetched  # a torn line of a local folder that was copied into the store was cut off
        if torn or len(self._parts) > _MOST_PARTS:
            self._objects.put_file(LOG, self.root / LOG)
            self._objects.remove(self._parts)
        self._segments = Segments(self._objects, self._open_uploads, self.root / LOG, end)

    def appended(self, end: int, pictures: Collection[str]) -> None:
        """As of a local folder; the record is written to the store once its pictures are there."""
        if self._segments is not None:
            self._remove_now()
            self._segments.appended(end, pictures)

    def holds(self, relative: str) -> bool:
        """As of a local folder, for what an earlier run wrote; its folder is listed at the first question about it.

        One request lists 1000 pictures, if they are in one folder or all are listed; so of many folders all are.
        """
        folder, top = relative.rpartition("/")[0], f"{relative.partition('/')[0]}/"
        listed = self._listed.get(top, self._listed.get(folder))
        if listed is None:
            self._folders_listed[top] += 1
            deep = self._folders_listed[top] > _FEW_FOLDERS
            listed = np.sort(np.array(self._objects.hashes(top[:-1] if deep else folder, deep=deep), dtype=np.int64))
            self._listed[top if deep else folder] = listed
        place = int(np.searchsorted(listed, hash(relative)))
        return place < len(listed) and bool(listed[place] == hash(relative))

    @contextmanager
    def read(self, relative: str) -> Iterator[BinaryIO]:
        """As of a local folder; a picture is fetched into memory."""
        name = self.inside(relative).relative_to(self.root).as_posix()
        if not self._is_streamed(name):
            with super().read(relative) as stream:
                yield stream
            return
        content = self._objects.get(name)
        if content is None:
            raise OutputError(f"{self.shown}/{name} is missing.", "Repeat the scan with --overwrite.")
        yield BytesIO(content)

    @contextmanager
    def create(self, relative: str | PurePosixPath, *, durable: bool = False) -> Iterator[BinaryIO]:
        """As of a local folder; a picture is on its way when the block ends, anything else is saved by `publish`."""
        name = self.inside(relative).relative_to(self.root).as_posix()
        if not self._is_streamed(name):
            with super().create(relative, durable=durable) as stream:
                yield stream
            self._unsaved[name] = None
            return
        content = BytesIO()
        yield content
        self._remove_now()
        self._open_uploads.add(name, content.getvalue())

    def remove(self, relative: str | PurePosixPath, below: Collection[str] | None = None) -> None:
        """As of a local folder; the object is removed before the next one is written, and at the latest by `prune`."""
        name = self.inside(relative).relative_to(self.root).as_posix()
        if below is not None and PurePosixPath(name).parts[0] not in below:
            raise ValueError(f"not a place of result files: {name!r}")
        if name == LOG:
            self._remove_log()
        else:
            with self._removing:
                self._removed.add(name)
            if len(self._removed) >= 1000:
                self._remove_now()
        if not self._is_streamed(name):
            super().remove(relative, below)
            self._unsaved.pop(name, None)

    def move(self, relative: str, to: str) -> bool:
        """No object is moved: what earlier runs left is not on this machine."""
        return False

    def prune(self, folders: Collection[str]) -> None:
        """As of a local folder; a store has no empty folders."""
        self._remove_now()
        super().prune(folders)

    def publish(self) -> None:
        """Write to the store what is not there yet, `run.json` last."""
        self._remove_now()
        if self._segments is not None:
            self._open_uploads.wait()
            self._segments.write()
        self._publish_documents()

    def complete(self) -> None:
        """Make the folder in the store what a local one is at the end of a run: one log, and the pages."""
        if self._segments is None:
            return
        self._open_uploads.wait()
        self._segments.write()
        self._segments.close()
        if self._remote is not None:
            self._remote.check()
        end = (self.root / LOG).stat().st_size
        # A segment that begins at the end or later is of a run that took the lock since.
        if parts := [start for start in starts(self._objects.names(SEGMENTS)) if start < end]:
            self._objects.put_file(LOG, self.root / LOG)
            self._objects.remove(map(segment, parts))
        if (self.root / TORN).is_file():
            self._unsaved[TORN] = None
        self.publish_pages("index")
        self.publish()

    def publish_pages(self, name: str) -> None:
        """As of a local folder."""
        pages = [path.name for path in self.root.glob("*.html")]
        for page in sorted(pages, reverse=True):  # the first part last
            self._objects.put_file(page, self.root / page)
        parts = re.compile(rf"{re.escape(name)}-\d{{4,}}\.html")
        self._objects.remove(page for page in self._names if parts.fullmatch(page) and page not in pages)

    def explain(self, error: OutputError) -> None:
        """As of a local folder."""
        if str(self.root) in error.message:
            error.advice = "Free some space on that disk, or set XDG_CACHE_HOME to a folder on another one."
        if self._written is not None:
            error.message = f"{error.message} {counted(self._written, 'record')} of this run are safe in {self.shown}."
            error.advice = f"{error.advice or 'Check the store.'} The same command continues from there."

    def release(self) -> None:
        """As of a local folder; of a run that failed what can still be written is written."""
        if self._segments is not None:
            self._objects.patience = min(self._objects.patience, _IMPATIENCE)
            if self._remote is not None and not self._remote.is_lost:
                for save in (self._open_uploads.wait, self._segments.write, self._publish_documents):
                    with suppress(OutputError):  # the one that is known ends the run
                        save()
            self._objects.hurry()
            self._segments.close()
            self._written, self._segments = self._segments.written, None
        if self._uploads is not None:
            self._uploads.close()
            self._uploads = None
        if self._remote is not None:
            with suppress(OutputError):  # it is taken over, as that of a process that is gone
                self._remote.release()
            self._remote = None
        if self._here is not None:
            with suppress(OSError):  # copies, which the next run removes
                self._clear()
            self._here.release()
            self._here = None

    @property
    def _open_uploads(self) -> Uploads:
        if self._uploads is None:
            raise RuntimeError("lock() comes first")
        return self._uploads

    def _publish_documents(self) -> None:
        for name in sorted(self._unsaved, key=lambda name: name == RUN):
            self._objects.put_file(name, self.root / name)
            del self._unsaved[name]

    def _is_streamed(self, name: str) -> bool:
        return PurePosixPath(name).parts[0] in self._streamed

    def _remove_now(self) -> None:
        with self._removing:  # who writes one of these names waits until it is gone
            if self._removed:
                self._objects.remove(self._removed)
                self._removed.clear()

    def _remove_log(self) -> None:
        """Remove the log after the pictures it names, and its end first: what is left is a log."""
        self._remove_now()
        for start in reversed(starts(self._objects.names(SEGMENTS))):
            self._objects.remove([segment(start)])
        self._objects.remove([LOG])
        self._fetched, self._parts = 0, []

    def _clear(self) -> None:
        for path in self.root.iterdir():
            if path.name == ".lock":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def fetch_documents(objects: Objects, to: Path, known: Mapping[str, int | None]) -> None:
    """Download what a results folder holds beside the log, the pictures, and what is made from the log.

    Args:
        to: the folder.
        known: what lies directly below the prefix.

    Raises:
        ClueError: of the class of `objects`: something cannot be read.
        OSError: something cannot be written.
    """
    for name in (RUN, EXPLANATIONS, NOTES, TORN):
        _fetch(objects, to, name, known.get(name))
    sizes = {name: size for name, size in objects.names(_RUNS).items() if _RUN_NAME.fullmatch(name)}
    objects.each(sizes, lambda name: _fetch(objects, to, f"{_RUNS}/{name}", sizes[name]))


def _fetch(objects: Objects, to: Path, name: str, size: int | None) -> None:
    if size is not None:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        objects.get_file(name, to / name, size)


def _check_own(folder: Path) -> None:
    """Raise OutputError if others could have put something into a folder of the cache, or if it leads elsewhere."""
    status = folder.lstat()
    mine = sys.platform == "win32" or status.st_uid == os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or not mine:
        what = "belongs to somebody else" if stat.S_ISDIR(status.st_mode) else "is no folder but a link"
        message = f"{folder}, where files are kept during the run, {what}."
        raise OutputError(message, "Remove it, or set XDG_CACHE_HOME to a folder of your own.")
    folder.chmod(0o700)


def cache_folder() -> Path:
    """The person's folder for what can be made again: $XDG_CACHE_HOME/clue, or where the platform keeps such things.

    Raises:
        OutputError: there is no home folder.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser() / "clue"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "clue"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "clue" / "cache"
        return Path.home() / ".cache" / "clue"
    except RuntimeError as error:
        raise OutputError("There is no home folder.", "Set XDG_CACHE_HOME to a folder.") from error
