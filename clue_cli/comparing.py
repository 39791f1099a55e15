"""`clue compare`: which pictures of one results folder are in another one, and where their verdicts differ."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.groups import KEY_BYTES, NEAR, Kind, file_key, look_of, same_values
from clue_cli.results.hamming import HammingIndex
from clue_cli.results.summary import harmless

_BLOCK = 4096
"""Pictures that are searched together."""
_MOST = 1 << 14
"""Candidates with which a picture is compared at most for each pair of blocks of the index: more than for groups, as
the hashes of B are all in it, and a series of a thousand shots may be."""

_Record = ImageRecord | FailureRecord


class Side(NamedTuple):
    """What the comparison says of a picture; in the order of the columns."""

    locator: str
    page: int
    sha256: str
    verdict: str
    score: float
    synthetic_verdict: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """A picture of A and the picture of B that it is, or is nearest to.

    Attributes:
        kind: `exact`: the same page of the same bytes; `near`: other bytes that look alike.
        distance: bits, of 64, in which the perceptual hashes differ.
        a, b: the pictures.
        in_b: how many pictures of B are the same as `b`: for `exact` by their bytes, for `near` by their hash.
        differ: whether the verdicts on edited regions differ, or those on `synthetic` if both were asked for.
        why: if they differ, what is not the same and may explain it, in words.
    """

    kind: Kind
    distance: int
    a: Side
    b: Side
    in_b: int
    differ: bool
    why: tuple[str, ...] = ()


@dataclass(slots=True)
class Totals:
    """What was compared; counts of pictures of A, but for those of B that are named so.

    Attributes:
        exact, near: found in B.
        differ: found, with other verdicts.
        without_look, without_look_b: can be found by their bytes alone.
        cut: some pictures have so many that look alike that not all were compared.
    """

    images: int = 0
    images_b: int = 0
    exact: int = 0
    near: int = 0
    differ: int = 0
    without_look: int = 0
    without_look_b: int = 0
    cut: bool = False

    @property
    def found(self) -> int:
        """Pictures of A that are in B."""
        return self.exact + self.near


class Comparison:
    """B, with which the pictures of A are compared.

    Memory: about 150 bytes for each picture of B; what is said about them is in a temporary file.

    Args:
        b: the records of B; read once.

    Attributes:
        totals: so far.
    """

    def __init__(self, b: Iterable[_Record]) -> None:
        self.totals = Totals()
        self._facts = sqlite3.connect("", isolation_level=None)
        self._facts.execute("PRAGMA journal_mode = OFF")
        self._facts.execute("CREATE TABLE picture (number INTEGER PRIMARY KEY, facts TEXT)")
        keys, hashes, hashed = bytearray(), array("Q"), array("Q")
        images = (record for record in b if isinstance(record, ImageRecord))
        number = 0
        while block := list(islice(images, _BLOCK)):
            self._facts.execute("BEGIN")
            self._facts.executemany(
                "INSERT INTO picture VALUES (?, ?)",
                ((number + place, json.dumps(_facts(record))) for place, record in enumerate(block)),
            )
            self._facts.execute("COMMIT")
            for record in block:
                keys += file_key(record)
                if (look := look_of(record)) is not None:
                    hashes.append(look)
                    hashed.append(number)
                number += 1
        self.totals.images_b, self.totals.without_look_b = number, number - len(hashed)
        self._keys = _Sorted(np.frombuffer(keys, dtype=f"S{KEY_BYTES}"), np.arange(number))
        self._equal = _Sorted(np.frombuffer(hashes, np.uint64), np.frombuffer(hashed, np.uint64).astype(np.int64))
        values = np.frombuffer(hashes, np.uint64)
        self._first = same_values(values)[1]
        self._distinct = values[self._first]
        self._index = HammingIndex(NEAR, _MOST)
        self._index.add(self._distinct)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._facts.close()

    def matches(self, a: Iterable[_Record]) -> Iterator[Match]:
        """The pictures of A that are in B, in the order of A, each with one picture of B: one with the same bytes, or
        else the one that is nearest; of those that are equally near, the first."""
        images = (record for record in a if isinstance(record, ImageRecord))
        while block := list(islice(images, _BLOCK)):
            self.totals.images += len(block)
            looks = [look_of(record) for record in block]
            self.totals.without_look += looks.count(None)
            for record, number, distance, count, kind in self._found(block, looks):
                match = self._match(record, number, distance, count, kind)
                self.totals.exact += kind is Kind.EXACT
                self.totals.near += kind is Kind.NEAR
                self.totals.differ += match.differ
                yield match
            self.totals.cut = self._index.cut

    def _found(
        self, block: list[ImageRecord], looks: list[int | None]
    ) -> Iterator[tuple[ImageRecord, int, int, int, Kind]]:
        keys = np.frombuffer(b"".join(map(file_key, block)), dtype=f"S{KEY_BYTES}")
        number, count = self._keys.find(keys)
        distance = np.zeros(len(block), np.uint8)
        near = np.array([look is not None for look in looks]) & (count == 0)
        left = np.flatnonzero(near)
        hashes = np.array([looks[place] for place in left], dtype=np.uint64)
        number[left], count[left] = self._equal.find(hashes)
        others = count[left] == 0
        left, hashes = left[others], hashes[others]
        nearest, bits = self._index.nearest(hashes)
        left, bits, nearest = left[nearest >= 0], bits[nearest >= 0], nearest[nearest >= 0]
        number[left], count[left] = self._equal.find(self._distinct[nearest])
        distance[left] = bits
        for place in np.flatnonzero(count):
            kind = Kind.NEAR if near[place] else Kind.EXACT
            yield block[place], int(number[place]), int(distance[place]), int(count[place]), kind

    def _match(self, record: ImageRecord, number: int, distance: int, count: int, kind: Kind) -> Match:
        (text,) = self._facts.execute("SELECT facts FROM picture WHERE number = ?", (number,)).fetchone()
        facts, other = _facts(record), json.loads(text)
        a, b = Side(*facts["side"]), Side(*other["side"])
        differ = a.verdict != b.verdict or (
            None not in (a.synthetic_verdict, b.synthetic_verdict) and a.synthetic_verdict != b.synthetic_verdict
        )
        why = tuple(_why(facts["made"], other["made"], kind)) if differ else ()
        return Match(kind, distance, a, b, count, differ, why)


class _Sorted:
    """Values that can be looked up, each with a number; of equal ones the first number and how many there are."""

    def __init__(self, values: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        order = np.argsort(values, kind="stable")
        self._values, self._numbers = values[order], numbers[order]

    def find(self, wanted: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        start = np.searchsorted(self._values, wanted)
        count = np.searchsorted(self._values, wanted, side="right") - start
        number = np.zeros(len(wanted), np.int64)
        number[count > 0] = self._numbers[start[count > 0]]
        return number, count


def _facts(record: ImageRecord) -> dict[str, Any]:
    """What is kept of a picture: a `Side`, and how the answers came about."""
    second = record.synthetic
    side = Side(
        record.locator,
        record.page,
        record.file.sha256,
        record.verdict.value,
        record.score,
        None if second is None else second.verdict.value,
    )
    made = {
        "model": record.model.digest,
        "method": None if second is None else second.method_digest,
        "thresholds": [record.threshold, *_thresholds(record)],
        "calibration": [record.model.calibration, record.model.calibration_sha256],
        "number format": record.model.dtype,
        "device": record.model.device.partition(":")[0],
        "settings": record.settings_digest,
        "size": [record.width, record.height],
        "schema": record.schema_version,
    }
    return {"side": list(side), "made": made}


def _thresholds(record: ImageRecord) -> Iterator[float]:
    for answer in record.verdicts.values():
        yield from (answer.score_threshold, answer.no_evidence_below)


def _why(a: dict[str, Any], b: dict[str, Any], kind: Kind) -> Iterator[str]:
    """What is not the same of two pictures, most telling first."""
    if a["model"] != b["model"]:
        yield "another model"
    if None not in (a["method"], b["method"]) and a["method"] != b["method"]:
        yield "another method for generated pictures"
    if a["calibration"] != b["calibration"] or a["thresholds"] != b["thresholds"]:
        yield "another calibration or other thresholds"
    if a["settings"] != b["settings"] and a["model"] == b["model"]:
        yield "other settings or another version of clue"
    if a["device"] != b["device"] or a["number format"] != b["number format"]:
        yield "another device or number format"
    if kind is Kind.NEAR:
        if a["size"] != b["size"]:
            yield "another size of the picture"
        yield "other bytes: saving again removes traces, and one of the two may have been edited"


COLUMNS = (
    "kind",
    "distance",
    *(f"{name}_a" for name in Side._fields),
    "results_b",
    *(f"{name}_b" for name in Side._fields),
    "in_b",
    "verdicts_differ",
    "why",
)
"""Of the CSV."""


class CsvMatches:
    """Matches as CSV like `summary.csv`: UTF-8, CRLF, no cell that a spreadsheet takes for a formula."""

    def __init__(self, to: BinaryIO) -> None:
        self._text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text)
        self._writer.writerow(COLUMNS)

    def write(self, match: Match, results_b: str) -> None:
        """Write a row.

        Args:
            results_b: the folder of B, as it was named.
        """
        row = [match.kind.value, match.distance, *match.a, results_b, *match.b, match.in_b]
        self._writer.writerow([*map(harmless, row), "yes" if match.differ else "no", "; ".join(match.why)])

    def detach(self) -> None:
        """Leave the stream to whoever opened it."""
        self._text.detach()
