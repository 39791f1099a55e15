"""From the words of `--bench` to the images that are measured."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clue_cli.errors import DataProblemError, NothingToScanError, UsageError
from clue_cli.terminal import printable, say
from model.evaluation import (
    BENCHMARKS,
    BenchmarkNotFound,
    Entry,
    EvaluationError,
    Found,
    Kind,
    Problem,
    StrictError,
    UnreadablePicture,
    find,
    find_at,
    how_to_get,
    read_truth,
)
from model.evaluation.benchmarks import SUSPECT_SHARE
from model.evaluation.truth import looks_inverted

_EXAMPLE = "Say where the benchmarks lie with --root DIR or CLUE_DATA; `clue eval --list` shows which are known."


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """A set and which of its images are measured.

    Attributes:
        found: the set as it lies on this disk; its entries are all that it holds.
        entries: the images to measure, sorted by key.
    """

    found: Found
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """Of the benchmark, or the path that was given, printable."""
        return printable(self.found.name)


def resolve(words: Sequence[str], root: Path | None, *, strict: bool = False) -> tuple[list[Found], list[str]]:
    """The sets behind the words of `--bench`, each once, and the names of those that `all` did not find.

    Args:
        words: names, `all`, paths, and several of these with commas between them.
        strict: decode every mask now, and let a problem be an error.

    Raises:
        NothingToScanError: a set is not there (where to get it is said on stderr), or `all` found none.
        UsageError: no such name, no set given, or a path that is laid out in no known way.
        DataProblemError: see `strict`.
    """
    names = list(dict.fromkeys(name for word in words for name in _split(word)))
    if not names:
        raise UsageError("There is nothing to measure: --bench names no set.", _EXAMPLE)
    found: list[Found] = []
    absent: list[str] = []
    for name in names:
        if name == "all":
            here, missing = _all(root, strict)
            found += [one for one in here if one.name not in {other.name for other in found}]
            absent += missing
        elif name in BENCHMARKS:
            found.append(_named(name, root, strict))
        else:
            found.append(_at(name, strict))
    if not found:
        raise NothingToScanError(f"None of the {len(BENCHMARKS)} benchmarks was found in {root}.", _EXAMPLE)
    return found, absent


def choose(found: Found, limit: int | None, seed: int) -> tuple[Entry, ...]:
    """All images, or `limit` of them, both classes in about the proportion of the set.

    The choice depends on the seed and the keys alone, and a smaller limit chooses among what a larger one does, so
    that a larger one goes on from there.
    """
    if limit is None or limit >= len(found.entries):
        return tuple(found.entries)

    def place(entry: Entry) -> bytes:
        return hashlib.sha256(f"{seed}\0".encode() + os.fsencode(entry.key)).digest()

    forged = sorted((entry for entry in found.entries if entry.forged), key=place)
    authentic = sorted((entry for entry in found.entries if not entry.forged), key=place)
    share = round(limit * len(forged) / len(found.entries))
    if forged and authentic and limit > 1:
        share = min(max(share, 1), limit - 1)
    share = max(share, limit - len(authentic))
    return tuple(sorted(forged[:share] + authentic[: limit - share], key=lambda entry: entry.key))


def inverted(chosen: ChosenSet) -> Problem | None:
    """Whether the masks of the chosen images look inverted, by the rule of `model.evaluation.benchmarks`."""
    masks = suspects = 0
    for entry in chosen.entries:
        if not entry.masks:
            continue
        try:
            suspects += looks_inverted(read_truth(entry.masks, entry.style))
        except UnreadablePicture:
            continue  # reported when the image is measured
        masks += 1
    if suspects >= 3 and suspects > SUSPECT_SHARE * masks:
        return Problem(Kind.SET_INVERTED, chosen.name, f"{suspects} of {masks} masks")
    return None


def _split(word: str) -> Iterator[str]:
    """Names with commas between them; a path may itself hold a comma."""
    if word and Path(word).exists():
        yield word
    else:
        yield from (part.strip() for part in word.split(",") if part.strip())


def _named(name: str, root: Path | None, strict: bool) -> Found:
    if root is None:
        _explain(name)
        raise NothingToScanError(f"It was not said where {name} lies.", _EXAMPLE)
    with _Reasons(strict):
        try:
            return find(name, root, deep=strict, strict=strict)
        except BenchmarkNotFound as error:
            _explain(name)
            raise NothingToScanError(f"{name} was not found in {root}.", _EXAMPLE) from error
    raise AssertionError  # the block returns or raises


def _all(root: Path | None, strict: bool) -> tuple[list[Found], list[str]]:
    if root is None:
        raise UsageError("`--bench all` needs to know where the benchmarks lie.", _EXAMPLE)
    found, absent = [], []
    for name in BENCHMARKS:
        with _Reasons(strict):
            try:
                found.append(find(name, root, deep=strict, strict=strict))
            except BenchmarkNotFound:
                absent.append(name)
    return found, absent


def _at(word: str, strict: bool) -> Found:
    path = Path(word)
    if not path.exists():
        known = ", ".join(BENCHMARKS)
        raise NothingToScanError(
            f"There is no benchmark named {word}, and no such path.", f"Known are {known}; or give a folder or a list."
        )
    if path.name.casefold() in BENCHMARKS:
        # A folder named like a benchmark is read in the layouts of that benchmark first
        with _Reasons(strict):
            try:
                found = find(path.name.casefold(), path.absolute().parent, deep=strict, strict=strict)
                return replace(found, name=word)
            except BenchmarkNotFound:
                return find_at(path, deep=strict, strict=strict)
    with _Reasons(strict):
        return find_at(path, deep=strict, strict=strict)
    raise AssertionError  # the block returns or raises


class _Reasons:
    """Turns what `model.evaluation` raises into the errors of the command."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, StrictError):
            say(*map(printable, str(error).splitlines()))
            raise DataProblemError(
                "The data set has problems, and --strict makes them an error.",
                "Repair them, or leave --strict out: then they are named in the result.",
            ) from error
        if isinstance(error, EvaluationError):
            raise NothingToScanError(f"{error}.", _EXAMPLE) from error


def _explain(name: str) -> None:
    """Say on stderr where a set is obtained and how to lay it out."""
    say(f"{name}:", *(f"  {printable(line)}" for line in how_to_get(BENCHMARKS[name]).splitlines()))
