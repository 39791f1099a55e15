"""One line on stderr that tells a person how the training goes."""

from __future__ import annotations

import sys
import time
from io import TextIOBase
from typing import Any, TextIO

from tqdm import tqdm

from model.training.log import Row


class Display:
    """A listener with a tqdm line: done, time left, pictures a second, losses, validation F1.

    Args:
        stream: where the line goes; stderr.
        escape: makes text of unknown origin (names of files) fit for a terminal.
    """

    def __init__(self, stream: TextIO | TextIOBase | None = None, escape: Any = str) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._escape = escape
        self._bar: Any = None
        self._seconds = False
        self._f1 = float("nan")
        self._images, self._since, self._speed = 0, time.monotonic(), 0.0
        self._waited, self._starved = 0.0, 0.0
        self._shown = ""

    def started(self, total: int, done: int, unit: str) -> None:
        """Show the line."""
        self._seconds = unit == "seconds"
        self._since = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=min(done, total),
            file=self._stream,
            dynamic_ncols=True,
            mininterval=0.5 if self._stream.isatty() else 30,  # a file of thousands of lines helps nobody
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} " + unit + " [{elapsed}<{remaining}{postfix}]",
        )

    def stepped(self, row: Row) -> None:
        """Move the line."""
        self._images += row["images"]
        self._waited += row["waited"]
        now = time.monotonic()
        if now - self._since > 2 or not self._speed:
            seconds = max(now - self._since, 1e-6)
            self._speed, self._starved = self._images / seconds, self._waited / seconds
            self._images, self._waited, self._since = 0, 0.0, now
        waiting = f" ({self._starved:.0%} waiting for them)" if self._starved > 0.1 else ""
        self._shown = f"{self._speed:.1f} images/s{waiting}, loss {row['loss']:.4f}"
        self._shown += f" (BCE {row['bce']:.4f}, Dice {row['dice']:.4f})"
        self._show_losses()
        position = int(row["seconds"]) if self._seconds else row["step"]
        self._bar.update(max(0, min(position, self._bar.total) - self._bar.n))

    def validated(self, row: Row) -> None:
        """Say what came of a validation, on a line that stays."""
        self._f1 = row["f1"]
        self._images, self._waited, self._since = 0, 0.0, time.monotonic()
        told = f"step {row['step']}: F1 {row['f1']:.4f} on {row['forged']} forged pictures"
        if row["authentic"]:
            told += f", {row['marked_on_authentic']:.2%} of the area marked on {row['authentic']} authentic ones"
        told += f"; weights of BCE {row['bce_weight']:.3f}, of Dice {row['dice_weight']:.3f}"
        self.told(told + (" (best so far)" if row["best"] else ""))
        if self._bar is not None and self._shown:
            self._show_losses()

    def _show_losses(self) -> None:
        """Speed and losses of the latest step, with the F1 of the latest validation."""
        self._bar.set_postfix_str(self._shown + f", F1 {self._f1:.3f}" * (self._f1 == self._f1), refresh=False)

    def told(self, text: str) -> None:
        """Say something on a line that stays."""
        tqdm.write(self._escape(text), file=self._stream)

    def ended(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.close()
