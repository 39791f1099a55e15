"""What the view of one image shows beyond its row in the table."""

from __future__ import annotations

from typing import Any

from clue_cli.plain_words import plain_words
from clue_cli.records import Answer, ImageRecord, MatchingPlace, ModelInfo, RunRecord
from clue_cli.report.inert import local_url, printable
from clue_cli.report.rows import DIGITS
from clue_cli.results.explanations import ExplanationLog


def image_detail(record: ImageRecord, model: int, run: RunRecord | None = None) -> dict[str, Any]:
    """What the view of one image shows beyond its row.

    Args:
        record: the image.
        model: index of `model_facts(record.model)` in the page's list of models.
        run: the run, if it is known, for how often its model is wrong.
    """
    answer = record.localization
    seconds = record.seconds
    words = _words(record, run)
    return {
        **({"words": words} if words else {}),
        "file": [
            record.file.sha256,
            record.file.byte_size,
            printable(record.file.sniffed_type),
            None if record.file.claimed_type is None else printable(record.file.claimed_type),
        ],
        "reason": printable(record.reason),
        "second": _second_detail(record.synthetic),
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
            for name, path in vars(record.outputs).items()
            if path is not None and name != "thumbnail"
        },
        "model": model,
        # A 64-bit integer: a number in JavaScript would lose its last digits.
        "seed": str(record.model.seed),
        "tiles": [record.tiles.size, record.tiles.overlap, record.tiles.count],
        "exif": {
            name: printable(value) if isinstance(value, str) else value
            for name, value in vars(record.exif).items()
            if value
        },
        "decoding": [printable(text) for text in record.decoding],
        "findings": [
            [finding.source.value, finding.weight.value, printable(finding.statement)] for finding in record.findings
        ],
        "seconds": [round(value, 4) for value in (seconds.read, seconds.decode, seconds.predict, seconds.write)],
    }


def _words(record: ImageRecord, run: RunRecord | None) -> list[str]:
    """What was found in plain words; composed now for a record of a version that did not write them."""
    own = run if run is not None and run.run_id == record.run_id else None
    return [printable(text) for text in record.plain_words or plain_words(record, own)]


def _second_detail(answer: Answer | None) -> dict[str, Any] | None:
    """What the view of one image shows of the second question; None: it was not asked."""
    if answer is None:
        return None
    return {
        "reason": printable(answer.reason),
        "confidence": None if answer.confidence is None else round(answer.confidence, DIGITS),
        "p": None if answer.p_value is None else round(answer.p_value, DIGITS),
        "thresholds": [round(answer.no_evidence_below, DIGITS), round(answer.score_threshold, DIGITS)],
        "method": printable(answer.method or ""),
        "digest": answer.method_digest,
        "calibration": printable(answer.calibration or ""),
        "parts": [[printable(name).replace("_", " "), f"{value:.6g}"] for name, value in answer.parts.items()],
    }


def _matching_place(place: MatchingPlace | None) -> list[Any] | None:
    if place is None:
        return None
    box = place.box
    return [box.x, box.y, box.width, box.height, place.likeness, place.scale, place.turned, place.mirrored]


def explanations(record: ImageRecord, explained: ExplanationLog | None) -> dict[str, Any]:
    """The texts of language models about a record that passed the check: text, model, its digest, and when."""
    texts = explained.accepted(record) if explained else []
    lines = [[printable(text) for text in (one.text or "", one.model, one.model_digest, one.made)] for one in texts]
    return {"explanations": lines} if lines else {}


def model_facts(model: ModelInfo) -> dict[str, Any]:
    """What is the same for all images of a model: everything but the seed."""
    facts = model.model_dump(exclude={"seed"})
    return {name: printable(value) if isinstance(value, str) else value for name, value in facts.items()}
