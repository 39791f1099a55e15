"""`measurements.jsonl`: what was measured, one line for each image, attack and method, only ever appended to.

What is done for the same content, method, attack and settings is not computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clue_cli.results.log import IndexedLog
from model.config import Keyed, Text, check, dotted
from model.evaluation import ImageRow
from model.images.maps import Map

FORMAT = 2
STEPS = 32
"""Thresholds k/32 of the pixel curves; each image keeps how many pixels are above each."""

Counts = NDArray[np.int64]
_Curve = Annotated[tuple[int, ...], Field(min_length=STEPS, max_length=STEPS)]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one line is about.

    Attributes:
        settings: SHA-256, hex, of all that the figures depend on apart from the image.
        set: name of the set.
        image: SHA-256, hex, of the image's key, class and files.
    """

    settings: str
    set: str
    image: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is kept of one image under one method.

    Attributes:
        row: its figures.
        curve: pixels above k/32 for k = 0 … 31 that are forged, and that are not; None where that is not defined.
        signature: what the file's metadata look like; for the metadata probe alone.
        failed: whether it is worth another try, because it depended on limits or memory.
        inverted: whether the ground truth looks inverted; None without one.
    """

    row: ImageRow
    curve: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    signature: str = ""
    failed: bool = False
    inverted: bool | None = None


@dataclass(frozen=True, slots=True)
class _Line(Keyed):
    format: Literal[2]
    settings: Text
    set: Text
    image: Text
    attack: Text
    method: Text
    failed: bool
    row: ImageRow
    curve: tuple[_Curve, _Curve] | None
    signature: Text
    inverted: bool | None


class MeasurementLog(IndexedLog[tuple[Unit, Measurement]]):
    """The log of one results folder; arguments and errors as of `IndexedLog`."""

    tables = """
        CREATE TABLE line (
            part INTEGER, image BLOB, start INTEGER, length INTEGER, failed INTEGER, PRIMARY KEY (part, image)
        ) WITHOUT ROWID;
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._parts: dict[tuple[str, str], int] = {}
        super().__init__(path, read_only=read_only)

    def known(self, unit: Unit) -> bool:
        """Whether the unit is done."""
        found = self._find("failed", unit)
        return found is not None and not found[0]

    def append(self, unit: Unit, attack: str, method: str, measurement: Measurement) -> None:
        """Add one line, whole.

        Raises:
            OSError: it cannot be written.
        """
        line: dict[str, Any] = {
            "format": FORMAT,
            "settings": unit.settings,
            "set": unit.set,
            "image": unit.image,
            "attack": attack,
            "method": method,
            "failed": measurement.failed,
            "row": measurement.row.to_dict(),
            "curve": measurement.curve,
            "signature": measurement.signature,
            "inverted": measurement.inverted,
        }
        text = json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        self._append((unit, measurement), text.encode())

    def read(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Measurement]]:
        """The latest measurement of each unit that has one."""
        for unit in units:
            found = self._find("start, length", unit)
            if found is not None:
                yield unit, self._at(*found)[1]

    def rows(self, settings: str, name: str) -> list[ImageRow]:
        """The latest row of each image of a set, whatever its files were then; all are in memory."""
        with self._lock:
            lines = self._index.execute(
                "SELECT start, length FROM line WHERE part = ? ORDER BY start", (self._parts.get((settings, name)),)
            ).fetchall()
        rows = (self._at(*line)[1].row for line in lines)
        return list({row.key: row for row in rows}.values())

    def _find(self, columns: str, unit: Unit) -> tuple[int, ...] | None:
        key = self._parts.get((unit.settings, unit.set)), _image(unit)
        with self._lock:
            found: tuple[int, ...] | None = self._index.execute(
                f"SELECT {columns} FROM line WHERE part = ? AND image = ?", key
            ).fetchone()
        return found

    def _enter(self, entry: tuple[Unit, Measurement], start: int, length: int) -> None:
        unit, measurement = entry
        part = self._parts.setdefault((unit.settings, unit.set), len(self._parts))
        line = part, _image(unit), start, length, measurement.failed
        self._index.execute("INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?, ?)", line)

    def _parse(self, line: bytes) -> tuple[Unit, Measurement] | None:
        try:
            found = check(_Line, json.loads(line), dotted)
        except ValueError:
            return None
        measured = Measurement(found.row, found.curve, found.signature, found.failed, found.inverted)
        return Unit(found.settings, found.set, found.image), measured


def pixel_curve(heatmap: Map, truth: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Forged and other pixels whose probability is at least k/32, for k = 0 … 31; both H×W."""
    level = np.clip(heatmap * np.float32(STEPS), 0, STEPS - 1).astype(np.uint8)
    hits = np.bincount(level[truth], minlength=STEPS)
    alarms = np.bincount(level.ravel(), minlength=STEPS) - hits
    return _above(hits), _above(alarms)


def _above(counts: Counts) -> tuple[int, ...]:
    return tuple(int(count) for count in counts[::-1].cumsum()[::-1])


def _image(unit: Unit) -> bytes:
    return unit.image.encode("utf-8", "surrogatepass")
