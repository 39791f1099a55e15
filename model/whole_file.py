"""Files and folders that are either there and whole, or as they were before."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(target: Path, write: Callable[[str], None]) -> None:
    """Make or replace a file so that it is either there and whole, on the disk, or as it was before.

    Args:
        target: the file.
        write: writes the content to the path it is given, beside the target.

    Raises:
        OSError: the file cannot be written; the former one is untouched.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(handle)
    try:
        write(temporary)
        with Path(temporary).open("rb") as file:
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """`write_whole` for text, as UTF-8."""
    write_whole(target, lambda path: _write(path, text))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, "utf-8")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `target` when the block ends without an exception.

    A folder that was there is replaced. After an exception the new one is removed, and `target` is as before. Two
    renames are needed, as no folder can be renamed onto one with files in it: a process that is killed between them
    leaves what was there as `earlier(target)`, and `settle` puts it back.

    Raises:
        OSError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file is in the way: it is not the target that is there already
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield part
        for path in sorted(part.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.chmod(0o644)
        part.chmod(0o755)
        _swap(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def earlier(target: Path) -> Path:
    """Where `whole_folder` moves the folder that it replaces, until the new one is in its place."""
    return target.with_name(f".{target.name}.earlier")


def settle(target: Path) -> bool:
    """End what a process left undone that was killed while it replaced a folder.

    Only for who is sure that nobody is replacing it at this moment.

    Returns:
        Whether the folder was missing, and the earlier one, which is whole, was put back.

    Raises:
        OSError: that cannot be done.
    """
    former = earlier(target)
    if not former.is_dir():
        return False
    if target.exists():
        _remove(former)
        return False
    former.replace(target)
    return True


def _swap(part: Path, target: Path) -> None:
    former = earlier(target)
    if not target.exists():
        part.replace(target)
        return
    _remove(former)
    try:
        target.replace(former)
        part.replace(target)
    except BaseException:
        if former.exists() and not target.exists():
            former.replace(target)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
