"""One line of the table of images, and of the table of failures."""

from __future__ import annotations

from typing import Any

from clue_cli.evidence.claims import declares_generated
from clue_cli.records import FailureRecord, ImageRecord, Origin, Verdict, Weight
from clue_cli.report.inert import local_url, printable
from clue_cli.results.summary import NOT_ASKED
from clue_cli.terminal import counted

VERDICT_ORDER = (Verdict.FORGED, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE)

SECOND_ORDER = (Verdict.GENERATED.value, Verdict.INCONCLUSIVE.value, Verdict.NO_EVIDENCE.value, NOT_ASKED)
"""Answers to the second question."""

DIGITS = 6
"""Decimals of the fractions in the page; `records.jsonl` has all of them."""


def image_row(record: ImageRecord) -> list[Any]:
    """One line of the table. The order of the fields is that of the constants at the top of `values.js`."""
    return [
        printable(record.locator),
        record.page,
        record.page_count,
        record.verdict.value,
        round(record.score, DIGITS),
        None if record.confidence is None else round(record.confidence, DIGITS),
        round(record.forged_area_ratio, DIGITS),
        record.region_count,
        record.width,
        record.height,
        local_url(record.outputs.thumbnail),
        _note(record),
        second_word(record),
        None if record.synthetic is None or record.synthetic.score is None else round(record.synthetic.score, DIGITS),
    ]


def second_word(record: ImageRecord) -> str:
    """The answer to the second question, one of `SECOND_ORDER`."""
    return NOT_ASKED if record.synthetic is None else record.synthetic.verdict.value


def _note(record: ImageRecord) -> str:
    """What the table says of an image beside its verdict, which rests on the pixels that were examined."""
    supporting = [
        one for one in record.findings if one.weight is Weight.SUPPORTS_EDIT and one.source is not Origin.PIXELS
    ]
    said = ["metadata point to a generative model"] if declares_generated(record.findings) else []
    if record.not_examined:
        said.append("not all of it examined")
    if count := len(supporting):
        said.append(f"{counted(count, 'finding')} outside the pixels support{'s' * (count == 1)} an edit")
    return "; ".join(said)


def failure_row(record: FailureRecord) -> list[Any]:
    """One line of the table of failures."""
    return [
        printable(record.locator),
        record.page,
        record.step.value,
        record.code.value,
        printable(record.message),
        None if record.advice is None else printable(record.advice),
        None if record.file is None else record.file.sha256,
    ]
