"""JSON Lines: one record a line, in today's schema whichever version wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.export import Source


def write(to: BinaryIO, records: Iterable[ImageRecord | FailureRecord], source: Source | None = None) -> None:
    """Write one line per record."""
    for record in records:
        to.write(record.model_dump_json().encode() + b"\n")
