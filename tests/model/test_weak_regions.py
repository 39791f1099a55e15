"""What is clearly weaker than the strongest region of its picture becomes a hint; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from model.presets.spec import RegionSpec
from model.weak_regions import HINT, demote_weak_regions, strengths

SPEC = RegionSpec(weaker=2.0, certain=6.0)
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
    assert demote_weak_regions(heatmap, SPEC, strengths(heatmap)) == demoted
    weaker = SECOND if second < first else FIRST
    changed = np.zeros(heatmap.shape, bool)
    if demoted:
        changed[weaker[0] : weaker[2], weaker[1] : weaker[3]] = True
    assert np.array_equal(heatmap[~changed], before[~changed])
    assert (heatmap[changed] == np.float32(HINT)).all()
    again = heatmap.copy()
    assert demote_weak_regions(again, SPEC, strengths(again)) == 0
    assert np.array_equal(again, heatmap)


def test_all_are_kept_by_default() -> None:
    heatmap = picture((FIRST, 9.0), (SECOND, 1.0))
    before = heatmap.copy()
    assert demote_weak_regions(heatmap, RegionSpec(), strengths(heatmap)) == 0
    assert np.array_equal(heatmap, before)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (9, 17), (77, 101)])
def test_any_size(shape: tuple[int, int]) -> None:
    """The strongest region is never demoted, whatever the map."""
    rng = np.random.default_rng(shape[0])
    for scale in (0.5, 3.0, 30.0):
        heatmap = np.asarray(expit(rng.normal(0, scale, shape)), np.float32)
        before = heatmap.copy()
        demote_weak_regions(heatmap, SPEC, strengths(heatmap))
        assert (heatmap <= before).all()
        assert set(np.unique(heatmap[heatmap != before])) <= {np.float32(HINT)}
        assert (heatmap > 0.5).any() == (before > 0.5).any()


def test_regions_that_touch_at_a_corner_are_one() -> None:
    heatmap = picture(((0, 0, 8, 8), 9.0), ((8, 8, 16, 16), 1.0))
    assert demote_weak_regions(heatmap, SPEC, strengths(heatmap)) == 0


def test_below_one_half_in_eight_bits_too() -> None:
    assert np.rint(np.float32(HINT) * 255) < 127.5


def test_as_strong_as_the_network_found_it() -> None:
    """What is drawn says where the regions are, what was found before how strong they are."""
    drawn = picture((FIRST, 5.0), (SECOND, 2.5))
    assert demote_weak_regions(drawn.copy(), SPEC, strengths(picture((FIRST, 5.0), (SECOND, 4.5)))) == 0
    assert demote_weak_regions(drawn, SPEC, strengths(picture((FIRST, 2.5), (SECOND, 5.0)))) == 1
    assert not (drawn[8:24, 8:24] > 0.5).any()
    assert (drawn[40:61, 64:83] > 0.5).all()


def test_a_strong_cell_that_is_not_drawn_demotes_nothing() -> None:
    found = strengths(picture((FIRST, 9.0), (SECOND, 2.0), ((40, 8, 61, 24), 1.0)))
    drawn = picture((SECOND, 2.0), ((40, 8, 61, 24), 1.0))
    assert demote_weak_regions(drawn, SPEC, found) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (9, 17), (77, 101)])
def test_strength_is_that_of_the_mean(shape: tuple[int, int]) -> None:
    heatmap = np.random.default_rng(0).random(shape, np.float32)
    found = strengths(heatmap)
    assert found.shape == (-(-shape[0] // 8), -(-shape[1] // 8))
    for row, column in np.ndindex(found.shape):
        mean = heatmap[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean()
        assert np.isclose(expit(found[row, column]), mean, atol=1e-5)
