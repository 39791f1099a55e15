"""A heatmap is drawn along the edges, and its regions are weighed by what was found before."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.calibration import image_features
from model.clue import CLUE
from model.edges import follow_edges
from model.prediction import Prediction
from model.predictor import Predictor, complete
from model.presets.spec import EdgeSpec, RegionSpec
from model.weak_regions import HINT
from tests.drawn_pictures import page

EDGES = EdgeSpec(radius=8, epsilon=3e-4)
REGIONS = RegionSpec(weaker=1.0, certain=8.0)


def test_a_small_region_is_not_weaker_for_being_drawn() -> None:
    """On a picture of one colour drawing averages: a region of 3×3 cells loses more than one of 6×6."""
    pixels = np.full((128, 160, 3), 90, np.uint8)
    heatmap = np.full((128, 160), 0.02, np.float32)
    small, large = (slice(16, 40), slice(16, 40)), (slice(64, 112), slice(80, 128))
    heatmap[small], heatmap[large] = 0.97, 0.95
    drawn = heatmap.copy()
    follow_edges(drawn, pixels, EDGES)
    assert 0.5 < drawn[small].max() < drawn[large].max() - 0.1
    complete(heatmap, pixels, EDGES, REGIONS)
    assert np.array_equal(heatmap, drawn)


def test_a_weak_region_is_demoted_and_drawn() -> None:
    pixels = np.full((128, 160, 3), 90, np.uint8)
    heatmap = np.full((128, 160), 0.02, np.float32)
    weak, strong = (slice(16, 48), slice(16, 48)), (slice(64, 112), slice(80, 128))
    heatmap[weak], heatmap[strong] = 0.8, 0.99
    complete(heatmap, pixels, EDGES, REGIONS)
    assert heatmap[weak].max() == np.float32(HINT)
    assert heatmap[strong].max() > 0.9


def test_without_either_it_stays_as_it_is() -> None:
    heatmap = np.random.default_rng(0).random((40, 56), np.float32)
    before = heatmap.copy()
    complete(heatmap, np.zeros((40, 56, 3), np.uint8), EdgeSpec(), RegionSpec())
    assert np.array_equal(heatmap, before)


@pytest.mark.parametrize("where", [np.s_[:], np.s_[20:24, 30:34]])
def test_what_is_not_finite_stays_so(where: Any) -> None:
    """For the verdict to refuse; nothing is raised before."""
    heatmap = np.full((64, 96), 0.9, np.float32)
    heatmap[where] = np.nan
    pixels = np.full((64, 96, 3), 90, np.uint8)
    image_features(heatmap, pixels)
    complete(heatmap, pixels, EDGES, REGIONS)
    assert np.isnan(heatmap).any()


def test_the_predictor_does_it_to_the_whole(monkeypatch: pytest.MonkeyPatch, network: CLUE) -> None:
    """When the tiles are blended; the features are those from before."""
    seen: list[object] = []
    before: list[float] = []

    def note(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8], edges: EdgeSpec, regions: RegionSpec) -> None:
        seen.append((heatmap.shape, pixels.shape, edges, regions))
        before.append(float(heatmap[0, 0]))
        heatmap[0, 0] = 0.25

    monkeypatch.setattr("model.predictor.complete", note)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    (prediction,) = Predictor(network).predict([(0, pixels)])
    assert isinstance(prediction, Prediction)
    assert seen == [((200, 300), (200, 300, 3), network.preset.edges, network.preset.regions)]
    assert prediction.heatmap[0, 0] == 0.25
    assert not np.array_equal(prediction.features, image_features(prediction.heatmap, pixels))
    prediction.heatmap[0, 0] = before[0]
    assert np.array_equal(prediction.features, image_features(prediction.heatmap, pixels))


def test_a_screen_may_stay_as_it_was_found(monkeypatch: pytest.MonkeyPatch, network: CLUE) -> None:
    """Where the preset says so, and never a photograph."""
    completed: list[tuple[int, ...]] = []
    monkeypatch.setattr("model.predictor.complete", lambda heatmap, *_: completed.append(heatmap.shape))
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    screen = page(208, 304)
    for as_found, expected in ((False, [(200, 300), (208, 304)]), (True, [(200, 300)])):
        monkeypatch.setattr(network, "preset", dataclasses.replace(network.preset, screens_as_found=as_found))
        completed.clear()
        list(Predictor(network).predict([(0, photo), (1, screen)]))
        assert sorted(completed) == expected
