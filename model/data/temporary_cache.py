"""Folders for what is decoded, which go with their owners; those of runs that were killed go with the next run."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl

    LOCKS = True
except ImportError:  # on Windows: there what is left of a killed run stays
    LOCKS = False

PREFIX, LOCK = "clue-photos-", ".clue-in-use"
"""The folders' names begin with one; in each is the other, a file locked for as long as a process uses the folder. The
system ends a lock with its process, however that ends, so that no number of a process can be taken for another's."""
_TRIES = 3


def temporary_cache(owner: object) -> Path:
    """A new folder below TMPDIR, which goes when its owner does, or when this is called after its process was killed.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(tempfile.gettempdir())
    remove_abandoned(place)
    for left in reversed(range(_TRIES)):
        folder = Path(tempfile.mkdtemp(prefix=_prefix(), dir=place))
        lock = _locked(folder / LOCK, os.O_CREAT)
        if lock is not None:
            break
        if left:  # somebody who tidied up came between the two steps
            shutil.rmtree(folder, ignore_errors=True)
        else:  # this place knows no locks: without the file, nobody takes the folder for abandoned
            (folder / LOCK).unlink(missing_ok=True)
    weakref.finalize(owner, _remove, folder, lock, os.getpid())
    return folder


def remove_abandoned(place: Path) -> None:
    """Remove the folders of this user's on this machine that no process uses any more; others are left alone."""
    if not LOCKS:
        return
    with suppress(OSError), os.scandir(place) as found:
        for entry in found:
            if not entry.name.startswith(_prefix()) or not _own_folder(entry):
                continue
            folder = Path(entry.path)
            lock = _locked(folder / LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _prefix() -> str:
    """Tells machines apart: on a shared disk, a lock may be known to the machine alone that holds it."""
    return f"{PREFIX}{hashlib.sha256(platform.node().encode('utf-8', 'surrogateescape')).hexdigest()[:8]}-"


def _own_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return False


def _locked(path: Path, create: int = 0) -> int | None:
    """The file, open and locked for this process and its forks; None: it is not there, or another's."""
    if not LOCKS:
        return None
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | create, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):  # else it was removed before it was locked
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _remove(folder: Path, lock: int | None, owner: int) -> None:
    """Remove a folder, unless this is a forked worker, whose owner is only a copy."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)
