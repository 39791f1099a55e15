"""The record of one image says by which thresholds it was judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clue_cli.evidence.item import Photo
from clue_cli.records import Question
from clue_cli.scan.assemble import image_record
from model.calibration import Calibration, OwnScore
from model.predictor import Prediction
from model.preset import TileSpec
from model.score import PHOTO, SCREEN, image_features
from model.verdict import judge
from tests.clue_cli.results.made import Pixels, identity, image
from tests.drawn_pictures import noise, page

CALIBRATION = Calibration(
    name="test",
    no_evidence_below=0.3,
    score_threshold=0.6,
    kinds={SCREEN: OwnScore(0.7, 0.9)},
    fitted_on="photographs",
    fitted_megapixels=(0.01, 0.1),
)


@pytest.mark.parametrize(
    ("pixels", "kinds", "thresholds", "verdict"),
    [
        (noise(128, 160), {SCREEN: OwnScore(0.7, 0.9)}, (0.3, 0.6), "forged"),
        (page(128, 160), {SCREEN: OwnScore(0.7, 0.9)}, (0.7, 0.9), "inconclusive"),
        (page(128, 160), {PHOTO: (0.7, 0.9)}, (0.3, 0.6), "forged"),
    ],
    ids=["photograph", "screen", "nothing of its own"],
)
def test_thresholds_are_those_of_the_kind_of_picture(
    pixels: Pixels, kinds: dict[str, OwnScore], thresholds: tuple[float, float], verdict: str
) -> None:
    calibration = replace(CALIBRATION, kinds=kinds)
    heatmap = np.full(pixels.shape[:2], 0.02, np.float32)
    heatmap[32:96, 40:104] = 0.8
    prediction = Prediction(0, heatmap, image_features(heatmap, pixels), seed=1, tile_count=1, seconds=0)
    judgment = judge(pixels, heatmap, prediction.features, calibration)
    photo, like = Photo("a.jpg", identity(), 0, 1, pixels, 1), image()
    record = image_record(
        photo,
        prediction,
        judgment,
        model=like.model,
        calibration=calibration,
        tile=TileSpec(),
        seconds_write=0,
    )
    answer = record.verdicts[Question.LOCALIZATION]
    assert (answer.no_evidence_below, answer.score_threshold) == thresholds
    assert (record.verdict, record.score) == (verdict, pytest.approx(0.8))
    screen = pixels.max() > 240
    assert record.reason.startswith(SCREEN) == screen
    assert ("screen_or_drawing" in [finding.kind for finding in record.findings]) == screen
    assert (record.forged_area_ratio, record.region_count) == (0.2, 1)
