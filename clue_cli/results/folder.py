"""A folder of results: one process writes there, files appear whole or not at all, foreign ones stay untouched."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock, Timeout

from clue_cli.errors import OutputError
from model.whole_file import remove_parts, whole_file

PARTS = ".tmp"
"""Where files are written until they are whole: one place to sweep, however large the tree of the results is."""

# Written by desktops into any folder they show, and by mkfs into the root of a disk.
SYSTEM_FILES = frozenset({".DS_Store", "desktop.ini", "Thumbs.db", "lost+found", "System Volume Information"})

_ADVICE = {
    errno.ENOSPC: "The disk is full. Free some space, or choose a folder on another disk with --out.",
    errno.EDQUOT: "Your disk quota is used up. Free some space, or choose a folder on another disk with --out.",
    errno.EACCES: "You may not write there. Check the permissions, or choose another folder with --out.",
    errno.EPERM: "You may not write there. Check the permissions, or choose another folder with --out.",
    errno.EROFS: "That file system is read-only. Choose another folder with --out.",
    errno.ENAMETOOLONG: "The name is too long for that file system. Choose a folder with a shorter path with --out.",
    errno.ENOTDIR: "A part of the path is a file. Choose another folder with --out.",
    errno.EEXIST: "A part of the path is a file. Choose another folder with --out.",
}
WAIT = "Wait until it is done, or choose another --out."
_NO_LINKS = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_RESUME = "What was finished is recorded; the same command continues from there."


def _link(source: Path, target: Path) -> None:
    """A hard link in the place of what may be there."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    except FileExistsError:
        target.unlink()
        os.link(source, target)


@contextmanager
def output_errors(path: Path, *, resumes: bool = True) -> Iterator[None]:
    """Turn what the system reports while `path` is written into an `OutputError` with its cause and advice.

    Args:
        resumes: whether the command goes on where it stopped. False: it writes this one file, or nothing.
    """
    try:
        yield
    except OSError as error:
        if not resumes:
            advice = _ADVICE.get(error.errno or 0, "Check the disk, or choose another place with --out.")
            if error.errno == errno.ENOENT and not path.parent.exists():
                advice = "Make the folder that it is to lie in first."
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.", advice) from error
        shown = error.filename if isinstance(error.filename, str) else path
        advice = _ADVICE.get(error.errno or 0, "Check the disk, or choose another folder with --out.")
        cause = error.strerror or str(error)
        raise OutputError(f"Cannot write the results: {shown}: {cause}.", f"{advice} {_RESUME}") from error
    except sqlite3.Error as error:
        raise OutputError(
            f"Cannot keep the index of the results in the folder for temporary files: {error}.",
            f"Free some space there, or set SQLITE_TMPDIR to another folder. {_RESUME}",
        ) from error


class ResultsFolder:
    """Files below one folder, written atomically: first under `.tmp/`, then moved to their place.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts = root / PARTS
        self._lock: FileLock | None = None

    @property
    def shown(self) -> str:
        """The folder as a person knows it."""
        return str(self.root)

    def make(self) -> None:
        """Make the folder if there is none.

        Raises:
            OutputError: it cannot be made.
        """
        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)

    def foreign(self, ours: Collection[str]) -> str | None:
        """The first entry that is neither one of `ours` nor one that a desktop or a disk puts into any folder.

        Raises:
            OSError: the folder cannot be read.
        """
        return self._foreign((path.name for path in self.root.iterdir()), ours)

    def _foreign(self, names: Iterable[str], ours: Collection[str]) -> str | None:
        known = {*ours, PARTS, *SYSTEM_FILES}
        return min((name for name in names if name not in known), default=None)

    def lock(self, name: str, busy: str, advice: str = WAIT) -> None:
        """Hold the lock file `name` until `release`, and remove what a killed process left half-written.

        Args:
            busy: says that another process holds it.
            advice: what to do then.

        Raises:
            OutputError: another process does, or the folder cannot be written.
        """
        lock = FileLock(self.root / name, thread_local=False)
        with output_errors(self.root):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise OutputError(busy, advice) from error
        try:
            self._sweep()
        except BaseException:
            lock.release()
            raise
        self._lock = lock

    def release(self) -> None:
        """Remove what was left half-written, and release the lock; harmless when repeated.

        Raises:
            OutputError: the former failed.
        """
        if self._lock is not None:
            lock, self._lock = self._lock, None
            try:
                self._sweep()
            finally:
                lock.release()

    @contextmanager
    def create(self, relative: str | PurePosixPath, *, durable: bool = False) -> Iterator[BinaryIO]:
        """Open a file for writing that appears in its place, whole, when the block ends without an exception.

        Args:
            relative: path below the folder.
            durable: whether it must survive a power failure from now on (slow).

        Raises:
            OutputError: it cannot be written.
            ValueError: the path leads out of the folder.
        """
        target = self.inside(relative)
        with output_errors(target):
            self.parts.mkdir(exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target, sync=durable, parts=self.parts) as stream:
                yield stream

    def write(self, relative: str | PurePosixPath, content: bytes, *, durable: bool = False) -> None:
        """`create` for what is in memory already."""
        with self.create(relative, durable=durable) as stream:
            stream.write(content)

    def link(self, source: Path, relative: str | PurePosixPath) -> None:
        """Make a file a hard link to another one, or a copy where the file system has no links between the two.

        Raises:
            OutputError: it cannot be made.
            ValueError: the path leads out of the folder.
        """
        target = self.inside(relative)
        with output_errors(target):
            try:
                _link(source, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with source.open("rb") as content, self.create(relative) as stream:
                    shutil.copyfileobj(content, stream, 1 << 20)

    def remove(self, relative: str | PurePosixPath, below: Collection[str] | None = None) -> None:
        """Remove a file that an earlier run wrote. Folders stay: another thread may be about to write there.

        Only regular files are removed, and only if no symbolic link leads out of the folder on the way: the path
        comes from a log that somebody may have edited.

        Args:
            relative: path below the folder.
            below: names of the folders one of which it must be in, None for any.

        Raises:
            OutputError: it cannot be removed.
            ValueError: the path leads out of the folder, or of `below`.
        """
        target = self.inside(relative)
        if below is not None and PurePosixPath(relative).parts[0] not in below:
            raise ValueError(f"not a place of result files: {str(relative)!r}")
        with output_errors(target):
            if target.is_symlink() or not target.is_file():
                return
            if not target.resolve().is_relative_to(self.root.resolve()):
                raise ValueError(f"a symbolic link leads out of the results folder: {str(relative)!r}")
            target.unlink(missing_ok=True)

    def move(self, relative: str, to: str) -> bool:
        """Give a file another name in the folder; returns whether it was there and could be moved.

        Raises:
            OutputError: it cannot be moved.
            ValueError: a path leads out of the folder.
        """
        source, target = self.inside(relative), self.inside(to)
        with output_errors(target):
            if source.is_symlink() or not source.is_file():
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        return True

    def prune(self, folders: Collection[str]) -> None:
        """Remove the empty folders below these; only while nobody writes.

        Raises:
            OutputError: a folder cannot be removed.
        """
        for folder in folders:
            with output_errors(self.root / folder):
                # Links are listed as folders and not entered; a link does not count as an empty folder.
                for path, _, _ in os.walk(self.root / folder, topdown=False):
                    if not Path(path).is_symlink() and not any(Path(path).iterdir()):
                        Path(path).rmdir()

    @contextmanager
    def read(self, relative: str) -> Iterator[BinaryIO]:
        """Open a file of the results for reading.

        Raises:
            OutputError: it cannot be read, or is no regular file.
            ValueError: the path leads out of the folder.
        """
        source = self.inside(relative)
        with output_errors(source):
            descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb") as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "It is not a regular file", str(source))
                yield stream

    def holds(self, relative: str) -> bool:
        """Whether there is a file that is not empty."""
        try:
            status = os.stat(f"{self.root}/{relative}")  # noqa: PTH116 - seven of these per image, and Path takes longer
        except OSError:
            return False
        # A power failure can leave the name of a file without its content.
        return stat.S_ISREG(status.st_mode) and status.st_size > 0

    def follow(self, end: int) -> None:
        """The log is open and ends at this byte; of each record that is appended to it `appended` is called."""

    def appended(self, end: int, pictures: Collection[str]) -> None:
        """A record was appended to the log, which ends at this byte now.

        Args:
            pictures: the files that the record names.

        Raises:
            OutputError: something that was written did not arrive in its place.
        """

    def publish(self) -> None:
        """Let others see all that was written so far.

        Raises:
            OutputError: it cannot be written.
        """

    def publish_pages(self, name: str) -> None:
        """`publish` for the pages below `root`, which are `NAME.html` and, from 2 on, `NAME-0002.html`; others stay.

        Raises:
            OutputError: they cannot be written.
        """

    def complete(self) -> None:
        """All is written, and the run did not fail.

        Raises:
            OutputError: it cannot be written.
        """

    def explain(self, error: OutputError) -> None:
        """After `release`: add to an error that ended the run what is safe."""

    def inside(self, relative: str | PurePosixPath) -> Path:
        """The path on disk of a path below the folder.

        Raises:
            ValueError: it is absolute or contains `..`.
        """
        path = PurePosixPath(relative)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ValueError(f"not a path below the results folder: {str(relative)!r}")
        return self.root.joinpath(*path.parts)

    def _sweep(self) -> None:
        with output_errors(self.parts):
            remove_parts(self.root)
            if self.parts.is_symlink() or not self.parts.is_dir():
                return
            for leftover in self.parts.iterdir():
                leftover.unlink()
            self.parts.rmdir()
