"""What a language model is given about one record: sentences, and the values that its text is checked against.

No string of the evidence is among it: neither names nor metadata, nor statements that may quote them. Of what was found
in the metadata, the file and its container it says what kind of thing it is, which way it points, and its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from clue_cli.plain_words import place_of
from clue_cli.records import BoundingBox, ImageRecord, Origin, Question, Region, RunRecord, Weight
from clue_cli.terminal import printable
from model.verdict import MEANING

REGIONS = 10
"""Regions that are described; the largest."""


class Box(NamedTuple):
    """A rectangle in pixels of the image as displayed."""

    x: int
    y: int
    width: int
    height: int


class Rate(NamedTuple):
    """How often pictures of one kind get two verdicts: a share with its interval, each 0 to 1."""

    untouched: bool
    pictures: str
    n: int
    forged: tuple[float, float, float]
    inconclusive: tuple[float, float, float]


@dataclass(slots=True)
class Given:
    """What is known of one record.

    Attributes:
        verdict: of the localization.
        width, height: of the image as displayed, pixels.
        region_count: marked regions, those that are not described included.
        boxes: of the regions, by number from 1.
        places: other places that regions match, by the region's number.
        values: numbers of the picture by name (score, threshold, lower, confidence, area, width, height), under 0, and
            of each region (area, pixels, mean, peak, likeness, and the edges and sides of its box), under its number.
            Areas, likenesses and all that comes from the heatmap are shares from 0 to 1.
        rates: how often the verdicts are wrong.
        supports: whether a finding supports an edit.
        sentences: the facts, each of which may be repeated as it is.
    """

    verdict: str
    width: int
    height: int
    region_count: int
    values: dict[int, dict[str, float]]
    boxes: dict[int, Box] = field(default_factory=dict)
    places: dict[int, Box] = field(default_factory=dict)
    rates: list[Rate] = field(default_factory=list)
    supports: bool = False
    sentences: list[str] = field(default_factory=list)


def given(record: ImageRecord, run: RunRecord | None) -> Given:
    """What a model is given about a record: its answer on localization, regions, findings and error rates.

    Args:
        run: the latest run, for what its calibration promises; None: unknown.
    """
    answer = record.verdicts[Question.LOCALIZATION]
    values = {
        "score": answer.score or 0.0,  # only the other question can be without one
        "threshold": answer.score_threshold,
        "lower": answer.no_evidence_below,
        "area": record.forged_area_ratio,
        "width": record.width,
        "height": record.height,
    }
    verdict = answer.verdict.value.replace("_", " ")
    lines = [
        f"The picture has {record.width} x {record.height} pixels.",
        f"The verdict is {verdict}.",
        MEANING[answer.verdict.value],
        f"The reason: {printable(answer.reason)}.",
        f"The score is {values['score']:.3f}.",
        f"The threshold is {answer.score_threshold:.3f}, above which the verdict is forged.",
        f"The lower threshold is {answer.no_evidence_below:.3f}.",
    ]
    if answer.confidence is not None:
        values["confidence"] = answer.confidence
        lines.append(
            f"The confidence is {answer.confidence:.2f}, an estimate for pictures like those of the calibration."
        )
    if answer.p_value is not None:
        lines.append(f"The p-value is {answer.p_value:.4f}.")
    count = record.region_count
    lines.append(f"{count} {'region is' if count == 1 else 'regions are'} marked.")
    lines.append(f"{record.forged_area_ratio:.2%} of the picture is marked.")
    found = Given(
        verdict=answer.verdict.value,
        width=record.width,
        height=record.height,
        region_count=count,
        values={0: values},
        supports=any(finding.weight is Weight.SUPPORTS_EDIT for finding in record.findings),
        sentences=lines,
    )
    for number, region in enumerate(record.regions[:REGIONS], 1):
        lines += _region(found, number, region)
    lines += _findings(record)
    lines += _error_rates(found, record, run)
    return found


def _region(found: Given, number: int, region: Region) -> list[str]:
    box = found.boxes[number] = _box(region.box)
    values = found.values[number] = {
        "area": region.area_ratio,
        "pixels": region.area,
        "mean": region.mean_probability,
        "peak": region.peak_probability,
        "left": box.x,
        "right": box.x + box.width,
        "top": box.y,
        "bottom": box.y + box.height,
        "width": box.width,
        "height": box.height,
    }
    lines = [
        f"Region {number} lies at the {place_of(box, found.width, found.height)} and covers "
        f"{region.area_ratio:.2%} of the picture.",
        f"Region {number} spans x {box.x} to {box.x + box.width}, y {box.y} to {box.y + box.height}, measures "
        f"{box.width} x {box.height} pixels and has an area of {region.area} pixels.",
        f"Region {number} has a heatmap mean of {region.mean_probability:.3f} and a heatmap peak of "
        f"{region.peak_probability:.3f}.",
    ]
    if other := region.matching_place:
        found.places[number] = _box(other.box)
        values["likeness"] = other.likeness
        lines.append(
            f"Region {number} matches another place of the picture with {other.likeness:.0%} likeness; one may be a "
            "copy of the other, or both belong to a pattern that repeats."
        )
    return lines


def _box(box: BoundingBox) -> Box:
    return Box(box.x, box.y, box.width, box.height)


_WEIGHTS = {Weight.SUPPORTS_EDIT: "supports an edit", Weight.SPEAKS_AGAINST: "speaks against an edit"}


def _findings(record: ImageRecord) -> list[str]:
    lines = []
    for finding in record.findings:
        if finding.kind.startswith("synthetic"):
            continue  # of the other question
        words = [finding.kind.replace("_", " ")]
        if finding.weight in _WEIGHTS:
            words.append(_WEIGHTS[finding.weight])
        words += [
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in finding.data.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        statement = f" {printable(finding.statement)}" if finding.source is Origin.PIXELS else ""
        lines.append(f"A finding in the {finding.source.value}: {', '.join(words)}.{statement}")
    return lines


def _error_rates(found: Given, record: ImageRecord, run: RunRecord | None) -> list[str]:
    """How often the verdicts are wrong: as the calibration file promises, or as the card of the embedded model says."""
    own = record.model.calibration_sha256
    if own is not None:
        promise = (
            None if run is None or run.model.get("calibration_sha256") != own else run.model["calibration_promise"]
        )
        if not isinstance(promise, str):
            return [_UNKNOWN]
        return [printable(promise)]
    digest, thresholds, rates = _card()
    answer = record.verdicts[Question.LOCALIZATION]
    if record.model.digest != digest or (answer.no_evidence_below, answer.score_threshold) not in thresholds:
        return [_UNKNOWN]
    lines = []
    for rate in rates:
        shares = [f"{share:.1%} [{low:.1%}, {high:.1%}]" for share, low, high in (rate.forged, rate.inconclusive)]
        lines.append(
            f"Of {rate.n} {'untouched pictures' if rate.untouched else 'made forgeries'} ({rate.pictures}), "
            f"{shares[0]} were called forged and {shares[1]} were called inconclusive."
        )
    found.rates = rates
    return lines


_UNKNOWN = "No error rates are known for this model and calibration."


@cache
def _card() -> tuple[str, set[tuple[float, float]], list[Rate]]:
    """Of the embedded model: its digest, the pairs of its thresholds, and its error rates."""
    from model.checkpoint import EMBEDDED, inspect
    from model.error_rates import error_rates, share

    model = inspect("mini")
    calibration = model.calibration
    thresholds = {(one.no_evidence_below, one.score_threshold) for one in calibration.kinds.values()}
    thresholds.add((calibration.no_evidence_below, calibration.score_threshold))
    counted = error_rates(EMBEDDED, model.digest)
    rates = (
        [
            Rate(untouched, one.pictures, one.n, share(one.forged, one.n), share(one.inconclusive, one.n))
            for untouched, group in ((True, counted.untouched), (False, counted.forgeries))
            for one in group
        ]
        if counted
        else []
    )
    return model.digest, thresholds, rates
