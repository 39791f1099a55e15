"""The field's benchmarks by name: whether they are here, what they hold, and what is wrong with them.

    found = find("coverage", Path("/data/forensics"))
    for entry in found.entries: ...

A set is looked for in the root, in a folder of one of its names (case, blanks and punctuation do not matter), and a
folder in a folder, as archives unpack, is seen through. The registry itself is in `registry.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.evaluation.ground import HeaderReader, TruthReader, ground, truth_of
from model.evaluation.layouts import Entry, Listing
from model.evaluation.lists import LIST_LAYOUT, find_path
from model.evaluation.problems import (
    BenchmarkNotFound,
    EvaluationError,
    Kind,
    Problem,
    raise_if_any,
)
from model.evaluation.registry import BENCHMARKS, Benchmark
from model.images.pixels import DamagedFileError, read_header

SUSPECT_SHARE = 0.5
"""A set is reported as inverted if more than this share of its masks, and at least three, look inverted."""

Tick = Callable[[Entry], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A data set as it lies on this disk.

    Attributes:
        name: of the benchmark, or the path that was given.
        layout: name of the layout it was found in.
        folder: where it lies.
        benchmark: its entry in the registry; None for a path.
        entries: the images, sorted by key.
        problems: what is wrong with it.
        ignored: how many files were no pictures.
    """

    name: str
    layout: str
    folder: Path
    benchmark: Benchmark | None
    entries: list[Entry]
    problems: list[Problem]
    ignored: int

    @property
    def counts(self) -> tuple[int, int]:
        """Forged and authentic images."""
        forged = sum(entry.forged for entry in self.entries)
        return forged, len(self.entries) - forged

    @property
    def is_list(self) -> bool:
        """Whether it is a list of files, which may lie anywhere."""
        return self.layout == LIST_LAYOUT

    @property
    def complete(self) -> bool | None:
        """Whether the counts are those of a known edition of the set; None where nothing is known of it."""
        return None if self.benchmark is None else self.counts in self.benchmark.counts


@dataclass(frozen=True, slots=True)
class Status:
    """One line of `clue eval --list`. `found` is None where the set is not here."""

    benchmark: Benchmark
    found: Found | None

    @property
    def words(self) -> str:
        """`not here`, `complete`, or `incomplete` with the counts."""
        if self.found is None:
            return "not here"
        forged, authentic = self.found.counts
        counts = f"{forged} forged, {authentic} authentic"
        return f"complete: {counts}" if self.found.complete else f"incomplete: {counts}, {self.benchmark.expected}"


def expand(name: str) -> list[str]:
    """The benchmarks that a word of the command line means: one, `all`, all versions of a set, or of a network.

    Raises:
        BenchmarkNotFound: it means none.
    """
    named = [known for known in BENCHMARKS if name in ("all", known)]
    named = named or [
        known for known in BENCHMARKS if name == known.rpartition("-")[0] or name == known.rpartition("-")[2]
    ]
    if not named:
        raise BenchmarkNotFound(f"there is no benchmark named {name!r}; known are all, {', '.join(BENCHMARKS)}")
    return named


def limited(entries: Sequence[Entry], limit: int | None, seed: int) -> list[Entry]:
    """A random part of a set, sorted by key: both classes in about the proportion of the set, one of each at least.

    The seed and the keys alone decide, and a smaller limit chooses among what a larger one does, so that a larger one
    goes on from there.
    """
    if limit is None or limit >= len(entries):
        return list(entries)

    def draw(entry: Entry) -> bytes:
        return hashlib.sha256(b"%d\0%s" % (seed, os.fsencode(entry.key))).digest()

    forged = sorted((entry for entry in entries if entry.forged), key=draw)
    authentic = sorted((entry for entry in entries if not entry.forged), key=draw)
    share = round(limit * len(forged) / len(entries))
    if forged and authentic and limit > 1:
        share = min(max(share, 1), limit - 1)
    share = max(share, limit - len(authentic))
    return sorted(forged[:share] + authentic[: limit - share], key=lambda entry: entry.key)


def inverted_set(name: str, looks: Iterable[bool | None]) -> Problem | None:
    """Whether a set, or the chosen part of one, looks inverted.

    Args:
        looks: `Ground.inverted` of each of its images.
    """
    masks = [bool(look) for look in looks if look is not None]
    suspects = sum(masks)
    if suspects >= 3 and suspects > SUSPECT_SHARE * len(masks):
        return Problem(Kind.SET_INVERTED, name, f"{suspects} of {len(masks)} masks")
    return None


def find(
    name: str,
    root: Path,
    *,
    deep: bool = True,
    strict: bool = False,
    tick: Tick | None = None,
    read: TruthReader = truth_of,
    read_head: HeaderReader = read_header,
) -> Found:
    """A benchmark by name below `root`, with all that is wrong with it.

    Args:
        deep: open every image and decode every mask, to find what cannot be read, masks of another size, empty ones,
            and an inverted set; otherwise no file is opened, and measuring the images says it.
        strict: raise if there is any problem.
        tick: called after each image that was checked.
        read, read_head: read a ground truth and a header, where `deep`.

    Raises:
        BenchmarkNotFound: unknown name, or not there; says where to get it and how to lay it out.
        StrictError: see `strict`.
    """
    benchmark = BENCHMARKS.get(name)
    if benchmark is None:
        raise BenchmarkNotFound(f"there is no benchmark named {name!r}; known are {', '.join(BENCHMARKS)}")
    found = _locate(benchmark, root)
    if found is None:
        raise BenchmarkNotFound(f"{name} was not found in {root}.\n{how_to_get(benchmark)}")
    return _checked(found, deep, strict, tick, (read, read_head))


def find_at(
    path: Path,
    *,
    deep: bool = True,
    strict: bool = False,
    tick: Tick | None = None,
    read: TruthReader = truth_of,
    read_head: HeaderReader = read_header,
) -> Found:
    """Any folder or list as a benchmark (`lists.find_path`); the rest as in `find`.

    Raises:
        EvaluationError: the path is laid out in no way that is known.
    """
    layout, listing = find_path(path)
    folder = path if path.is_dir() else path.parent
    found = Found(str(path), layout, folder, None, listing.entries, listing.problems, listing.ignored)
    return _checked(found, deep, strict, tick, (read, read_head))


def status(root: Path | None) -> list[Status]:
    """All benchmarks, and which are here; nothing is decoded."""
    return [Status(benchmark, _locate(benchmark, root) if root else None) for benchmark in BENCHMARKS.values()]


def how_to_get(benchmark: Benchmark) -> str:
    """Where a set is obtained, on what terms, and how to lay it out, as text of several lines."""
    trees = "\n".join(f"  {line}" for layout in benchmark.layouts for line in layout.describe())
    return (
        f"Obtained from: {benchmark.obtained}\nTerms: {benchmark.terms}\n"
        f"Expected: {benchmark.expected}\nLay it out as <root>/{benchmark.folders[0]}/ with one of:\n{trees}"
    )


def digest(entries: Sequence[Entry], tick: Tick | None = None) -> str:
    """SHA-256, hex, over the sorted keys, classes, and sizes and contents of images and masks; files are streamed.

    Raises:
        DamagedFileError: a file cannot be read.
    """
    total = hashlib.sha256(b"clue data set 1\n")
    for entry in sorted(entries, key=lambda entry: os.fsencode(entry.key)):
        total.update(b"%s\0%d\0%s\n" % (os.fsencode(entry.key), entry.forged, entry.style.encode()))
        for path in (entry.image, *entry.masks):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                    size = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise DamagedFileError(f"{path}: {error}") from error
            total.update(f"{size} {content}\n".encode())
        if tick:
            tick(entry)
    return total.hexdigest()


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _candidates(benchmark: Benchmark, root: Path) -> list[Path]:
    """Folders of the set's names, and what a wrapper folder of an archive holds."""
    names = {_normal(name) for name in benchmark.folders}
    if not root.is_dir():
        return []
    here = [root] if _normal(root.resolve().name) in names or "." in benchmark.folders else []
    here += [path for path in sorted(root.iterdir()) if path.is_dir() and _normal(path.name) in names]
    for path in list(here):
        for _ in range(2):
            inside = [sub for sub in path.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__"))]
            if len(inside) != 1:
                break
            path = inside[0]
            here.append(path)
    return here


def _locate(benchmark: Benchmark, root: Path) -> Found | None:
    """The candidate with the most images, the first of several."""
    best: Found | None = None
    try:
        for folder in _candidates(benchmark, root):
            for layout in benchmark.layouts:
                listing: Listing | None = layout.read(folder)
                if listing is None:
                    continue
                if best is None or len(listing.entries) > len(best.entries):
                    best = Found(
                        benchmark.name,
                        layout.name,
                        folder,
                        benchmark,
                        listing.entries,
                        listing.problems,
                        listing.ignored,
                    )
                break
    except OSError as error:
        raise EvaluationError(f"{root} cannot be read: {error}") from error
    return best


def _checked(
    found: Found, deep: bool, strict: bool, tick: Tick | None, readers: tuple[TruthReader, HeaderReader]
) -> Found:
    looks: list[bool | None] = []
    for entry in found.entries:
        if deep:
            about = ground(entry, *readers)
            found.problems.extend(problem for problem in about.problems if problem.kind is not Kind.MASK_MISSING)
            looks.append(about.inverted)
        if tick:
            tick(entry)
    upside_down = inverted_set(found.name, looks)
    if upside_down is not None:
        found.problems.append(upside_down)
    if strict:
        raise_if_any(found.problems)
    return found
