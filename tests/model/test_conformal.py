"""The promise of split conformal prediction, by arithmetic and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from model.conformal import p_value, photos_needed, proportion_interval, rank, rate_bound, threshold

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.01, 99), (0.05, 19), (0.001, 999), (0.5, 1), (0.3, 3), (0.0303, 33), (1e-9, 999_999_999)]
)
def test_how_many_photos_a_rate_needs(rate: float, needed: int) -> None:
    assert photos_needed(rate) == needed
    assert rank(needed, rate) >= 1
    assert rank(needed - 1, rate) == 0


@pytest.mark.parametrize(
    ("count", "rate", "place"),
    # In floats 0.29 · 100 is 28.999…, and 0.07 · 100 is 7.000…1.
    [(99, 0.01, 1), (198, 0.01, 1), (199, 0.01, 2), (99, 0.29, 29), (99, 0.07, 7), (9, 0.999, 9), (0, 0.5, 0)],
)
def test_the_rank_is_exact(count: int, rate: float, place: int) -> None:
    assert rank(count, rate) == place


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    for call in (lambda: photos_needed(rate), lambda: rank(10, rate), lambda: threshold(np.ones(10), rate)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


def test_too_few_photos_are_told_how_many_are_needed() -> None:
    with pytest.raises(ValueError, match="needs 99 authentic photos, there are 98"):
        threshold(np.linspace(0, 1, 98), 0.01)
    with pytest.raises(ValueError, match="not finite"):
        threshold(np.array([0.1, math.nan, 0.3]), 0.5)


def test_the_threshold_is_a_score_and_order_does_not_matter() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(199) / 200)
    assert threshold(scores, 0.01) == 197 / 200  # the second largest of 199
    assert threshold(scores, 0.005) == 198 / 200


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=60),
    st.sampled_from([0.02, 0.05, 0.1, 0.29, 0.5, 0.9]),
    st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0]),
)
def test_above_the_threshold_is_a_p_value_of_at_most_the_rate(scores: list[float], rate: float, new: float) -> None:
    if len(scores) < photos_needed(rate):
        return
    above = new > threshold(np.array(scores), rate)
    assert above == (p_value(sorted(scores), new) <= rate + 1e-12)


@pytest.mark.parametrize(
    ("score", "p"), [(0.0, 1.0), (0.1, 1.0), (0.2, 4 / 5), (0.25, 2 / 5), (0.3, 2 / 5), (0.31, 1 / 5)]
)
def test_ties_count_against_the_image(score: float, p: float) -> None:
    assert p_value([0.1, 0.2, 0.2, 0.3], score) == pytest.approx(p)


DRAWS: dict[str, Draw] = {
    "continuous": lambda rng, n: rng.beta(2, 5, n),
    "saturated": lambda rng, n: np.clip(rng.normal(0.9, 0.2, n), 0, 1),
    "two decimals": lambda rng, n: np.round(rng.beta(2, 5, n), 2),
    "three values": lambda rng, n: rng.choice([0.1, 0.5, 1.0], n, p=[0.7, 0.25, 0.05]),
    "all the same": lambda rng, n: np.full(n, 0.5),
    # Exchangeable, though not independent: a level that all photos of one camera share.
    "one camera": lambda rng, n: np.clip(rng.uniform(0, 0.5) + rng.uniform(0, 0.5, n), 0, 1),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (150, 0.05), (37, 0.1)])
def test_the_promise_holds(draw: Draw, count: int, rate: float) -> None:
    """The rate over many calibrations, each with one new photo, is not above what was asked for."""
    rng, rounds = np.random.default_rng([count, 7]), 4000
    alarms = 0
    for _ in range(rounds):
        scores = draw(rng, count + 1)
        alarms += bool(scores[0] > threshold(scores[1:], rate))
    # A test that fails by chance once in a million; the seed is fixed.
    assert binomtest(alarms, rounds, rate, alternative="greater").pvalue > 1e-6


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (150, 0.05)])
def test_the_promise_is_no_larger_than_it_need_be(count: int, rate: float) -> None:
    rng, rounds = np.random.default_rng(3), 4000
    scores = rng.random((rounds, count + 1))
    alarms = sum(bool(row[0] > threshold(row[1:], rate)) for row in scores)
    promised = rank(count, rate) / (count + 1)
    assert binomtest(alarms, rounds, promised).pvalue > 1e-6


def test_the_bound_of_one_threshold_holds_in_95_of_100_calibrations() -> None:
    rng, count, rate = np.random.default_rng(5), 120, 0.05
    bound = rate_bound(count, rank(count, rate))
    assert bound == pytest.approx(beta.ppf(0.95, 6, 115))
    # Of uniform scores the rate of a threshold is known without drawing: what lies above it.
    rates = [1 - threshold(rng.random(count), rate) for _ in range(3000)]
    assert np.mean(np.array(rates) <= bound) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 10), (1, 1), (0, 1), (87, 200)])
def test_the_interval_is_clopper_and_pearsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, "exact")
    assert proportion_interval(hits, count) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("hits", "count"), [(-1, 10), (11, 10), (0, 0)])
def test_no_proportion(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        proportion_interval(hits, count)
