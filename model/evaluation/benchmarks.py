"""The field's benchmarks by name: whether they are here, what they hold, and what is wrong with them.

    found = find("coverage", Path("/data/forensics"))
    for sample in found.samples: ...

The sets themselves are in `model.datasets`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.datasets.layouts import Dataset
from model.datasets.own import LIST_LAYOUT, find_path
from model.datasets.registry import DATASETS, Located, how_to_get, locate
from model.datasets.sample import Kind, Problem, Sample
from model.errors import UserError
from model.evaluation.ground import HeaderReader, MadeSample, TruthReader, ground, truth_of
from model.images.pixels import DamagedFileError, read_header

SUSPECT_SHARE = 0.5
"""A set is reported as inverted if more than this share of its masks, and at least three, look inverted."""


class EvaluationError(UserError, ValueError):
    """An error of an evaluation, described in one sentence."""


class BenchmarkNotFound(EvaluationError):
    """A data set is unknown, or not where it was looked for; says where to get it and how to lay it out."""


class StrictError(EvaluationError):
    """Strict mode met a problem; names the first ten."""


@dataclass(frozen=True, slots=True)
class Found:
    """A data set as it lies on this disk.

    Attributes:
        name: of the benchmark, or the path that was given.
        layout: name of the layout it was found in.
        folder: where it lies.
        benchmark: its entry in the registry; None for a path.
        samples: the images, sorted by key.
        problems: what is wrong with it.
        ignored: how many files were no pictures.
    """

    name: str
    layout: str
    folder: Path
    benchmark: Dataset | None
    samples: list[Sample]
    problems: list[Problem]
    ignored: int

    @property
    def counts(self) -> tuple[int, int]:
        """Forged and authentic images."""
        forged = sum(entry.forged for entry in self.samples)
        return forged, len(self.samples) - forged

    @property
    def is_list(self) -> bool:
        """Whether it is a list of files, which may lie anywhere."""
        return self.layout == LIST_LAYOUT

    @property
    def complete(self) -> bool | None:
        """Whether the counts are those of a known edition of the set; None where nothing is known of it."""
        if self.benchmark is None or not self.benchmark.counts:
            return None
        return self.counts in self.benchmark.counts


@dataclass(frozen=True, slots=True)
class Status:
    """One line of `clue eval --list`. `found` is None where the set is not here."""

    benchmark: Dataset
    found: Found | None

    @property
    def words(self) -> str:
        """`not here`, `complete`, `here` where nothing is expected, or `incomplete` with the counts."""
        if self.found is None:
            return "not here"
        forged, authentic = self.found.counts
        counts = f"{forged} forged, {authentic} authentic"
        if self.found.complete is None:
            return f"here: {counts}"
        return f"complete: {counts}" if self.found.complete else f"incomplete: {counts}, {self.benchmark.expected}"


def expand(name: str) -> list[str]:
    """The sets that a word of the command line means: one, `all` benchmarks, all versions of a set, or of a network.

    Raises:
        BenchmarkNotFound: it means none.
    """
    if name in DATASETS:
        return [name]
    benchmarks = [known for known, dataset in DATASETS.items() if not dataset.training]
    named = [known for known in benchmarks if name in ("all", known.rpartition("-")[0], known.rpartition("-")[2])]
    if not named:
        raise BenchmarkNotFound(f"there is no benchmark named {name!r}; known are all, {', '.join(DATASETS)}")
    return named


def limited(entries: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """A random part of a set, sorted by key: both classes in about the proportion of the set, one of each at least.

    The seed and the keys alone decide, and a smaller limit chooses among what a larger one does, so that a larger one
    continues from there.
    """
    if limit is None or limit >= len(entries):
        return list(entries)

    def draw(entry: Sample) -> bytes:
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
    read: TruthReader = truth_of,
    read_head: HeaderReader = read_header,
) -> Found:
    """A benchmark by name below `root`, with all that is wrong with it.

    Args:
        deep: open every image and decode every mask, to find what cannot be read, masks of another size, empty ones,
            and an inverted set; otherwise no file is opened, and measuring the images says it.
        strict: raise if there is any problem.
        read, read_head: read a ground truth and a header, where `deep`.

    Raises:
        BenchmarkNotFound: unknown name, or not there; says where to get it and how to lay it out.
        StrictError: see `strict`.
    """
    benchmark = DATASETS.get(name)
    if benchmark is None:
        raise BenchmarkNotFound(f"there is no benchmark named {name!r}; known are {', '.join(DATASETS)}")
    found = _locate(benchmark, root)
    if found is None:
        raise BenchmarkNotFound(f"{name} was not found in {root}.\n{how_to_get(benchmark)}")
    return _checked(found, deep, strict, (read, read_head))


def find_at(
    path: Path,
    *,
    deep: bool = True,
    strict: bool = False,
    read: TruthReader = truth_of,
    read_head: HeaderReader = read_header,
) -> Found:
    """Any folder or list as a benchmark (`lists.find_path`); the rest as in `find`.

    Raises:
        EvaluationError: the path is laid out in no way that is known.
    """
    try:
        at = Located(path if path.is_dir() else path.parent, *find_path(path))
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    return _checked(_found(str(path), at, None), deep, strict, (read, read_head))


def status(root: Path | None) -> list[Status]:
    """All benchmarks, and which are here; nothing is decoded."""
    return [Status(benchmark, _locate(benchmark, root) if root else None) for benchmark in DATASETS.values()]


def digest(entries: Sequence[Sample]) -> str:
    """SHA-256, hex, over the sorted keys, classes, and sizes and contents of images and masks; files are streamed.

    Raises:
        DamagedFileError: a file cannot be read.
    """
    total = hashlib.sha256(b"clue data set 1\n")
    for entry in sorted(entries, key=lambda entry: os.fsencode(entry.key)):
        total.update(b"%s\0%d\0%s\n" % (os.fsencode(entry.key), entry.forged, entry.style.encode()))
        if isinstance(entry, MadeSample):
            total.update(f"{entry.content}\n".encode())
            continue
        for path in (entry.image, *entry.masks):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                    size = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise DamagedFileError(f"{path}: {error}") from error
            total.update(f"{size} {content}\n".encode())
    return total.hexdigest()


def _locate(dataset: Dataset, root: Path) -> Found | None:
    try:
        found = locate(dataset, root)
    except OSError as error:
        raise EvaluationError(f"{root} cannot be read: {error}") from error
    return None if found is None else _found(dataset.name, found, dataset)


def _found(name: str, at: Located, dataset: Dataset | None) -> Found:
    samples = sorted(at.listing.samples, key=lambda sample: sample.key)
    return Found(name, at.layout, at.folder, dataset, samples, at.listing.problems, at.listing.ignored)


def _checked(found: Found, deep: bool, strict: bool, readers: tuple[TruthReader, HeaderReader]) -> Found:
    looks: list[bool | None] = []
    for entry in found.samples if deep else ():
        about = ground(entry, *readers)
        found.problems.extend(problem for problem in about.problems if problem.kind is not Kind.MASK_MISSING)
        looks.append(about.inverted)
    upside_down = inverted_set(found.name, looks)
    if upside_down is not None:
        found.problems.append(upside_down)
    if strict and found.problems:
        more = f"\nand {len(found.problems) - 10} more" if len(found.problems) > 10 else ""
        raise StrictError("\n".join(str(problem) for problem in found.problems[:10]) + more)
    return found
