"""From heatmaps drawn by hand to verdicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from model.calibration import Calibration, OwnScore
from model.score import FEATURES, SCREEN, image_features
from model.verdict import MAX_REGIONS, SMALLEST_REGION, Judgment, find_regions, judge
from tests.drawn_pictures import page

CALIBRATION = Calibration(
    name="test",
    score_threshold=0.6,
    no_evidence_below=0.4,
    slope=1.5,
    intercept=0.2,
    fitted_on="numbers",
    fitted_megapixels=(0.02, 0.1),
)


def photo(height: int = 128, width: int = 160) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heatmap(value: float, height: int = 128, width: int = 160, background: float = 0.02) -> NDArray[np.float32]:
    """`value` in a 64×64 square, `background` elsewhere."""
    out = np.full((height, width), background, np.float32)
    out[32:96, 40:104] = value
    return out


def judged(pixels: NDArray[np.uint8], values: NDArray[np.float32], calibration: Calibration) -> Judgment:
    return judge(pixels, values, image_features(values, pixels), calibration)


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.95, "forged"), (0.62, "forged"), (0.55, "inconclusive"), (0.3, "no_evidence")]
)
def test_verdict_follows_the_score(value: float, verdict: str) -> None:
    finding = judged(photo(), heatmap(value), CALIBRATION)
    assert finding.verdict == verdict
    assert finding.score == pytest.approx(value, abs=1e-6)
    p = CALIBRATION.p_forged(finding.score)
    assert finding.confidence == {"forged": p, "no_evidence": 1 - p, "inconclusive": None}[verdict]


@pytest.mark.parametrize(
    ("value", "low", "high", "reason"),
    [
        (0.75, 0.25, 0.74996, "score 0.75000 is above the threshold 0.74996"),
        (0.75, 0.25, 0.7501, "score 0.7500 lies between 0.2500 and 0.7501, no verdict there"),
        (0.75, 0.7499997, 0.9, "score 0.7500000 lies between 0.7499997 and 0.9000000, no verdict there"),
    ],
)
def test_no_score_is_called_above_a_threshold_that_reads_the_same(
    value: float, low: float, high: float, reason: str
) -> None:
    calibration = dataclasses.replace(CALIBRATION, no_evidence_below=low, score_threshold=high)
    assert judged(photo(), heatmap(value), calibration).reason == reason


@pytest.mark.parametrize(
    "calibration",
    [dataclasses.replace(CALIBRATION, fitted_on=""), dataclasses.replace(CALIBRATION, fitted_megapixels=(1.0, 12.0))],
    ids=["not fitted", "fitted on larger images"],
)
def test_no_confidence_beyond_the_calibration(calibration: Calibration) -> None:
    finding = judged(photo(), heatmap(0.95), calibration)
    assert finding.verdict == "forged"
    assert finding.confidence is None


def test_area_and_region_are_those_of_the_square() -> None:
    finding = judged(photo(), heatmap(0.9), CALIBRATION)
    assert finding.forged_area_ratio == 64 * 64 / (128 * 160)
    (region,) = finding.regions
    assert (region.x, region.y, region.width, region.height, region.area) == (40, 32, 64, 64, 4096)
    assert region.mean_probability == pytest.approx(0.9)
    assert region.peak_probability == pytest.approx(0.9)


def test_the_threshold_is_strict() -> None:
    assert not judged(photo(), heatmap(0.5), CALIBRATION).mask.any()
    assert judged(photo(), heatmap(float(np.nextafter(np.float32(0.5), np.float32(1)))), CALIBRATION).mask.sum() == 4096


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (photo(63, 160), "too small"),
        (photo(128, 1), "too small"),
        (np.full((128, 160, 3), 77, np.uint8), "nearly uniform"),
    ],
)
def test_inconclusive_says_why(pixels: NDArray[np.uint8], reason: str) -> None:
    finding = judged(pixels, np.full(pixels.shape[:2], 0.9, np.float32), CALIBRATION)
    assert finding.verdict == "inconclusive"
    assert reason in finding.reason
    assert finding.confidence is None


def test_a_high_score_without_a_marked_pixel_is_no_forgery() -> None:
    strict = Calibration(pixel_threshold=0.99, score_threshold=0.6, no_evidence_below=0.4)
    finding = judged(photo(), heatmap(0.9), strict)
    assert finding.verdict == "inconclusive"
    assert "no pixel" in finding.reason


def test_one_hot_pixel_is_not_a_forgery() -> None:
    spot = np.full((128, 160), 0.01, np.float32)
    spot[60, 60] = 1.0
    assert judged(photo(), spot, CALIBRATION).verdict == "no_evidence"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    broken = heatmap(0.2)
    broken[5, 5] = bad
    with pytest.raises(ValueError, match="not finite"):
        judged(photo(), broken, CALIBRATION)


def test_fitted_weights_judge_what_the_network_gave() -> None:
    """The features of the prediction, not those of the heatmap that was made of it."""
    calibration = dataclasses.replace(CALIBRATION, score_weights=(0.0,) * (len(FEATURES) - 1) + (1.0, -7.0))
    faint, strong = (np.zeros(len(FEATURES)) + value for value in (5.0, 9.0))
    assert judge(photo(), heatmap(0.9), faint, calibration).verdict == "no_evidence"
    assert judge(photo(), heatmap(0.9), strong, calibration).verdict == "forged"


def test_a_heatmap_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        judged(photo(), heatmap(0.2)[:-1], CALIBRATION)


def test_regions_are_sorted_connected_diagonally_and_counted_beyond_the_list() -> None:
    probability = np.zeros((400, 400), np.float32)
    for top in range(0, 400, 12):
        for left in range(0, 400, 12):
            probability[top : top + 8, left : left + 8] = 0.6  # 34 × 34 cells
    probability[100:120, 100:140] = 0.7
    probability[120:125, 140:145] = 0.8  # touches the corner of the block: one region with it
    regions, count = find_regions(probability > 0.5, probability)
    assert len(regions) == MAX_REGIONS
    assert 34 * 34 > count > MAX_REGIONS
    assert regions[0].peak_probability == pytest.approx(0.8)
    assert regions[0].area >= 20 * 40 + 25
    assert [r.area for r in regions] == sorted((r.area for r in regions), reverse=True)


def test_no_regions_in_an_empty_mask() -> None:
    assert find_regions(np.zeros((8, 8), bool), np.zeros((8, 8), np.float32)) == ([], 0)


@pytest.mark.parametrize(
    ("speck", "kept"), [((7, 9), False), ((1, 63), False), ((8, 8), True), ((1, 64), True), ((2, 32), True)]
)
def test_what_is_smaller_than_a_cell_is_no_region(speck: tuple[int, int], kept: bool) -> None:
    values = heatmap(0.9)
    values[4 : 4 + speck[0], 90 : 90 + speck[1]] = 0.8
    finding = judged(photo(), values.copy(), CALIBRATION)
    assert (speck[0] * speck[1] >= SMALLEST_REGION) == kept
    assert finding.region_count == len(finding.regions) == 1 + kept
    assert [region.area for region in finding.regions] == [4096, SMALLEST_REGION][: 1 + kept]
    assert finding.mask[4, 90] == kept and finding.mask[32:96, 40:104].all()
    assert finding.mask.sum() == sum(region.area for region in finding.regions)
    assert finding.forged_area_ratio == finding.mask.mean()


def test_specks_are_taken_out_of_a_high_mask_too() -> None:
    """It is gone through in strips of 1024 rows; one speck lies across their border."""
    mask = np.zeros((2100, 70), bool)
    mask[0:9, 0:9] = mask[1019:1029, 10:16] = mask[1500:1564, 7] = mask[2090:2100, 60:70] = True
    regions, count = find_regions(mask, mask.astype(np.float32))
    assert (count, [region.y for region in regions]) == (3, [2090, 0, 1500])
    assert mask.sum() == 81 + 64 + 100 and not mask[1019:1029].any()


def test_specks_alone_mark_nothing() -> None:
    values = np.full((128, 160), 0.02, np.float32)
    values[::4, ::4] = 0.99
    features = np.zeros(len(FEATURES))
    finding = judge(photo(), values, features, dataclasses.replace(CALIBRATION, score_weights=(0.0,) * 15 + (3.0,)))
    assert (finding.verdict, finding.region_count, finding.forged_area_ratio) == ("inconclusive", 0, 0.0)
    assert "no pixel" in finding.reason and not finding.mask.any()


@pytest.mark.parametrize(
    ("own", "verdict"),
    [
        ({}, "forged"),
        ({"photograph": (0.9, 0.95)}, "forged"),
        ({SCREEN: OwnScore(0.5, 0.69)}, "forged"),
        ({SCREEN: OwnScore(0.5, 0.8)}, "inconclusive"),
        ({SCREEN: OwnScore(0.75, 0.8)}, "no_evidence"),
    ],
)
def test_a_screen_is_judged_by_its_own_thresholds(own: dict[str, tuple[float, float]], verdict: str) -> None:
    calibration = dataclasses.replace(CALIBRATION, kinds=own)
    finding = judged(page(128, 160), heatmap(0.7), calibration)
    assert (finding.verdict, finding.screen) == (verdict, True)
    assert finding.reason.startswith("screen or drawing: score 0.700")
    assert (finding.confidence is None) == (SCREEN in own)  # what the confidence was fitted on is not said of others
    taken = judged(photo(), heatmap(0.7), dataclasses.replace(calibration, kinds={SCREEN: OwnScore(0.75, 0.8)}))
    assert (taken.verdict, taken.screen, taken.confidence) == ("forged", False, CALIBRATION.p_forged(taken.score))
    assert taken.reason.startswith("score 0.700")


def test_a_screen_has_the_score_of_its_own_weights() -> None:
    weights = (0.0,) * len(FEATURES)
    calibration = dataclasses.replace(
        CALIBRATION, score_weights=(*weights, 3.0), kinds={SCREEN: OwnScore(0.4, 0.6, (*weights, -3.0))}
    )
    found = [judged(pixels, heatmap(0.7), calibration) for pixels in (photo(), page(128, 160))]
    assert [finding.verdict for finding in found] == ["forged", "no_evidence"]
    assert found[0].score == pytest.approx(1 - found[1].score)


@pytest.mark.parametrize(("value", "named"), [(0.95, True), (0.55, True), (0.3, False)])
def test_a_marked_region_names_the_place_that_it_matches(value: float, named: bool) -> None:
    """Where there is evidence at all."""
    pixels = photo(192, 256)
    pixels[32:96, 40:104] = pixels[110:174, 150:214]
    calibration = dataclasses.replace(CALIBRATION, pixel_threshold=0.25)
    (region,) = judged(pixels, heatmap(value, 192, 256), calibration).regions
    place = region.matching_place
    assert (place is not None) == named
    if place is not None:
        assert (place.y, place.height, place.mirrored) == (110, 64, False)
        assert place.x in range(150, 166) and place.x + place.width in range(200, 215)  # whole cells match
