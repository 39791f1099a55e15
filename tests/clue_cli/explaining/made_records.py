"""A record with two regions, as the tests of this folder explain it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clue_cli.explaining import given
from clue_cli.explaining.given import Rate
from clue_cli.records import BoundingBox, Finding, ImageRecord, MatchingPlace, Origin, Question, Region, Verdict, Weight
from clue_cli.results.explanations import Explanation, record_digest
from model.checkpoint import EMBEDDED, digest_of
from model.error_rates import share
from tests.clue_cli.results.made import image

MINI = digest_of(EMBEDDED)

WIDTH, HEIGHT = 640, 480


def region(x: int, y: int, width: int, height: int, area: int, **changes: Any) -> Region:
    fields = {"mean_probability": 0.81, "peak_probability": 0.987}
    return Region(
        box=BoundingBox(x=x, y=y, width=width, height=height), area=area, area_ratio=area / (WIDTH * HEIGHT),
        **{**fields, **changes},
    )  # fmt: skip


def record(**changes: Any) -> ImageRecord:
    """640×480, forged: region 1 top left, 4.1 % of the picture, matches a place; region 2 bottom right, 1.27 %."""
    place = MatchingPlace(
        box=BoundingBox(x=300, y=40, width=120, height=100), likeness=0.93, scale=1.0, turned=0.0, mirrored=False
    )
    base = image()
    fields: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "verdict": Verdict.FORGED,
        "reason": "score 0.912 is above the threshold 0.877",
        "score": 0.912,
        "confidence": 0.93,
        "score_threshold": 0.877023,
        "no_evidence_below": 0.587067,
        "forged_area_ratio": 16500 / (WIDTH * HEIGHT),
        "regions": [
            region(40, 30, 130, 110, 12600, matching_place=place),
            region(500, 400, 80, 60, 3900, mean_probability=0.66, peak_probability=0.74),
        ],
        "region_count": 2,
        "model": base.model.model_copy(update={"digest": MINI, "calibration": "mini-held-out"}),
        "findings": [
            Finding(kind="marked_regions", source=Origin.PIXELS, statement="2 regions are marked, 5.37% of it.",
                    weight=Weight.SUPPORTS_EDIT),
            Finding(kind="matching_place", source=Origin.PIXELS, statement="Region 1 matches another place."),
        ],
    }  # fmt: skip
    return image(**{**fields, **changes})


def undecided(**changes: Any) -> ImageRecord:
    """The same picture, inconclusive."""
    reason = "score 0.712 lies between 0.587 and 0.877, no verdict there"
    return record(
        **{
            "verdict": Verdict.INCONCLUSIVE,
            "score": 0.712,
            "confidence": None,
            "reason": reason,
            "findings": [],
            **changes,
        }
    )


def truth(record: ImageRecord) -> str:
    """A paragraph that says nothing but what the record says."""
    answer, regions = record.verdicts[Question.LOCALIZATION], record.regions
    box = regions[0].box
    verdict = "forged" if record.verdict is Verdict.FORGED else "inconclusive"
    assert answer.score is not None
    relation = "above" if answer.score > answer.score_threshold else "below"
    return (
        f"The verdict is {verdict}: the score of {answer.score:.2f} is {relation} the threshold of "
        f"{answer.score_threshold:.3f}. Two regions are marked, {record.forged_area_ratio:.1%} of the "
        f"picture. The largest "
        f"region lies at the top left, from x {box.x} to {box.x + box.width}, and measures {box.width} × "
        f"{box.height} pixels; "
        f"its peak is {regions[0].peak_probability:.3f}. It shows a sign above a door. Region 2 covers "
        f"{regions[1].area_ratio:.2%} of the picture. It is a lead for a second method and a second person, "
        f"and no proof "
        "of an edit."
    )


def explanation(record: ImageRecord, **changes: Any) -> Explanation:
    """An attempt to explain a record; accepted unless said otherwise."""
    fields: dict[str, Any] = {
        "record": record_digest(record),
        "locator": record.locator,
        "page": record.page,
        "sha256": record.file.sha256,
        "settings_digest": record.settings_digest,
        "status": "accepted",
        "text": "It is a lead.",
        "model": "stub",
        "model_digest": "f" * 64,
        "request_sha256": "0" * 64,
        "generation": {"do_sample": False},
        "version": "1",
        "made": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return Explanation(**{**fields, **changes})


COUNTED = (
    (True, "files as cameras wrote them (40 models, 0.2 to 4.3 megapixels)", 53, 0, 3),
    (True, "the same, cut to 1024×768 and less", 53, 0, 4),
    (True, "photographs from the web as they were stored, and such changed by our code", 193, 2, 19),
    (True, "photographs from the web, compressed once more", 73, 0, 3),
    (True, "screens, drawings and pages of templates that it never saw", 140, 0, 14),
    (False, "forgeries made from cameras' files, at their own resolution, saved once", 53, 15, 23),
    (False, "forgeries made from web photographs, resized and compressed afterwards", 120, 22, 46),
    (False, "two to four pieces in 384×256", 55, 30, 18),
    (False, "copy-moves in 512² to 1024×768", 45, 18, 18),
    (False, "words changed on a page", 55, 7, 27),
)  # fmt: skip
"""Whether the pictures are untouched, what they are, how many, and how many were called forged and inconclusive."""


@contextmanager
def with_card() -> Iterator[None]:
    """Let the embedded model have the thresholds of these records, and the rates of COUNTED."""
    rates = [
        Rate(untouched, pictures, n, share(forged, n), share(inconclusive, n))
        for untouched, pictures, n, forged, inconclusive in COUNTED
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(given, "_card", lambda: (MINI, {(0.587067, 0.877023)}, rates))
        yield
