"""`measurements.jsonl`: what was measured, one line for each image, attack and method, only ever appended to.

What is done for the same content, method, attack and settings is not computed again. A line that a crash cut is passed
over. The index is a private, temporary SQLite database, which spills to disk by itself.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.evaluation import ImageRow
from model.images.maps import Map

FORMAT = 2
STEPS = 32
"""Thresholds k/32 of the pixel curves; each image keeps how many pixels are above each."""

Counts = NDArray[np.int64]


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

    def key(self) -> bytes:
        """Names the unit in the index."""
        return hashlib.sha256(f"{self.settings}\0{self.set!a}\0{self.image}".encode()).digest()


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


class MeasurementLog:
    """The log of one results folder; thread-safe, one process at a time.

    Args:
        path: of the log; made if it does not exist.

    Attributes:
        unreadable: lines that could not be understood.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.unreadable = 0
        self._lock = threading.RLock()
        self._file = path.open("a+b")
        # "": a private database in a temporary file, gone when it is closed
        self._index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._index.execute("CREATE TABLE line (key BLOB PRIMARY KEY, start INTEGER, failed INTEGER) WITHOUT ROWID")
        self._read_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._file.close()
            self._index.close()

    def known(self, unit: Unit) -> bool:
        """Whether the unit is done."""
        with self._lock:
            found = self._index.execute("SELECT failed FROM line WHERE key = ?", (unit.key(),)).fetchone()
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
        text = json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.seek(0, 2)
            start = self._file.tell()
            self._file.write(text)
            self._file.flush()
            self._add(unit, start, measurement.failed)

    def read(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Measurement]]:
        """The latest measurement of each unit that has one."""
        for unit in units:
            with self._lock:
                found = self._index.execute("SELECT start FROM line WHERE key = ?", (unit.key(),)).fetchone()
                if found is None:
                    continue
                self._file.seek(found[0])
                text = self._file.readline()
            yield unit, _parse(text)[1]

    def _read_all(self) -> None:
        self._file.seek(0)
        start, text = 0, b""
        self._index.execute("BEGIN")
        for text in self._file:
            try:
                unit, measurement = _parse(text)
            except ValueError:
                self.unreadable += 1
            else:
                self._add(unit, start, measurement.failed)
            start += len(text)
        self._index.execute("COMMIT")
        if text and not text.endswith(b"\n"):
            self._file.write(b"\n")
            self._file.flush()

    def _add(self, unit: Unit, start: int, failed: bool) -> None:
        self._index.execute("INSERT OR REPLACE INTO line VALUES (?, ?, ?)", (unit.key(), start, failed))


class ForeignLog:
    """Reads a log that somebody else may have written. One (settings, set) is in memory at a time.

    Args:
        path: of the log.
        wanted: the (settings, set) that will be asked for.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, wanted: Iterable[tuple[str, str]]) -> None:
        self._path = path
        self._starts: dict[tuple[str, str], array[int]] = {pair: array("q") for pair in wanted}
        start = 0
        with path.open("rb") as file:
            for text in file:
                with suppress(ValueError):  # torn, as above
                    unit, _ = _parse(text)
                    if (unit.settings, unit.set) in self._starts:
                        self._starts[unit.settings, unit.set].append(start)
                start += len(text)

    def rows(self, settings: str, name: str) -> list[ImageRow]:
        """The latest row of each image.

        Raises:
            OSError: it cannot be read.
        """
        rows: dict[str, ImageRow] = {}
        with self._path.open("rb") as file:
            for start in self._starts[settings, name]:
                file.seek(start)
                with suppress(ValueError):  # changed meanwhile
                    row = _parse(file.readline())[1].row
                    rows[row.key] = row
        return list(rows.values())


def pixel_curve(heatmap: Map, truth: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Forged and other pixels whose probability is at least k/32, for k = 0 … 31; both H×W."""
    level = np.clip(heatmap * np.float32(STEPS), 0, STEPS - 1).astype(np.uint8)
    hits = np.bincount(level[truth], minlength=STEPS)
    alarms = np.bincount(level.ravel(), minlength=STEPS) - hits
    return _above(hits), _above(alarms)


def _above(counts: Counts) -> tuple[int, ...]:
    return tuple(int(count) for count in counts[::-1].cumsum()[::-1])


def _parse(text: bytes) -> tuple[Unit, Measurement]:
    """Raises ValueError for what is no line of this log."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        curve = data["curve"]
        if curve is not None:
            curve = (tuple(map(int, curve[0])), tuple(map(int, curve[1])))
            if {len(curve[0]), len(curve[1])} != {STEPS}:
                raise ValueError("a curve of another length")
        unit = Unit(str(data["settings"]), str(data["set"]), str(data["image"]))
        row = ImageRow.from_dict(data["row"])
        inverted = None if data["inverted"] is None else bool(data["inverted"])
        return unit, Measurement(row, curve, str(data["signature"]), bool(data["failed"]), inverted)
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"not a measurement: {error}") from error
