"""Files that are either there and whole, or not there."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PART = re.compile(r"\.[0-9a-f]{16}\.part")


@contextmanager
def whole_file(path: Path, *, sync: bool) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` when the block ends without an exception.

    Until then the bytes are in a hidden file of a short random name in the same folder (the name of `path` may
    already be as long as the file system allows); after an exception that file is removed and `path` is as before.

    Args:
        path: the file to make or to replace.
        sync: wait until the bytes, and the folder's entry, are on the disk. For files that cannot be made again.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("xb") as stream:
            yield stream
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_parts(folder: Path, *, deep: bool) -> None:
    """Remove what `whole_file` left half-written in a process that was killed: regular files of its names alone.

    Args:
        deep: in all folders below as well. No link to a folder is followed then, nor is `folder` itself if it is one.

    Raises:
        OSError: one cannot be removed.
    """
    if deep and folder.is_symlink():
        return
    for place, folders, names in os.walk(folder):
        for name in filter(_PART.fullmatch, names):
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                path.unlink()
        if not deep:
            folders.clear()
