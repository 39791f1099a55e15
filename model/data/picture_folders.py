"""The pictures below a folder, and what of it is not read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Set as AbstractSet
from pathlib import Path

from model.images.pixels import SUFFIXES


def find_pictures(folder: Path, problems: list[str], suffixes: AbstractSet[str] = SUFFIXES) -> list[Path]:
    """All pictures below a folder, sorted; files of other types are counted among the problems."""
    paths: list[Path] = []
    others: Counter[str] = Counter()

    def failed(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    for top, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        links = [Path(top, name) for name in folders if Path(top, name).is_symlink()]  # os.walk stays out of them
        problems.extend(f"{link}: a link to a folder, which is not followed" for link in links)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow
            if suffix in suffixes and not name.startswith("."):
                paths.append(Path(top, name))
            elif not name.startswith(".") and suffix != ".db":
                others[suffix or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} × {suffix}" for suffix, count in sorted(others.items()))
        problems.append(f"{folder}: files that are not read as pictures: {kinds}")
    return sorted(paths)
