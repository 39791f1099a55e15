"""What the page's script gets to know: records as compact JSON that can stand inside an HTML script element."""

from __future__ import annotations

import json
import unicodedata
from typing import Any
from urllib.parse import quote

from clue_cli.records import FailureRecord, ImageRecord, MatchingPlace, ModelInfo

DIGITS = 6
"""Decimals of the fractions in the page; `records.jsonl` has all of them."""

_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with every invisible character spelled out, e.g. `⟨U+202E⟩`.

    A right-to-left override in a name would otherwise show `gpj.exe` as `exe.jpg`, and two names that differ in a
    zero-width space would look the same. Lone surrogates (bytes of a name that are not UTF-8) are among them, so
    that the result can always be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) in _SPELLED_OUT else character
        for character in text
    )


def local_url(path: str | None) -> str | None:
    """A path below the results folder as a relative URL, every segment percent-encoded; None for None.

    Raises:
        ValueError: the path is absolute or leads out of the folder.
    """
    if path is None:
        return None
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError(f"not a path inside the results folder: {path!r}")
    return quote(path, safe="/!~,()", encoding="utf-8", errors="surrogateescape")


def embed(value: Any) -> str:
    """JSON in pure ASCII that cannot end, comment out or nest the script element it stands in.

    Raises:
        ValueError: NaN or infinity, which JSON does not know.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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
    ]


def _matching_place(place: MatchingPlace | None) -> list[Any] | None:
    if place is None:
        return None
    box = place.box
    return [box.x, box.y, box.width, box.height, place.likeness, place.scale, place.turned, place.mirrored]


def image_detail(record: ImageRecord, model: int) -> dict[str, Any]:
    """What the view of one image shows beyond its row.

    Args:
        record: the image.
        model: index of `model_facts(record.model)` in the page's list of models.
    """
    exif = record.exif.model_dump()
    answer = record.deciding
    seconds = record.seconds
    return {
        "file": [
            record.file.sha256,
            record.file.byte_size,
            printable(record.file.sniffed_type),
            None if record.file.claimed_type is None else printable(record.file.claimed_type),
        ],
        "reason": printable(record.reason),
        "p": None if answer.p_value is None else round(answer.p_value, DIGITS),
        "thresholds": [round(record.threshold, DIGITS), round(answer.score_threshold, DIGITS)],
        "regions": [
            [
                *(region.box.x, region.box.y, region.box.width, region.box.height, region.area),
                *(round(region.area_ratio, DIGITS), round(region.mean_probability, DIGITS)),
                round(region.peak_probability, DIGITS),
                _matching_place(region.matching_place),
            ]
            for region in record.regions
        ],
        "missing": [
            [band.box.x, band.box.y, band.box.width, band.box.height, *band.rows, printable(band.reason)]
            for band in record.not_examined
        ],
        "urls": {
            name: local_url(path)
            for name, path in record.outputs.model_dump(exclude_none=True).items()
            if name != "thumbnail"
        },
        "model": model,
        # A 64-bit integer: a number in JavaScript would lose its last digits.
        "seed": str(record.model.seed),
        "tiles": [record.tiles.size, record.tiles.overlap, record.tiles.count],
        "exif": {name: printable(value) if isinstance(value, str) else value for name, value in exif.items() if value},
        "decoding": [printable(text) for text in record.decoding],
        "findings": [
            [finding.source.value, finding.weight.value, printable(finding.statement)] for finding in record.findings
        ],
        "seconds": [round(value, 4) for value in (seconds.read, seconds.decode, seconds.predict, seconds.write)],
    }


def model_facts(model: ModelInfo) -> dict[str, Any]:
    """What is the same for all images of a model: everything but the seed."""
    facts = model.model_dump(exclude={"seed"})
    return {name: printable(value) if isinstance(value, str) else value for name, value in facts.items()}


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
