"""A heatmap is drawn along the edges, and its regions are weighed by what was found before."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from model.clue import CLUE
from model.postprocess import HINT, complete, demote_weak_regions, follow_edges, set_level, strengths
from model.predictor import Prediction, Predictor
from model.preset import EdgeSpec, LevelSpec, RegionSpec
from model.score import image_features
from tests.drawn_pictures import page

EDGES = EdgeSpec(radius=8, epsilon=3e-4)
REGIONS = RegionSpec(weaker=1.0, certain=8.0)
DEFAULT = EdgeSpec(radius=8)


def test_a_small_region_is_not_weaker_for_being_drawn() -> None:
    """On a picture of one colour drawing averages: a region of 3×3 cells loses more than one of 6×6."""
    pixels = np.full((128, 160, 3), 90, np.uint8)
    heatmap = np.full((128, 160), 0.02, np.float32)
    small, large = (slice(16, 40), slice(16, 40)), (slice(64, 112), slice(80, 128))
    heatmap[small], heatmap[large] = 0.97, 0.95
    drawn = heatmap.copy()
    follow_edges(drawn, pixels, EDGES)
    assert 0.5 < drawn[small].max() < drawn[large].max() - 0.1
    complete(heatmap, pixels, LevelSpec(), EDGES, REGIONS)
    assert np.array_equal(heatmap, drawn)


def test_a_weak_region_is_demoted_and_drawn() -> None:
    pixels = np.full((128, 160, 3), 90, np.uint8)
    heatmap = np.full((128, 160), 0.02, np.float32)
    weak, strong = (slice(16, 48), slice(16, 48)), (slice(64, 112), slice(80, 128))
    heatmap[weak], heatmap[strong] = 0.8, 0.99
    complete(heatmap, pixels, LevelSpec(), EDGES, REGIONS)
    assert heatmap[weak].max() == np.float32(HINT)
    assert heatmap[strong].max() > 0.9


LEVEL = LevelSpec(slope=0.5, pivot=1.0, cells=16, lowest=-0.5, least=-3.0)


@pytest.mark.parametrize(
    ("strength", "moved"),
    [
        (-6.0, 0.0),  # next to nothing was found
        (-3.0, 0.0),
        (-2.5, 0.5),  # no more than it is stronger than the least
        (-1.0, 1.0),  # half of the way to the pivot
        (1.0, 0.0),
        (1.5, -0.25),
        (5.0, -0.5),  # and no lower
    ],
)
def test_a_picture_is_moved_towards_the_pivot(strength: float, moved: float) -> None:
    """By what its strongest cells say, every pixel by the same log-odds."""
    logits = np.full((64, 96), -8.0)
    logits[16:48, 16:48] = strength
    heatmap = expit(logits).astype(np.float32)
    assert set_level(heatmap, LEVEL, strengths(heatmap)) == pytest.approx(moved, abs=1e-3)
    assert heatmap == pytest.approx(expit(logits + moved), abs=1e-5)


def test_a_small_or_extreme_picture_has_a_level_too() -> None:
    for value in (0.0, 1.0):
        heatmap = np.full((8, 20), value, np.float32)
        set_level(heatmap, LEVEL, strengths(heatmap))
        assert (heatmap == value).all()


def test_with_none_of_them_it_stays_as_it_is() -> None:
    heatmap = np.random.default_rng(0).random((40, 56), np.float32)
    before = heatmap.copy()
    complete(heatmap, np.zeros((40, 56, 3), np.uint8), LevelSpec(), EdgeSpec(), RegionSpec())
    assert np.array_equal(heatmap, before)


@pytest.mark.parametrize("where", [np.s_[:], np.s_[20:24, 30:34]])
def test_what_is_not_finite_stays_so(where: Any) -> None:
    """For the verdict to refuse; nothing is raised before."""
    heatmap = np.full((64, 96), 0.9, np.float32)
    heatmap[where] = np.nan
    pixels = np.full((64, 96, 3), 90, np.uint8)
    image_features(heatmap, pixels)
    complete(heatmap, pixels, LevelSpec(), EDGES, REGIONS)
    assert np.isnan(heatmap).any()


def test_the_predictor_does_it_to_the_whole(monkeypatch: pytest.MonkeyPatch, network: CLUE) -> None:
    """When the tiles are blended; the features are those from before."""
    seen: list[object] = []
    before: list[float] = []

    def note(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8], *specs: object) -> None:
        seen.append((heatmap.shape, pixels.shape, *specs[:3]))
        before.append(float(heatmap[0, 0]))
        heatmap[0, 0] = 0.25

    monkeypatch.setattr("model.predictor.complete", note)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    (prediction,) = Predictor(network).predict([(0, pixels)])
    assert isinstance(prediction, Prediction)
    preset = network.preset
    assert seen == [((200, 300), (200, 300, 3), preset.level, preset.edges, preset.regions)]
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


def disc(shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(y - shape[0] / 2, x - shape[1] / 2) < radius)


def coarse(truth: NDArray[np.bool_], cell: int = 8) -> NDArray[np.float32]:
    """What a network says that looks at cells: their share of the truth."""
    height, width = truth.shape
    cells = truth.reshape(height // cell, cell, width // cell, cell).mean((1, 3))
    return np.repeat(np.repeat(cells, cell, 0), cell, 1).astype(np.float32)


def painted(truth: NDArray[np.bool_], inside: tuple[int, int, int], outside: tuple[int, int, int]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(-4, 5, (*truth.shape, 3))
    return np.clip(np.where(truth[..., None], inside, outside) + noise, 0, 255).astype(np.uint8)


def overlap(heatmap: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    marked = heatmap > 0.5
    return float((marked & truth).sum() / (marked | truth).sum())


@pytest.mark.parametrize(
    ("inside", "outside"),
    [((200, 60, 60), (60, 60, 60)), ((60, 200, 60), (60, 60, 200)), ((120, 120, 120), (90, 90, 90))],
)
def test_the_mask_ends_where_the_object_does(inside: tuple[int, int, int], outside: tuple[int, int, int]) -> None:
    truth = disc((160, 200), 44.0)
    heatmap = coarse(truth)
    before = overlap(heatmap, truth)
    follow_edges(heatmap, painted(truth, inside, outside), DEFAULT)
    assert before < 0.93 and overlap(heatmap, truth) > 0.97


def test_without_an_edge_a_region_keeps_its_place() -> None:
    truth = disc((160, 200), 44.0)
    heatmap = coarse(truth)
    follow_edges(heatmap, painted(truth, (90, 90, 90), (90, 90, 90)), DEFAULT)
    assert overlap(heatmap, truth) > 0.9


def test_a_constant_heatmap_stays_whatever_the_picture() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    for value in (0.0, 0.3, 1.0):
        heatmap = np.full((61, 83), value, np.float32)
        follow_edges(heatmap, pixels, DEFAULT)
        assert heatmap == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "radius", "rows"), [((1, 1), 64, 16), ((3, 5), 8, 512), ((77, 101), 1, 16), ((300, 40), 8, 64)]
)
def test_strips_are_the_whole_and_in_range(
    shape: tuple[int, int], radius: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(shape[0])
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    whole = rng.random(shape).astype(np.float32)
    strips = whole.copy()
    follow_edges(whole, pixels, EdgeSpec(radius))
    monkeypatch.setattr("model.postprocess.ROWS", rows)
    follow_edges(strips, pixels, EdgeSpec(radius))
    assert strips == pytest.approx(whole, abs=1e-5)
    assert whole.min() >= 0 and whole.max() <= 1


def test_threads_draw_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips depend on what their neighbours were before these were drawn, in whatever order that is."""
    monkeypatch.setattr("model.postprocess.ROWS", 24)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (301, 64, 3), dtype=np.uint8)
    alone = rng.random((301, 64), np.float32)
    shared = alone.copy()
    follow_edges(alone, pixels, EDGES)
    with ThreadPoolExecutor(3) as helpers:
        follow_edges(shared, pixels, EDGES, helpers)
        taken = [helpers.submit(lambda: None) for _ in range(9)]  # no thread is left waiting
        assert all(one.result(10) is None for one in taken)
    assert np.array_equal(shared, alone)


def test_a_picture_that_is_turned_is_read_as_it_lies() -> None:
    """Views with negative strides come from EXIF orientations."""
    truth = disc((96, 64), 20.0)
    pixels = painted(truth, (200, 60, 60), (60, 60, 60))
    straight, turned = coarse(truth), coarse(truth)[::-1, ::-1].copy()
    follow_edges(straight, pixels, DEFAULT)
    follow_edges(turned, pixels[::-1, ::-1], DEFAULT)
    assert turned[::-1, ::-1] == pytest.approx(straight, abs=1e-4)


def test_sizes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(20, 30\) does not fit the image \(30, 20, 3\)"):
        follow_edges(np.zeros((20, 30), np.float32), np.zeros((30, 20, 3), np.uint8), DEFAULT)


BY_TWO = RegionSpec(weaker=2.0, certain=6.0)
Box = tuple[int, int, int, int]
FIRST, SECOND = (8, 8, 24, 24), (40, 64, 61, 83)


def picture(*regions: tuple[Box, float], shape: tuple[int, int] = (77, 101)) -> NDArray[np.float32]:
    """Log-odds -4 everywhere but in boxes (top, left, bottom, right)."""
    z = np.full(shape, -4.0)
    for (top, left, bottom, right), odds in regions:
        z[top:bottom, left:right] = odds
    return np.asarray(expit(z), np.float32)


@pytest.mark.parametrize(
    ("first", "second", "demoted"),
    [
        (5.0, 2.5, 1),
        (5.0, 3.5, 0),
        (2.5, 5.0, 1),
        (9.0, 6.5, 0),  # certain in itself
        (9.0, 5.5, 1),
        (0.5, 0.2, 0),
    ],
)
def test_what_is_weaker_by_two(first: float, second: float, demoted: int) -> None:
    heatmap = picture((FIRST, first), (SECOND, second))
    before = heatmap.copy()
    assert demote_weak_regions(heatmap, BY_TWO, strengths(heatmap)) == demoted
    weaker = SECOND if second < first else FIRST
    changed = np.zeros(heatmap.shape, bool)
    if demoted:
        changed[weaker[0] : weaker[2], weaker[1] : weaker[3]] = True
    assert np.array_equal(heatmap[~changed], before[~changed])
    assert (heatmap[changed] == np.float32(HINT)).all()
    again = heatmap.copy()
    assert demote_weak_regions(again, BY_TWO, strengths(again)) == 0
    assert np.array_equal(again, heatmap)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (9, 17), (77, 101)])
def test_any_size(shape: tuple[int, int]) -> None:
    """The strongest region is never demoted, whatever the map."""
    rng = np.random.default_rng(shape[0])
    for scale in (0.5, 3.0, 30.0):
        heatmap = np.asarray(expit(rng.normal(0, scale, shape)), np.float32)
        before = heatmap.copy()
        demote_weak_regions(heatmap, BY_TWO, strengths(heatmap))
        assert (heatmap <= before).all()
        assert set(np.unique(heatmap[heatmap != before])) <= {np.float32(HINT)}
        assert (heatmap > 0.5).any() == (before > 0.5).any()


def test_regions_that_touch_at_a_corner_are_one() -> None:
    heatmap = picture(((0, 0, 8, 8), 9.0), ((8, 8, 16, 16), 1.0))
    assert demote_weak_regions(heatmap, BY_TWO, strengths(heatmap)) == 0


def test_below_one_half_in_eight_bits_too() -> None:
    assert np.rint(np.float32(HINT) * 255) < 127.5


def test_as_strong_as_the_network_found_it() -> None:
    """What is drawn says where the regions are, what was found before how strong they are."""
    drawn = picture((FIRST, 5.0), (SECOND, 2.5))
    assert demote_weak_regions(drawn.copy(), BY_TWO, strengths(picture((FIRST, 5.0), (SECOND, 4.5)))) == 0
    assert demote_weak_regions(drawn, BY_TWO, strengths(picture((FIRST, 2.5), (SECOND, 5.0)))) == 1
    assert not (drawn[8:24, 8:24] > 0.5).any()
    assert (drawn[40:61, 64:83] > 0.5).all()


def test_a_strong_cell_that_is_not_drawn_demotes_nothing() -> None:
    found = strengths(picture((FIRST, 9.0), (SECOND, 2.0), ((40, 8, 61, 24), 1.0)))
    drawn = picture((SECOND, 2.0), ((40, 8, 61, 24), 1.0))
    assert demote_weak_regions(drawn, BY_TWO, found) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (9, 17), (77, 101)])
def test_strength_is_that_of_the_mean(shape: tuple[int, int]) -> None:
    heatmap = np.random.default_rng(0).random(shape, np.float32)
    found = strengths(heatmap)
    assert found.shape == (-(-shape[0] // 8), -(-shape[1] // 8))
    for row, column in np.ndindex(found.shape):
        mean = heatmap[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean()
        assert np.isclose(expit(found[row, column]), mean, atol=1e-5)
