"""What a language model is given about one record, in words and as values, which its text is checked against.

No string of the evidence is among it: neither names nor metadata, nor statements that may quote them. Of what was found
in the metadata, the file and its container it says what kind of thing it is, which way it points, and its numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from clue_cli.explaining.quantities import NUMBER, in_digits, plain, value_of
from clue_cli.records import BoundingBox, ImageRecord, Origin, Question, Region, RunRecord, Weight
from clue_cli.terminal import printable
from model.verdict import MEANING

REGIONS = 10
"""Regions that are described; the largest."""

Unit = Literal["share", "pixels", "count", "megapixels", "degrees", "factor"]


class Box(NamedTuple):
    """A rectangle in pixels of the image as displayed."""

    x: int
    y: int
    width: int
    height: int


class Value(NamedTuple):
    """A number that may be named.

    Attributes:
        unit: what it counts; a share is from 0 to 1.
        label: what it is, where that has a name of its own: `score`, `threshold`, `confidence`, `p_value`, `area`,
            `mean`, `peak`, `likeness`, `rate`, `x`, `y`, `width`, `height`.
        region: number of the region that it describes; None: none.
    """

    number: float
    unit: Unit
    label: str = ""
    region: int | None = None


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
        score, threshold, lower: the score and its two thresholds.
        width, height: of the image as displayed, pixels.
        region_count: marked regions, those that are not described included.
        boxes: of the regions, by number from 1.
        places: other places that regions match, by the region's number.
        values: all numbers.
        pairs, ranges: numbers that belong together, as x and y, or from and to, with the region's number.
        rates: how often the verdicts are wrong.
        kinds: of findings.
        sources: of findings.
        supports: whether a finding supports an edit.
        facts: the text.
    """

    verdict: str
    score: float
    threshold: float
    lower: float
    width: int
    height: int
    region_count: int
    boxes: dict[int, Box] = field(default_factory=dict)
    places: dict[int, Box] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    pairs: list[tuple[float, float, int | None]] = field(default_factory=list)
    ranges: list[tuple[float, float, int | None]] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    kinds: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    supports: bool = False
    facts: str = ""


def given(record: ImageRecord, run: RunRecord | None) -> Given:
    """What a model is given about a record: its answer on localization, regions, findings and error rates.

    Args:
        run: the latest run, for what its calibration promises; None: unknown.
    """
    answer = record.verdicts[Question.LOCALIZATION]
    score = answer.score or 0.0  # only the other question can be without one
    found = Given(
        verdict=answer.verdict.value,
        score=score,
        threshold=answer.score_threshold,
        lower=answer.no_evidence_below,
        width=record.width,
        height=record.height,
        region_count=record.region_count,
        kinds=frozenset(finding.kind for finding in record.findings),
        sources=frozenset(finding.source.value for finding in record.findings),
        supports=any(finding.weight is Weight.SUPPORTS_EDIT for finding in record.findings),
    )
    found.values += [
        Value(score, "share", "score"),
        Value(answer.score_threshold, "share", "threshold"),
        Value(answer.no_evidence_below, "share", "threshold"),
        Value(record.threshold, "share", "threshold"),
        Value(record.forged_area_ratio, "share", "area"),
        Value(record.region_count, "count"),
        Value(record.width, "pixels", "width"),
        Value(record.height, "pixels", "height"),
        Value(round(record.width * record.height / 1e6, 2), "megapixels"),
    ]
    found.pairs.append((record.width, record.height, None))
    found.ranges.append((answer.no_evidence_below, answer.score_threshold, None))
    lines = [
        f"The picture has {record.width} x {record.height} pixels.",
        f"Verdict: {answer.verdict.value.replace('_', ' ')}. {MEANING[answer.verdict.value]}",
        f"Reason: {printable(answer.reason)}.",
        f"Score: {score:.3f}. Threshold: {answer.score_threshold:.3f}, above which the verdict is forged. "
        f"Lower threshold: {answer.no_evidence_below:.3f}.",
    ]
    if answer.confidence is not None:
        found.values.append(Value(answer.confidence, "share", "confidence"))
        lines.append(f"Confidence: {answer.confidence:.2f}, an estimate for pictures like those of the calibration.")
    if answer.p_value is not None:
        found.values.append(Value(answer.p_value, "share", "p_value"))
        lines.append(f"p-value: {answer.p_value:.4f}.")
    lines.append(f"Marked regions: {record.region_count}, {record.forged_area_ratio:.2%} of the picture.")
    for number, region in enumerate(record.regions[:REGIONS], 1):
        lines.append(_region(found, number, region))
    lines += _findings(found, record)
    lines += _error_rates(found, record, run)
    found.facts = "\n".join(lines)
    return found


def _region(found: Given, number: int, region: Region) -> str:
    box = _box(region.box)
    found.boxes[number] = box
    _add_box(found, box, number)
    found.values += [
        Value(region.area, "pixels", "area", number),
        Value(region.area_ratio, "share", "area", number),
        Value(region.mean_probability, "share", "mean", number),
        Value(region.peak_probability, "share", "peak", number),
    ]
    words = (
        f"Region {number}: {_spelled(box)}, {place_words(box, found.width, found.height)}; area {region.area} pixels, "
        f"{region.area_ratio:.2%} of the picture; heatmap: mean {region.mean_probability:.3f}, peak "
        f"{region.peak_probability:.3f}."
    )
    if other := region.matching_place:
        place = _box(other.box)
        found.places[number] = place
        _add_box(found, place, number)
        found.values += [
            Value(other.likeness, "share", "likeness", number),
            Value(other.scale, "factor", "", number),
            Value(other.turned, "degrees", "", number),
        ]
        words += (
            f" Region {number} matches another place, {_spelled(place)}: {other.likeness:.0%} of it match; one "
            f"may be a "
            "copy of the other, or both belong to a pattern that repeats."
        )
    return words


def _add_box(found: Given, box: Box, number: int) -> None:
    right, bottom = box.x + box.width, box.y + box.height
    named = (("x", box.x), ("x", right), ("y", box.y), ("y", bottom), ("width", box.width), ("height", box.height))
    found.values += [Value(value, "pixels", label, number) for label, value in named]
    corners = ((box.x, box.y), (right, bottom), (right, box.y), (box.x, bottom), (box.width, box.height))
    found.pairs += [(*pair, number) for pair in corners]
    found.ranges += [(box.x, right, number), (box.y, bottom, number)]


def _box(box: BoundingBox) -> Box:
    return Box(box.x, box.y, box.width, box.height)


def _spelled(box: Box) -> str:
    return f"x {box.x} to {box.x + box.width}, y {box.y} to {box.y + box.height} ({box.width} x {box.height} pixels)"


def place_words(box: Box, width: int, height: int) -> str:
    """Where a box is, by its middle, in thirds of the picture: `top left`, `centre`, `bottom`."""
    across, down = (box.x + box.width / 2) / width, (box.y + box.height / 2) / height
    column = "left" if across < 1 / 3 else "right" if across > 2 / 3 else ""
    row = "top" if down < 1 / 3 else "bottom" if down > 2 / 3 else ""
    return " ".join(filter(None, (row, column))) or "centre"


_WEIGHTS = {Weight.SUPPORTS_EDIT: "supports an edit", Weight.SPEAKS_AGAINST: "speaks against an edit"}


def _findings(found: Given, record: ImageRecord) -> list[str]:
    lines = []
    for finding in record.findings:
        if finding.kind.startswith("synthetic"):
            continue  # of the other question
        words = [finding.kind.replace("_", " ")]
        if finding.weight in _WEIGHTS:
            words.append(_WEIGHTS[finding.weight])
        for name, value in finding.data.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            share = isinstance(value, float) and 0 <= value <= 1
            found.values.append(Value(value, "share" if share else "count"))
            words.append(f"{name.replace('_', ' ')} {value:g}")
        statement = f": {printable(finding.statement)}" if finding.source is Origin.PIXELS else ""
        lines.append(f"Finding ({finding.source.value}): {', '.join(words)}{statement}")
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
        for text, percent in re.findall(rf"(?<![\w.])({NUMBER})( ?%)?", in_digits(plain(promise))):
            number = value_of(text)[0]
            found.values.append(Value(number / 100, "share", "rate") if percent else Value(number, "count"))
        return [f"Error rates: {printable(promise)}"]
    digest, thresholds, rates = _card()
    answer = record.verdicts[Question.LOCALIZATION]
    if record.model.digest != digest or (answer.no_evidence_below, answer.score_threshold) not in thresholds:
        return [_UNKNOWN]
    lines = ["Error rates, measured on held-out pictures; in brackets the 95 % interval:"]
    for rate in rates:
        found.values.append(Value(rate.n, "count"))
        shares = []
        for share, low, high in (rate.forged, rate.inconclusive):
            found.ranges.append((low, high, None))
            shares.append(f"{share:.1%} [{low:.1%}, {high:.1%}]")
        kind = "untouched pictures" if rate.untouched else "made forgeries"
        lines.append(
            f"- {kind} ({rate.pictures}): of {rate.n}, {shares[0]} were called forged and {shares[1]} called "
            f"inconclusive."
        )
    found.rates = rates
    return lines


_UNKNOWN = "Error rates: none are known for this model and calibration."


def rates_of(card: str) -> list[Rate]:
    """The rows of the tables of a model card with the columns n, called forged and called inconclusive."""
    share = r"([\d.]+) % \[([\d.]+) %, ([\d.]+) %\]"
    row = re.compile(rf"\| ([^|]+) \| (\d+) \| {share} \| {share} \|")
    found, untouched = [], False
    for line in card.splitlines():
        if line.startswith("| ") and "| n | called `forged` |" in line:
            untouched = line.startswith("| untouched")
        elif match := row.fullmatch(line):
            pictures, n, *numbers = match.groups()
            found.append(Rate(untouched, pictures, int(n), _share(*numbers[:3]), _share(*numbers[3:])))
    return found


def _share(*percents: str) -> tuple[float, float, float]:
    share, low, high = (float(text) / 100 for text in percents)
    return share, low, high


@cache
def _card() -> tuple[str, set[tuple[float, float]], list[Rate]]:
    """Of the embedded model: its digest, the pairs of its thresholds, and the error rates in its card."""
    from model.checkpoint import EMBEDDED, inspect

    model = inspect("mini")
    calibration = model.calibration
    thresholds = {(one.no_evidence_below, one.score_threshold) for one in calibration.kinds.values()}
    thresholds.add((calibration.no_evidence_below, calibration.score_threshold))
    return model.digest, thresholds, rates_of((EMBEDDED.parent / "MODEL_CARD.md").read_text("utf-8"))
