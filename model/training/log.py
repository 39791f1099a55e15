"""What is written down while a training runs: `log.jsonl`, one row a step or event, and TensorBoard's files.

A row has `kind`: `step`, `validation`, `damaged`, `resumed`, `calibrated`, `finished`. A training that goes on drops
the rows from after the state it goes on from, so that the log reads like that of an unbroken one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from model.training.state import RunFolder, writing
from model.whole_file import write_text

Row = dict[str, Any]


class Listener(Protocol):
    """Who is told what happens. All calls come from the thread and the process that trains."""

    def started(self, total: int, done: int, unit: str) -> None:
        """The training begins or goes on: `done` of `total` `unit` (steps or seconds)."""

    def stepped(self, row: Row) -> None:
        """A step is done."""

    def validated(self, row: Row) -> None:
        """A validation is done."""

    def told(self, text: str) -> None:
        """Something a person should know."""

    def ended(self) -> None:
        """The training ended, in whatever way."""


class Silent:
    """A listener that tells nobody."""

    def started(self, total: int, done: int, unit: str) -> None:
        """Tell nobody."""

    def stepped(self, row: Row) -> None:
        """Tell nobody."""

    def validated(self, row: Row) -> None:
        """Tell nobody."""

    def told(self, text: str) -> None:
        """Tell nobody."""

    def ended(self) -> None:
        """Tell nobody."""


class Log:
    """`log.jsonl` and TensorBoard in one.

    Args:
        folder: the runs folder.
        step: of the state that the training goes on from; later rows are dropped.
        listener: is told once if TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, step: int, listener: Listener) -> None:
        with writing(folder.log):
            _keep_until(folder.log, step)
            self._file = folder.log.open("a", encoding="utf-8", buffering=1)
        self._path = folder.log
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            listener.told("TensorBoard is not installed, so there is only log.jsonl; it is in the extra `train`.")
        else:
            with writing(folder.path / "tensorboard"):
                self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=step + 1)

    def write(self, row: Row) -> None:
        """Append a row.

        Raises:
            CannotWriteError: e.g. because the disk is full.
        """
        with writing(self._path):
            self._file.write(_line(row))
        if self._board is not None and row["kind"] in ("step", "validation"):
            with writing(self._path.parent / "tensorboard"):
                for name, value in row.items():
                    if isinstance(value, (int, float)) and name != "step":
                        self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Close the files."""
        with writing(self._path):
            self._file.close()
            if self._board is not None:
                self._board.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_log(path: Path) -> list[Row]:
    """The rows of a log, up to the first line that is none: one that was cut off."""
    rows: list[Row] = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def _keep_until(path: Path, step: int) -> None:
    if not path.is_file():
        return
    rows = [row for row in read_log(path) if row["step"] <= step] if step else []
    write_text(path, "".join(map(_line, rows)))


def _line(row: Row) -> str:
    # JSON has no NaN, and readers other than Python's stumble over it. ASCII: the name of a damaged picture need not be
    # UTF-8, and may hold what ends a line.
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain) + "\n"
