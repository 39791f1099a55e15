"""`summary.csv`: one row per record, for spreadsheets.

UTF-8, comma, CRLF (RFC 4180). A cell that a spreadsheet would take for a formula gets a leading apostrophe: file
names and EXIF strings are an attacker's.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from clue_cli.records import FailureRecord, ImageRecord

Cell = str | int | float | None

NOT_ASKED = "not_asked"
NOT_ASKED_REASON = (
    "whether the whole picture was generated was not asked (--also synthetic asks it); the verdict is about edited "
    "regions alone"
)

_COLUMNS: dict[str, tuple[str, Callable[[ImageRecord], Cell], Callable[[FailureRecord], Cell]]] = {
    "kind": ("`image` or `failure`.", lambda r: r.kind, lambda r: r.kind),
    "locator": ("Where it is.", lambda r: r.locator, lambda r: r.locator),
    "page": ("Page or frame number from 0; empty for a whole file.", lambda r: r.page, lambda r: r.page),
    "page_count": ("How many pages or frames the file holds.", lambda r: r.page_count, lambda r: r.page_count),
    "verdict": (
        "Was a part of the picture edited: `forged`, `no_evidence` (of an edited region) or `inconclusive`.",
        lambda r: r.verdict.value,
        lambda r: None,
    ),
    "score": ("Raw image-level score, 0 to 1.", lambda r: r.score, lambda r: None),
    "confidence": ("Calibrated probability that the verdict is right.", lambda r: r.confidence, lambda r: None),
    "forged_area_ratio": ("Marked pixels / all pixels, 0 to 1.", lambda r: r.forged_area_ratio, lambda r: None),
    "region_count": ("How many regions are marked.", lambda r: r.region_count, lambda r: None),
    "reason": ("Why this verdict, or why it failed.", lambda r: r.reason, lambda r: r.message),
    "synthetic_verdict": (
        "Was the whole picture generated: `generated`, `no_evidence`, `inconclusive`, or `not_asked`.",
        lambda r: NOT_ASKED if r.synthetic is None else r.synthetic.verdict.value,
        lambda r: None,
    ),
    "synthetic_score": (
        "Raw score of the method, 0 to 1; empty if it was not asked or could not judge the picture.",
        lambda r: None if r.synthetic is None else r.synthetic.score,
        lambda r: None,
    ),
    "synthetic_confidence": (
        "Calibrated probability that `synthetic_verdict` is right.",
        lambda r: None if r.synthetic is None else r.synthetic.confidence,
        lambda r: None,
    ),
    "synthetic_method": (
        "Name of the method that answered.",
        lambda r: None if r.synthetic is None else r.synthetic.method,
        lambda r: None,
    ),
    "synthetic_reason": (
        "Why this answer, or that the question was not asked.",
        lambda r: NOT_ASKED_REASON if r.synthetic is None else r.synthetic.reason,
        lambda r: None,
    ),
    "failure_code": ("Why it failed, as a stable name.", lambda r: None, lambda r: r.code.value),
    "failure_step": ("The step at which it failed.", lambda r: None, lambda r: r.step.value),
    "advice": ("What can be done about the failure.", lambda r: None, lambda r: r.advice),
    "width": ("Pixels, as displayed.", lambda r: r.width, lambda r: None),
    "height": ("Pixels, as displayed.", lambda r: r.height, lambda r: None),
    "not_examined": (
        "Rows, as stored, of a cut or damaged picture that were not examined, e.g. `1071-1199`.",
        lambda r: " ".join(f"{band.rows[0]}-{band.rows[1]}" for band in r.not_examined) or None,
        lambda r: None,
    ),
    "sha256": ("SHA-256 of the bytes.", lambda r: r.file.sha256, lambda r: r.file.sha256 if r.file else None),
    "md5": ("MD5, if it was asked for.", lambda r: r.file.md5, lambda r: r.file.md5 if r.file else None),
    "sha1": ("SHA-1, if it was asked for.", lambda r: r.file.sha1, lambda r: r.file.sha1 if r.file else None),
    "byte_size": ("Size in bytes.", lambda r: r.file.byte_size, lambda r: r.file.byte_size if r.file else None),
    "modified": (
        "When the content of a file on disk was last changed, in UTC.",
        lambda r: r.file.modified,
        lambda r: r.file.modified if r.file else None,
    ),
    "sniffed_type": (
        "Type by content.",
        lambda r: r.file.sniffed_type,
        lambda r: r.file.sniffed_type if r.file else None,
    ),
    "claimed_type": (
        "Type by extension.",
        lambda r: r.file.claimed_type,
        lambda r: r.file.claimed_type if r.file else None,
    ),
    "camera_make": ("EXIF Make, as claimed.", lambda r: r.exif.camera_make, lambda r: None),
    "camera_model": ("EXIF Model, as claimed.", lambda r: r.exif.camera_model, lambda r: None),
    "software": ("EXIF Software, as claimed.", lambda r: r.exif.software, lambda r: None),
    "date_time_original": ("EXIF, as claimed.", lambda r: r.exif.date_time_original, lambda r: None),
    "gps_present": ("Whether GPS fields exist: yes or no.", lambda r: _yes(r.exif.gps_present), lambda r: None),
    "findings": (
        "Statements of the findings, separated by ` | `.",
        lambda r: " | ".join(finding.statement for finding in r.findings),
        lambda r: None,
    ),
    "plain_words": (
        "What was found, in plain words.",
        lambda r: " ".join(r.plain_words),
        lambda r: None,
    ),
    "perceptual_hash": (
        "Of the image as displayed, hex: pictures that look alike differ in few bits.",
        lambda r: r.perceptual_hash,
        lambda r: None,
    ),
    "mask": ("Path of the mask in the results folder.", lambda r: r.outputs.mask, lambda r: None),
    "heatmap": ("Path of the heatmap.", lambda r: r.outputs.heatmap, lambda r: None),
    "verdict_file": ("Path of the record as JSON.", lambda r: r.outputs.verdict, lambda r: None),
    "model": ("Name of the model.", lambda r: r.model.name, lambda r: None),
    "model_digest": ("SHA-256 of the model.", lambda r: r.model.digest, lambda r: None),
    "run_id": ("The run that wrote the record.", lambda r: r.run_id, lambda r: r.run_id),
}

_MET = (
    "met_in_this_run",
    "`no`: an earlier run's record of evidence that the latest run did not meet (moved, deleted, not among its paths, "
    "or the run was interrupted before).",
)

COLUMNS: dict[str, str] = {name: meaning for name, (meaning, _, _) in _COLUMNS.items()} | {_MET[0]: _MET[1]}
"""Name and meaning of each column, in order."""

_LONGEST_ROW = 1 << 20
"""Characters; the reader of CSV refuses the pieces of a longer one."""

# Tab and carriage return too: Excel skips them and then sees the sign. The wide forms are the same to some programs.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cells(record: ImageRecord | FailureRecord) -> dict[str, Cell]:
    """The cells of a record by column, but for `met_in_this_run`."""
    if isinstance(record, ImageRecord):
        return {name: of_image(record) for name, (_, of_image, _) in _COLUMNS.items()}
    return {name: of_failure(record) for name, (_, _, of_failure) in _COLUMNS.items()}


def cell(record: ImageRecord | FailureRecord, column: str) -> Cell:
    """One cell of `cells`."""
    _, of_image, of_failure = _COLUMNS[column]
    return of_image(record) if isinstance(record, ImageRecord) else of_failure(record)


def write_summary(to: TextIO, records: Iterable[tuple[ImageRecord | FailureRecord, bool | None]]) -> None:
    """Write the header and one row per record; `to` must have been opened with `newline=""`.

    Args:
        to: where to.
        records: each with whether the latest run met it; None if that is not known.
    """
    writer = csv.writer(to)
    writer.writerow(COLUMNS)
    for record, met in records:
        writer.writerow([*map(harmless, cells(record).values()), None if met is None else _yes(met)])


def harmless(cell: Cell) -> Cell:
    """The cell, with a leading apostrophe if a spreadsheet would take it for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell


def _yes(value: bool) -> str:
    return "yes" if value else "no"


class MetRows:
    """Which records the latest run met, as `summary.csv` says it; for records in its order.

    Args:
        path: of the file. Rows that cannot be read end it; without it nothing was met.
    """

    def __init__(self, path: Path) -> None:
        self._rows = _met_rows(path)
        self._row = next(self._rows, None)

    def met(self, record: ImageRecord | FailureRecord) -> bool:
        """Whether the run met a record, which comes after those asked for before."""
        shown = (str(harmless(record.locator)), "" if record.page is None else str(record.page))
        key = _order(record.locator, shown[1])
        while self._row is not None and self._row[0] != shown and _order(*self._row[0]) < key:
            self._row = next(self._rows, None)
        if self._row is None or self._row[0] != shown:
            return False
        met, self._row = self._row[1], next(self._rows, None)
        return met


def _order(locator: str, page: str) -> tuple[str, int]:
    plain = locator[1:] if locator.startswith("'") and locator[1:].startswith(_FORMULA_STARTS) else locator
    return plain, int(page or -1)


def _met_rows(path: Path) -> Iterator[tuple[tuple[str, str], bool]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(iter(lambda: stream.readline(_LONGEST_ROW), "")):
                if not (row["page"] or "0").isdecimal():
                    return
                yield (row["locator"], row["page"]), row[_MET[0]] == "yes"
    except (OSError, ValueError, KeyError, csv.Error):
        return
