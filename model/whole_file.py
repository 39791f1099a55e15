"""Files and folders that are either there and whole, or as they were before."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = re.compile(r"\.[0-9a-f]{16}\.part")
"""Names of files and folders that are being written; short, as the target's may be as long as a name can be."""


@contextmanager
def whole_file(target: Path, *, sync: bool, parts: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `target` when the block ends without an exception.

    After an exception what was written is removed, and `target` is as before.

    Args:
        target: the file to make or to replace.
        sync: wait until the bytes, and the folder's entry, are on the disk. For files that cannot be made again.
        parts: the folder to write in until then, on the same file system; None: that of `target`.

    Raises:
        OSError: the file cannot be written.
    """
    part = _part(parts or target.parent)
    try:
        with part.open("xb") as stream:
            yield stream
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(target.parent)


def write_whole(target: Path, write: Callable[[str], None]) -> None:
    """`whole_file` on the disk, for a writer that needs a path.

    Args:
        target: the file.
        write: writes the content to the path it is given, beside the target.

    Raises:
        OSError: the file cannot be written; the former one is untouched.
    """
    with whole_file(target, sync=True) as stream:
        write(str(stream.name))
        _settle_file(Path(stream.name), os.fstat(stream.fileno()).st_mode)


def write_text(target: Path, text: str) -> None:
    """`whole_file` on the disk, for text, as UTF-8."""
    with whole_file(target, sync=True) as stream:
        stream.write(text.encode())


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
    part = _part(target.parent)
    part.mkdir()
    try:
        yield part
        for path in sorted(part.rglob("*")):
            if path.is_file():
                _settle_file(path, part.stat().st_mode & 0o666)
        _swap(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def remove_parts(folder: Path) -> None:
    """Remove the files and folders that a process was writing in `folder` when it was killed; links stay.

    Raises:
        OSError: one cannot be removed.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if PART.fullmatch(path.name) and not path.is_symlink():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


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


def _part(folder: Path) -> Path:
    return folder / f".{secrets.token_hex(8)}.part"


def _settle_file(path: Path, mode: int) -> None:
    """Sync it, and give it the mode that other files get: safetensors' are readable by their owner alone."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "fchmod"):  # not on Windows, where a new file has the rights of its folder
            os.fchmod(file.fileno(), mode & 0o777)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders, and NTFS keeps a journal of names
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


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
