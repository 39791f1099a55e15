"""What is written down while a training runs: `log.jsonl`, one row a step or event, and TensorBoard's files.

A row has `kind`: `step`, `validation`, `damaged`, `resumed`, `calibrated`, `finished`. A training that goes on drops
the rows from after the state it goes on from, so that the log reads like that of an unbroken one.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from model.reporter import Reporter
from model.training.state import RunFolder, writing
from model.whole_file import write_text

Row = dict[str, Any]


class StepStatus:
    """Words on how a training goes: images per second, losses, the latest validation F1."""

    def __init__(self) -> None:
        self._losses = self._f1 = ""
        self._speed = self._starved = 0.0
        self._restart()

    def after_step(self, row: Row) -> str:
        """The status after the step of this row."""
        self._images += row["images"]
        self._waited += row["waited"]
        seconds = max(time.monotonic() - self._since, 1e-6)
        if seconds > 2 or not self._speed:
            self._speed, self._starved = self._images / seconds, self._waited / seconds
            self._restart()
        waiting = f" ({self._starved:.0%} waiting for them)" if self._starved > 0.1 else ""
        self._losses = f"{self._speed:.1f} images/s{waiting}, loss {row['loss']:.4f}"
        self._losses += f" (BCE {row['bce']:.4f}, Dice {row['dice']:.4f})"
        return self._losses + self._f1

    def after_validation(self, row: Row) -> str:
        """The status after the validation of this row."""
        self._restart()
        self._f1 = f", F1 {row['f1']:.3f}"
        return self._losses + self._f1 if self._losses else ""

    def _restart(self) -> None:
        self._images, self._waited, self._since = 0, 0.0, time.monotonic()


def validation_line(row: Row) -> str:
    """The result of a validation in words."""
    line = f"step {row['step']}: F1 {row['f1']:.4f} on {row['forged']} forged images"
    if row["authentic"]:
        line += f", {row['marked_on_authentic']:.2%} of the area marked on {row['authentic']} authentic ones"
    line += f"; weights of BCE {row['bce_weight']:.3f}, of Dice {row['dice_weight']:.3f}"
    return line + (" (best so far)" if row["best"] else "")


class Log:
    """`log.jsonl` and TensorBoard in one.

    Args:
        folder: the runs folder.
        step: of the state that the training goes on from; later rows are dropped.
        reporter: receives a note if TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, step: int, reporter: Reporter) -> None:
        with writing(folder.log):
            _keep_until(folder.log, step)
            self._file = folder.log.open("a", encoding="utf-8", buffering=1)
        self._path = folder.log
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            reporter.note("TensorBoard is not installed, so there is only log.jsonl; it is in the extra `train`.")
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
