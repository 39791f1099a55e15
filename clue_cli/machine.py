"""How many cores and how much memory this process may use: of the machine, or less in a container.

Linux says it in control groups; both versions are read, with all groups above, since the tightest limit holds.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

_PROC = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")

LIBRARIES = ("pillow", "numpy", "torch")
"""What decodes and computes: another version of one can change pixels and scores in their last digits."""


@contextmanager
def no_collection(*, keep: bool = False) -> Iterator[None]:
    """Without garbage collection inside: for imports, whose many objects stay, and are searched in vain otherwise.

    Measured with torch, 180,000 objects: a sixth of the import's processor time.

    Args:
        keep: exempt what is there at the end from all later collections.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
        if enabled:
            gc.enable()


def library_versions() -> dict[str, str | None]:
    """The versions of `LIBRARIES`, None for one that is not installed as a package."""
    found: dict[str, str | None] = dict.fromkeys(LIBRARIES)
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


_most_cores: int | None = None


def limit_cores(count: int) -> None:
    """Let `cores` return at most this: other processes of the same run are to have the rest."""
    global _most_cores
    _most_cores = count


def cores() -> int:
    """How many cores this process may keep busy, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups("cpu") if (quota := _quota(folder)) is not None]
    return max(1, int(min([allowed, *quotas, *([] if _most_cores is None else [_most_cores])])))


def memory() -> int | None:
    """How many bytes of memory this process may use, with all that is running beside it; None if that is not known."""
    limits = [limit for folder in _groups("memory") if (limit := _limit(folder)) is not None]
    return min([*limits, *([total] if (total := _physical()) else [])], default=None)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, innermost first."""
    try:
        lines = _PROC.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        # Version 1 has a tree for each controller. In a container the path may be the host's: what is not there is
        # passed over, and the root of the tree is the container's own group.
        root = _MOUNT if not names else next(
            (_MOUNT / name for name in (names, controller) if (_MOUNT / name).is_dir()), _MOUNT
        )  # fmt: skip
        inside = PurePosixPath("/", path).relative_to("/")
        for above in (inside, *inside.parents):
            yield root / above


def _quota(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")  # version 2: `max 100000`
    if len(words) != 2:
        words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    quota, period = (_number(word) for word in (words if len(words) == 2 else ["", ""]))
    return quota / period if quota and period else None


def _limit(folder: Path) -> int | None:
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [_number(word) for name in names for word in _words(folder / name)[:1]]
    return min((limit for limit in limits if limit), default=None)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("ascii", "replace").split()
    except OSError:
        return []


def _number(word: str) -> int | None:
    """A positive number; None for `max`, for -1, and for what version 1 says where there is no limit."""
    return number if word.isdigit() and 0 < (number := int(word)) < 1 << 60 else None


def _physical() -> int | None:
    if hasattr(os, "sysconf"):
        with suppress(ValueError, OSError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sys.platform == "win32":
        status = (ctypes.c_ulonglong * 8)(64)  # MEMORYSTATUSEX: two 32-bit fields, then the total
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(status):
            return status[1]
    return None
