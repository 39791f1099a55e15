"""From a heatmap to what the tool says: marked pixels, regions, score, verdict, confidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.calibration import Calibration
from model.decimals import told_apart
from model.matching_place import MatchingPlace, matching_places
from model.score import SCREEN, kind_of

Word = Literal["forged", "no_evidence", "inconclusive"]

MEANING = {
    "forged": "The marked regions carry traces like those that an edit leaves and that are rare in untouched pictures "
    "of this kind; it is a lead for a second method and a second person, and no proof of an edit.",
    "inconclusive": "What was found is too weak, or the picture too small, too even or too unlike those that the tool "
    "was measured on, to say anything; it counts neither for nor against the picture.",
    "no_evidence": "No such traces were found; many edited pictures get this verdict as well, so it does not show that "
    "the picture is untouched.",
}
"""What may be concluded from each verdict; the page, the README and the model card say it in these words."""

MAX_REGIONS = 100
MIN_SIDE = 64
"""Below this side, pixels, the network sees fewer than 8×8 blocks and its map means nothing."""
SMALLEST_REGION = 64
"""Pixels, one 8×8 cell: the network judges cells, so a smaller group of marked pixels is not a region."""
LOOKED_FOR = 5
"""Regions of an image, the largest, whose matching place is looked for."""
MIN_DEVIATION = 2.0
"""Below this standard deviation of the brightness (mean of R, G and B), grey levels, there is next to no content."""


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """One 8-connected group of marked pixels: its box in pixels, its area in pixels, its probabilities, and the other
    place of the picture that it matches, where there is one."""

    x: int
    y: int
    width: int
    height: int
    area: int
    mean_probability: float
    peak_probability: float
    matching_place: MatchingPlace | None = None


@dataclass(frozen=True, slots=True)
class Judgment:
    """What is said of one image.

    Attributes:
        confidence: None where the verdict is inconclusive.
        screen: whether the picture is taken for a screen, a drawing or a page, not a photograph.
    """

    verdict: Word
    reason: str
    score: float
    confidence: float | None
    forged_area_ratio: float
    regions: list[FoundRegion]
    region_count: int
    mask: NDArray[np.bool_]
    screen: bool = False


def judge(
    pixels: NDArray[np.uint8], heatmap: NDArray[np.float32], features: NDArray[np.float64], calibration: Calibration
) -> Judgment:
    """The verdict on one image.

    Args:
        pixels: H×W×3 uint8.
        heatmap: H×W float32 in [0, 1].
        features: of the prediction (`model.score.FEATURES`), for the score.
        calibration: what makes a score and a verdict of them.

    Raises:
        ValueError: the heatmap holds a value that is not finite, or has another size than the image.
    """
    if heatmap.shape != pixels.shape[:2]:
        raise ValueError(f"heatmap {heatmap.shape} does not fit the image {pixels.shape[:2]}")
    total = float(heatmap.sum(dtype=np.float64))
    if not np.isfinite(total):
        raise ValueError("the heatmap holds values that are not finite")
    mask = heatmap > calibration.pixel_threshold
    regions, count = find_regions(mask, heatmap)
    own, screen = calibration.of(features), kind_of(features) == SCREEN and min(heatmap.shape) >= MIN_SIDE
    score = own.score(heatmap, features)
    verdict, reason, confidence = _decide(pixels, score, bool(count), own)
    if verdict != "no_evidence":
        regions = _with_matching_places(pixels, mask, regions)
    if screen:
        reason = f"{SCREEN}: {reason}"
    ratio = float(np.count_nonzero(mask)) / mask.size
    return Judgment(verdict, reason, score, confidence, ratio, regions, count, mask, screen)


def _with_matching_places(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], regions: list[FoundRegion]
) -> list[FoundRegion]:
    """The regions, the largest with the places that they match."""
    looked = regions[:LOOKED_FOR]
    boxes = [np.s_[region.y : region.y + region.height, region.x : region.x + region.width] for region in looked]
    found = matching_places(pixels, mask, boxes) if looked else []
    named = [replace(region, matching_place=place) for region, place in zip(looked, found, strict=True)]
    return named + regions[LOOKED_FOR:]


def _decide(
    pixels: NDArray[np.uint8], score: float, marked: bool, calibration: Calibration
) -> tuple[Word, str, float | None]:
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        return "inconclusive", f"too small: {width}×{height} pixels, {MIN_SIDE} on each side are needed", None
    if _nearly_uniform(pixels):
        return "inconclusive", f"nearly uniform: brightness varies by less than {MIN_DEVIATION:g} grey levels", None
    # A probability is stated only for what the calibration was fitted on.
    p = calibration.p_forged(score) if calibration.covers(height * width / 1e6) else None
    low, high = calibration.no_evidence_below, calibration.score_threshold
    if score > high:
        if not marked:
            return "inconclusive", "the score is above its threshold, but no pixel is above the mask threshold", None
        digits = told_apart(score, high)
        return "forged", f"score {score:.{digits}f} is above the threshold {high:.{digits}f}", p
    if score > low:
        digits = told_apart(low, score, high)
        between = f"between {low:.{digits}f} and {high:.{digits}f}"
        return "inconclusive", f"score {score:.{digits}f} lies {between}, no verdict there", None
    confidence = None if p is None else 1 - p
    return "no_evidence", f"score {score:.3f} is not above {low:.3f}", confidence


def _nearly_uniform(pixels: NDArray[np.uint8]) -> bool:
    # Every n-th pixel is enough, and keeps 100 megapixels cheap.
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / 1e6) ** 0.5))
    red, green, blue = (pixels[::step, ::step, channel].astype(np.uint16) for channel in range(3))
    levels = (red + green + blue).ravel()
    total, squares = int(levels.sum(dtype=np.int64)), int(np.square(levels, dtype=np.uint32).sum(dtype=np.int64))
    return levels.size * squares - total**2 < (3 * MIN_DEVIATION * levels.size) ** 2


def find_regions(mask: NDArray[np.bool_], heatmap: NDArray[np.float32]) -> tuple[list[FoundRegion], int]:
    """The largest regions (at most `MAX_REGIONS`, largest first, ties by position), and how many there are.

    Groups smaller than SMALLEST_REGION are taken out of the mask, in place.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return [], 0
    top, left = int(rows[0]), int(columns[0])
    window = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    labels, count = ndimage.label(mask[window], structure=np.ones((3, 3), bool))
    areas = np.zeros(count + 1, np.int64)
    strips = [np.s_[top : top + 1024] for top in range(0, labels.shape[0], 1024)]
    for strip in strips:  # bincount copies what it counts to 64 bit
        areas += np.bincount(labels[strip][mask[window][strip]], minlength=count + 1)
    if small := int(np.count_nonzero(areas[1:] < SMALLEST_REGION)):
        kept = areas >= SMALLEST_REGION
        for strip in strips:
            part = mask[window][strip]
            part[part] = kept[labels[strip][part]]
    areas = areas[1:]
    count -= small
    largest = np.argsort(-areas, kind="stable")[: min(count, MAX_REGIONS)]
    boxes = ndimage.find_objects(labels)
    found = []
    for index in largest:
        box = boxes[index]
        inside = labels[box] == index + 1
        values = heatmap[window][box][inside]
        found.append(
            FoundRegion(
                x=left + box[1].start,
                y=top + box[0].start,
                width=box[1].stop - box[1].start,
                height=box[0].stop - box[0].start,
                area=int(areas[index]),
                mean_probability=float(np.clip(values.mean(dtype=np.float64), 0, 1)),
                peak_probability=float(min(values.max(), 1.0)),
            )
        )
    return found, int(count)
