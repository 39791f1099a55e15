"""Which recorded evidence each path stands for: it may have another name now, or lie elsewhere.

A scan names evidence by its last folder, tells equal names apart by numbers, and names what comes from a list by whole
paths. A path that is named for verification is taken for that recorded folder or file of which most files are there
with their sizes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePath

from clue_cli.custody.observed import name_on_disk
from clue_cli.evidence.locator import MEMBER, escape_name
from clue_cli.evidence.walk import whole_path, with_locators

_SAMPLE = 500
"""Recorded files by which a place is judged."""
_MOST = 100
"""Places that are considered for a path."""
_NAMES = 5
"""Names in a folder by which it is looked for among what was recorded."""


class Places:
    """Where recorded evidence is now.

    Args:
        rows: with a table `listed` of locator, root and size.
        paths: that were named.

    Attributes:
        recorded: the recorded locator of each path, by the locator that a walk gives it now; empty if the path is the
            folder above.
        renamed: what was taken for evidence of another name, as pairs of path and recorded locator.
        unknown: paths that stand for nothing that was recorded.
    """

    def __init__(self, rows: sqlite3.Connection, paths: Sequence[Path]) -> None:
        self._rows = rows
        self._roots = {root for (root,) in rows.execute("SELECT DISTINCT root FROM listed LIMIT 10000")}
        self._numbered = {root.rpartition("~")[0] for root in self._roots if _is_numbered(root)}
        self._paths: dict[str, Path] = {}
        self.recorded: dict[str, str] = {}
        self.renamed: list[tuple[Path, str]] = []
        self.unknown: list[Path] = []
        named = [(path, locator, name) for path, locator, name in with_locators(paths) if isinstance(path, Path)]
        for path, locator, name in named:
            found = self._place(path, locator, escape_name(name), alone=len(named) == 1)
            if found is None:
                self.unknown.append(path)
            place = locator if found is None else found
            self.recorded[locator] = place
            self._paths.setdefault(place, path)
            if place != locator:
                self.renamed.append((path, place))

    def of(self, locator: str) -> str:
        """The locator as it was recorded, of one that a walk gives now."""
        root = root_of(locator)
        place = self.recorded.get(root, root)
        return place + locator[len(root) :] if place else locator[len(root) :].lstrip("/")

    def path_of(self, locator: str) -> Path | None:
        """Where a recorded file, or the archive that it is in, would be now; None: no path stands for it."""
        top = locator.partition(MEMBER)[0]
        if "://" in top:
            return None
        place = top
        while place not in self._paths:
            if not place:
                return None
            if "/" not in place and _is_numbered(place) and "" in self._paths:
                return None  # the second of two paths with one name is in another folder
            place = place.rpartition("/")[0]
        below = name_on_disk(top[len(place) :].strip("/"))
        if below is None or leads_out(Path(below)):
            return None  # no scan records that
        return self._paths[place] / below

    def _place(self, path: Path, locator: str, name: str, *, alone: bool) -> str | None:
        """What was recorded that a path stands for; None if it is nothing."""
        if locator in self._roots and name not in self._numbered:
            return locator
        best, most = "", 0
        tried: set[str] = set()
        for place in self._candidates(path, locator, name):
            if place in tried or place in self._paths or "://" in place:
                continue
            if len(tried) == _MOST:
                break
            tried.add(place)
            if (hits := self._hits(path, place)) > most:
                best, most = place, hits
        if most:
            return best
        left = self._roots - set(self._paths)
        if locator in left:
            return locator
        if len(left) == 1 and alone and (path.is_dir() or self._is_file(*left)):
            (root,) = left
            return str(root)
        return None

    def _is_file(self, root: str) -> bool:
        return self._rows.execute("SELECT 1 FROM listed WHERE locator = ?", (root,)).fetchone() is not None

    def _candidates(self, path: Path, locator: str, name: str) -> Iterator[str]:
        if locator in self._roots:
            yield locator
        yield from sorted(root for root in self._roots if root == name or root.rpartition("~")[0] == name)
        yield whole_path(path)
        yield whole_path(Path(os.path.abspath(path)))  # noqa: PTH100 - a link keeps its name
        yield from self._recorded_above(name, itself=True)
        yield ""
        yield from sorted(self._roots)
        for inside in _first_names(path):
            yield from self._recorded_above(inside, itself=False)

    def _recorded_above(self, name: str, *, itself: bool) -> Iterator[str]:
        """The recorded places of a name, or the folders that it is in."""
        query = "SELECT locator FROM listed WHERE instr('/' || replace(locator, '!/', '/') || '/', ?)"
        for (found,) in self._rows.execute(query, (f"/{name}/",)):
            parts = found.partition(MEMBER)[0].split("/")
            if name in parts:
                yield "/".join(parts[: parts.index(name) + itself])

    def _hits(self, path: Path, place: str) -> int:
        """How many of the first files of a recorded place are there with their sizes."""
        query = "SELECT locator, size FROM listed WHERE instr(locator, ?) = 0"
        values: tuple[object, ...] = (MEMBER,)
        if place:
            query += " AND (locator = ? OR (locator > ? AND locator < ?))"
            values += (place, f"{place}/", f"{place}0")
        hits = 0
        for locator, size in self._rows.execute(f"{query} LIMIT {_SAMPLE}", values):
            below = name_on_disk(locator[len(place) :].strip("/"))
            if below is None or leads_out(Path(below)):
                continue
            try:
                there = os.stat(path / below if below else path)  # noqa: PTH116 - many of them
            except (OSError, ValueError):
                continue
            hits += size in (None, there.st_size)
        return hits


def _first_names(path: Path) -> list[str]:
    """Names of some files and folders in a folder, as locators have them."""
    try:
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        return [escape_name(name) for name in names[:_NAMES]]
    except OSError:
        return []


def _is_numbered(root: str) -> bool:
    """Whether a name was told apart from another one; a name on disk that ends like that is escaped."""
    return root.rpartition("~")[2].isdigit() and "~" in root


def root_of(locator: str) -> str:
    """The first part of a locator; of an object in a store the whole."""
    return locator.partition("/")[0].removesuffix("!") if "://" not in locator else locator


def leads_out(below: PurePath) -> bool:
    """Whether a recorded name would lead out of the evidence that it is said to lie below."""
    return bool(below.anchor) or ".." in below.parts


def shared_end(one: str, other: str) -> int:
    """How many names two locators have in common at their end."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def move(recorded: str, now: str) -> tuple[str, str] | None:
    """The folders in which a file was and is, by the same name in them; None if no folder explains its new name."""
    shared = shared_end(recorded, now)
    source, target = ("/".join(one.split("/")[:-shared]) for one in (recorded, now)) if shared else ("", "")
    return (source, target) if target else None
