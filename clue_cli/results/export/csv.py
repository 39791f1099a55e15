"""CSV: the columns of `summary.csv`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import BinaryIO

from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.export import Source
from clue_cli.results.summary import write_summary


def write(to: BinaryIO, records: Iterable[ImageRecord | FailureRecord], source: Source | None = None) -> None:
    """Write a header and one row per record. `met_in_this_run` is empty: only the scan itself knew it."""
    text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
    try:
        write_summary(text, ((record, None) for record in records))
    finally:
        text.detach()
