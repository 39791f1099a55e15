"""Safe writing below the results folder: each file appears whole or not at all, and foreign files stay untouched."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from clue_cli.errors import OutputError

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
_RESUME = "What was finished is recorded; the same command goes on from there."


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the system reports while `path` is written into an `OutputError` with its cause and advice."""
    try:
        yield
    except OSError as error:
        shown = error.filename if isinstance(error.filename, str) else path
        advice = _ADVICE.get(error.errno or 0, "Check the disk, or choose another folder with --out.")
        cause = error.strerror or str(error)
        raise OutputError(f"Cannot write the results: {shown}: {cause}.", f"{advice} {_RESUME}") from error
    except sqlite3.Error as error:
        raise OutputError(
            f"Cannot keep the index of the results in the folder for temporary files: {error}.",
            f"Free some space there, or set SQLITE_TMPDIR to another folder. {_RESUME}",
        ) from error


class OutputFolder:
    """Files below one folder, written atomically: first under `.tmp/`, then moved to their place.

    Args:
        root: the folder; it exists.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / ".tmp"
        self._number = itertools.count()

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
        temporary = self._temporary / f"{os.getpid()}-{next(self._number)}"
        with output_errors(target):
            try:
                with _open_new(temporary) as stream:
                    yield stream
                    stream.flush()
                    if durable:
                        os.fsync(stream.fileno())
                try:
                    temporary.replace(target)
                except FileNotFoundError:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            if durable:
                _sync_folder(target.parent)

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

    def prune(self, folders: Collection[str]) -> None:
        """Remove the empty folders below these; only while nobody writes.

        Raises:
            OutputError: a folder cannot be removed.
        """
        for folder in folders:
            with output_errors(self.root / folder):
                # Links are listed as folders and not entered; a link is no empty folder.
                for path, _, _ in os.walk(self.root / folder, topdown=False):
                    if not Path(path).is_symlink() and not any(Path(path).iterdir()):
                        Path(path).rmdir()

    def inside(self, relative: str | PurePosixPath) -> Path:
        """The path on disk of a path below the folder.

        Raises:
            ValueError: it is absolute or contains `..`.
        """
        path = PurePosixPath(relative)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ValueError(f"not a path below the results folder: {str(relative)!r}")
        return self.root.joinpath(*path.parts)

    def clear_temporary(self) -> None:
        """Remove what a killed run left half-written, and the folder for it.

        Raises:
            OutputError: it cannot be removed.
        """
        with output_errors(self._temporary):
            if self._temporary.is_symlink() or not self._temporary.is_dir():
                return
            for leftover in self._temporary.iterdir():
                leftover.unlink()
            self._temporary.rmdir()


def _open_new(path: Path) -> BinaryIO:
    # Not tempfile: its files are readable by their owner alone, but results are shared like any other file.
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        return path.open("xb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
