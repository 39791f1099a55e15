"""`per_image.csv`: one row for each image, attack and method; UTF-8, comma, CRLF (RFC 4180).

`settings` is the SHA-256 of all that a row depends on besides the image: the model or the maps, the attack, the seed,
the way of measuring; the digest of the set and the version are in `results.json`. A cell that a spreadsheet would take
for a formula gets a leading apostrophe: names are an attacker's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from clue_cli.results.summary import harmless
from clue_cli.terminal import printable
from model.evaluation import FIELDS, ImageRow

COLUMNS = ("set", "attack", "method", "settings", *FIELDS)


class PerImageTable:
    """Writes the table row by row.

    Args:
        to: a binary stream; it stays open.
    """

    def __init__(self, to: BinaryIO) -> None:
        self._text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text)
        self._writer.writerow(COLUMNS)

    def add(self, name: str, attack: str, method: str, settings: str, rows: Iterable[ImageRow]) -> None:
        """Add the rows of one outcome."""
        for row in rows:
            problems = "; ".join(map(str, row.problems))
            values = [problems if field == "problems" else getattr(row, field) for field in FIELDS]
            self._writer.writerow([_cell(value) for value in (name, attack, method, settings, *values)])

    def finish(self) -> None:
        """Write what is left and let go of the stream."""
        self._text.flush()
        self._text.detach()


def _cell(value: object) -> str | int | float | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) or value is None:
        return value
    return harmless(printable(str(value)))
