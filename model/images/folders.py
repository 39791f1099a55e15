"""The files below a folder. Hidden files are passed over; links to folders are not followed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from model.images.pixels import SUFFIXES

FORGE_SUMMARY, FORGE_LOG = "forge.json", "forgeries.jsonl"
"""What `clue forge` writes beside its images: a folder that holds the first is its output, the second lists it."""

Failed = Callable[[Path, str], None]
"""Called with a path that is not read, and why."""


def is_forge_output(folder: Path) -> bool:
    """Whether `clue forge` wrote this folder."""
    return is_file(folder / FORGE_SUMMARY)


def is_file(path: Path) -> bool:
    """Whether there is such a file; also for names from a list, which no file system may allow."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: hidden ones, and what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def files_below(
    folder: Path, failed: Failed, leave_out: Collection[Path] = (), *, forged: bool = True
) -> Iterator[Path]:
    """All files below a folder, in no order.

    Args:
        failed: called for each folder that cannot be read or is a link, which may lead in a circle.
        leave_out: folders and files that are not wanted.
        forged: whether the output of `clue forge` is wanted; if not, `failed` is called for it.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                inside = [(here / entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        except OSError as error:
            failed(here, error.strerror or str(error))
            continue
        if not forged and any(path.name == FORGE_SUMMARY for path, _, _ in inside):
            failed(here, f"made by `clue forge`, left out; {FORGE_LOG} in it can be given as a list")
            continue
        for path, is_folder, is_link in inside:
            if is_hidden(path.name) or path in leave_out:
                continue
            if not is_folder:
                yield path
            elif is_link:
                failed(path, "a link to a folder is not followed")
            else:
                waiting.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_pictures(folder: Path, problems: list[str], *, forged: bool = True) -> list[Path]:
    """All pictures below a folder, sorted.

    Args:
        problems: what is not read is added, in words; files of other types are counted.
        forged: as in `files_below`.
    """
    paths: list[Path] = []
    others: Counter[str] = Counter()
    for path in files_below(folder, lambda place, why: problems.append(f"{place}: {why}"), forged=forged):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            paths.append(path)
        elif suffix != ".db":
            others[suffix or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} × {suffix}" for suffix, count in sorted(others.items()))
        problems.append(f"{folder}: files that are not read as pictures: {kinds}")
    return sorted(paths)
