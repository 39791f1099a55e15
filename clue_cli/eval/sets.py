"""From the words of `--bench` to the images that are measured."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from clue_cli.errors import DataProblemError, NothingToScanError, UsageError
from clue_cli.terminal import nearest, printable, say
from model.datasets.registry import DATASETS, how_to_get
from model.datasets.sample import Sample
from model.evaluation import BenchmarkNotFound, EvaluationError, Found, StrictError, expand, find, find_at
from model.evaluation.ground import HeaderReader, TruthReader, truth_of
from model.images.pixels import read_header

_MADE = re.compile(r"made(?::(\d*\.?\d+))?")
_EXAMPLE = "Say where the benchmarks lie with --root DIR or CLUE_DATA; `clue eval --list` shows which are known."


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """A set and which of its images are measured.

    Attributes:
        found: the set as it lies on this disk; its samples are all that it holds.
        samples: the images to measure, sorted by key.
    """

    found: Found
    samples: tuple[Sample, ...]

    @property
    def name(self) -> str:
        """Of the benchmark, or the path that was given, printable."""
        return printable(self.found.name)

    @property
    def left_out(self) -> set[str]:
        """Keys of the images that are not measured."""
        return {entry.key for entry in self.found.samples}.difference(entry.key for entry in self.samples)


def resolve(
    words: Sequence[str], root: Path | None, *, read: TruthReader | None = None, read_head: HeaderReader = read_header
) -> tuple[list[Found], list[str]]:
    """The sets behind the words of `--bench`, each once, and the names of those of a group that were not found.

    Args:
        words: names, `all`, names of groups (`autosplice`, `weibo`), `made` (`made:0.1`: a tenth of its pictures),
            paths, and several of these with commas between.
        read: strict: reads every ground truth now, and lets a problem be an error.
        read_head: reads the headers of the images then.

    Raises:
        NothingToScanError: a set is not there (where to get it is said on stderr), none of a group is, or one holds no
            picture.
        UsageError: no such name, no set given, or two names of the same images.
        DataProblemError: see `read`.
    """
    names = list(dict.fromkeys(name for word in words for name in split(word)))
    if not names:
        raise UsageError("There is nothing to measure: --bench names no set.", _EXAMPLE)
    strict = read is not None
    reading = {"deep": strict, "strict": strict, "read": read or truth_of, "read_head": read_head}
    found: dict[str, Found] = {}
    absent: list[str] = []
    for name in names:
        for member in _members(name):
            if member in found or member in absent:
                continue
            with _reasons():
                if made := _MADE.fullmatch(member):
                    found[member] = _made(member, root, float(made[1] or 1))
                elif member not in DATASETS:
                    found[member] = _at(member, reading)
                elif (one := _named(member, root, reading, alone=member == name)) is not None:
                    found[member] = one
                else:
                    absent.append(member)
        if not any(member in found for member in _members(name)):
            what = "benchmarks" if name == "all" else f"sets of {name}"
            raise NothingToScanError(f"None of the {len(_members(name))} {what} was found in {root}.", _EXAMPLE)
    empty = next((one for one in found.values() if not one.samples), None)
    if empty is not None:
        why = f": {empty.problems[0]}" if empty.problems else ""
        raise NothingToScanError(f"{empty.name} holds no picture that could be measured{why}.", _EXAMPLE)
    check_each_once(found)
    return list(found.values()), absent


def check_each_once(found: dict[str, Found]) -> None:
    """Raises UsageError: a path is the same set as another word, which averages would count twice.

    The same are the same images with the same ground truth, however the way there is spelled. A list that gives other
    masks to the images of a folder is another set.

    Args:
        found: the sets by their words.
    """
    if all(word in DATASETS for word in found):
        return
    files: dict[frozenset[object], str] = {}
    names: dict[str, str] = {}
    for word, one in found.items():
        other = files.setdefault(_files(one), word)
        if other != word and not (other in DATASETS and word in DATASETS):
            where = os.path.realpath(one.folder)
            raise UsageError(
                f"--bench gives the same images twice, as {other} and as {word}: both are in {where}.",
                "Each set is expected once: leave one of them out.",
            )
        other = names.setdefault(printable(one.name), word)
        if other != word:
            raise UsageError(
                f"--bench gives two sets that the results would both call {printable(one.name)}: {other} and {word}.",
                "Give one of them by its whole path.",
            )


def _files(found: Found) -> frozenset[object]:
    """The images and masks of a set as the file system knows them, with what is said of each image."""

    @cache
    def place(folder: Path) -> object:
        try:
            status = folder.stat()
        except OSError:  # gone meanwhile, which measuring it will say
            return os.path.realpath(folder)
        return status.st_dev, status.st_ino

    def file(path: Path) -> object:
        return place(path.parent), path.name

    return frozenset(
        (file(entry.image), frozenset(map(file, entry.masks)), entry.forged, entry.style) for entry in found.samples
    )


def _members(name: str) -> list[str]:
    """The benchmarks that a name means, or itself where it is a path."""
    if name in DATASETS or _MADE.fullmatch(name) or _exists(name):
        return [name]
    try:
        return expand(name)
    except BenchmarkNotFound:
        return [name]


def split(word: str) -> Iterator[str]:
    """Names with commas between them; a path may itself hold a comma."""
    if word and _exists(word):
        yield word
    else:
        yield from (part.strip() for part in word.split(",") if part.strip())


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # no name that the file system takes
        return False


def _named(name: str, root: Path | None, reading: dict[str, Any], *, alone: bool) -> Found | None:
    """A benchmark; None where it is not there, unless it was asked for by its own name."""
    if root is None:
        if not alone:
            raise UsageError("A group of benchmarks needs to know where they lie.", _EXAMPLE)
        _explain(name)
        raise NothingToScanError(f"It was not said where {name} lies.", _EXAMPLE)
    try:
        return find(name, root, **reading)
    except BenchmarkNotFound as error:
        if not alone:
            return None
        _explain(name)
        raise NothingToScanError(f"{name} was not found in {root}.", _EXAMPLE) from error


def _made(name: str, root: Path | None, scale: float) -> Found:
    """The pictures that are made of photos in `root`."""
    if root is None:
        raise UsageError(f"It is not known where the photos for {name} lie.", "Name the folder of photos/ with --root.")
    try:
        from model.evaluation.made import find_made
    except ModuleNotFoundError as error:
        missing = f"{name} needs {error.name}, which the extra `train` brings."
        raise UsageError(missing, "pip install 'clue-forensics[train]'") from error
    return find_made(name, root, scale)


def _at(word: str, reading: dict[str, Any]) -> Found:
    path = Path(word)
    if not _exists(word):
        raise NothingToScanError(
            f"There is no benchmark named {word}, and no such path{nearest(word, DATASETS) or '.'}",
            "`clue eval --list` shows which are known; or give a folder or a list.",
        )
    if path.name.casefold() in DATASETS:
        # A folder named like a benchmark is read in the layouts of that benchmark first; beside it may lie another
        known = path.name.casefold()
        for root in (path.absolute().parent, path.absolute()):
            with suppress(BenchmarkNotFound):
                if find(known, root, deep=False).folder.is_relative_to(path.absolute()):
                    return replace(find(known, root, **reading), name=word)
    return find_at(path, **reading)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn what `model.evaluation` raises into the errors of the command."""
    try:
        yield
    except StrictError as error:
        say(*map(printable, str(error).splitlines()))
        raise DataProblemError(
            "The data set has problems, and --strict makes them an error.",
            "Repair them, or leave --strict out: then they are named in the result.",
        ) from error
    except EvaluationError as error:
        raise NothingToScanError(f"{error}.", _EXAMPLE) from error


def _explain(name: str) -> None:
    """Say on stderr where a set is obtained and how to lay it out."""
    say(f"{name}:", *(f"  {printable(line)}" for line in how_to_get(DATASETS[name]).splitlines()))
