"""Image-level metrics and their weighted forms against scikit-learn, and the bootstrap against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.calibration import reliability
from model.evaluation import image_scores
from model.evaluation.bootstrap import Statistic, interval, mean_estimates, paired, statistic_estimates, weights

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

Values = NDArray[np.float64]
Sample = tuple[Values, NDArray[np.bool_], Values]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    n = draw(st.integers(1, 30))
    scores = draw(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.55, 0.9, 1.0]), min_size=n, max_size=n))
    forged = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    drawn = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(scores), np.array(forged), np.array(drawn, float)


@settings(max_examples=150, deadline=None)
@given(samples())
def test_against_scikit_learn(sample: Sample) -> None:
    scores, forged, weight = sample
    assume(weight[forged].sum() > 0 and weight[~forged].sum() > 0)
    decided = scores > 0.5
    assert image_scores.auc(scores, forged, weight) == pytest.approx(
        sklearn.roc_auc_score(forged, scores, sample_weight=weight)
    )
    assert image_scores.balanced_accuracy(decided, forged, weight) == pytest.approx(
        sklearn.balanced_accuracy_score(forged, decided, sample_weight=weight)
    )
    assert image_scores.f1(decided, forged, weight) == pytest.approx(
        sklearn.f1_score(forged, decided, sample_weight=weight)
    )
    assert image_scores.brier(scores, forged, weight) == pytest.approx(
        sklearn.brier_score_loss(forged, scores, sample_weight=weight)
    )
    fpr, tpr, _ = sklearn.roc_curve(forged, scores, sample_weight=weight, drop_intermediate=False)
    for rate in (0.01, 0.05, 0.5):
        assert image_scores.tpr_at_fpr(scores, forged, weight, rate) == pytest.approx(tpr[fpr <= rate + 1e-12].max())


@settings(max_examples=60, deadline=None)
@given(samples(), st.integers(0, 9))
def test_a_block_of_weights_gives_what_each_row_gives(sample: Sample, seed: int) -> None:
    scores, forged, weight = sample
    block = np.stack(
        [weight, np.ones(scores.size), *np.random.default_rng(seed).multinomial(6, scores * 0 + 1 / scores.size, 3)]
    )
    for statistic in (
        image_scores.auc,
        lambda *data: image_scores.tpr_at_fpr(*data, 0.3),
        lambda values, *data: image_scores.balanced_accuracy(values > 0.5, *data),
        lambda values, *data: image_scores.f1(values > 0.5, *data),
        image_scores.expected_calibration_error,
        image_scores.brier,
    ):
        rows = [statistic(scores, forged, row) for row in block]
        assert np.allclose(statistic(scores, forged, block), rows, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(samples())
def test_precision_and_recall(sample: Sample) -> None:
    scores, forged, _ = sample
    assume(forged.any() and not forged.all())
    precision, recall = image_scores.precision_recall_curve(scores, forged, np.ones(scores.size))
    expected, expected_recall, _ = sklearn.precision_recall_curve(forged, scores)
    # scikit-learn goes the other way round and ends with a point of its own
    assert np.allclose(precision[::-1], expected[:-1])
    assert np.allclose(recall[::-1], expected_recall[:-1])


@settings(max_examples=60, deadline=None)
@given(samples())
def test_weights_are_repetitions(sample: Sample) -> None:
    scores, forged, weight = sample
    assume(weight.sum() > 0)
    again = np.repeat(np.arange(scores.size), weight.astype(int))
    one = np.ones(again.size)
    for statistic in (image_scores.auc, image_scores.brier, image_scores.expected_calibration_error):
        weighted, repeated = statistic(scores, forged, weight), statistic(scores[again], forged[again], one)
        assert weighted == pytest.approx(repeated, nan_ok=True)
    error = reliability(scores[again], forged[again])["expected_calibration_error"]
    assert image_scores.expected_calibration_error(scores, forged, weight) == pytest.approx(error)


def test_one_class_has_no_image_level_figure() -> None:
    scores, forged, one = np.array([0.2, 0.8]), np.array([True, True]), np.ones(2)
    assert math.isnan(image_scores.auc(scores, forged, one))
    assert math.isnan(image_scores.tpr_at_fpr(scores, forged, one, 0.05))
    assert math.isnan(image_scores.balanced_accuracy(forged, forged, one))
    assert math.isnan(image_scores.f1(forged, ~forged, one))
    empty = np.empty(0)
    assert math.isnan(image_scores.auc(empty, empty.astype(bool), empty))
    assert math.isnan(image_scores.brier(empty, empty.astype(bool), empty))
    assert math.isnan(image_scores.expected_calibration_error(empty, empty.astype(bool), empty))


def test_reliability_curve_leaves_empty_bins_out() -> None:
    curve = image_scores.reliability_curve(np.array([0.05, 0.07, 0.95, 1.0]), np.array([False, True, True, True]))
    assert curve == [(pytest.approx(0.06), 0.5, 2), (pytest.approx(0.975), 1.0, 2)]


def test_interval_of_a_mean_is_that_of_theory() -> None:
    """The standard error of a mean is s/√n; percentile intervals of 400 images agree with it within a few per cent."""
    values = np.random.default_rng(0).normal(0.6, 0.2, 400)
    cell = mean_estimates({"f1": values}, seed=0)["f1"]
    assert (cell.value, cell.n) == (pytest.approx(values.mean()), 400)
    half = 1.96 * values.std() / 20
    assert cell.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert cell.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for repeat in range(200):
        cell = mean_estimates({"x": rng.random(60)}, seed=repeat, resamples=300)["x"]
        assert cell.low is not None and cell.high is not None
        hits += cell.low <= 0.5 <= cell.high
    assert hits / 200 == pytest.approx(0.94, abs=0.05)


def test_missing_values_lower_n_and_are_not_zero() -> None:
    cells = mean_estimates({"a": np.array([1.0, np.nan, 0.5]), "b": np.array([np.nan] * 3)}, seed=0, resamples=50)
    assert (cells["a"].value, cells["a"].n) == (0.75, 2)
    assert (cells["b"].value, cells["b"].n, cells["b"].low) == (None, 0, None)
    assert mean_estimates({}, seed=0) == {}
    assert mean_estimates({"a": np.array([0.3])}, seed=0)["a"].to_dict() == {
        "value": 0.3, "n": 1, "low": None, "high": None}  # fmt: skip


def one_after_the_other(groups: NDArray[np.int64], seed: int, resamples: int) -> Values:
    """The resamples drawn plainly: row by row, group by group, every member with the same chance."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((resamples, groups.size))
    for row in drawn:
        for group in np.unique(groups):
            inside = np.flatnonzero(groups == group)
            for place in rng.integers(0, inside.size, inside.size):
                row[inside[place]] += 1
    return drawn


@pytest.mark.parametrize("groups", [[0] * 5 + [1] * 3, [1, 0, 1, 2, 0, 1], [0] * 7, [4], [0, 1]])
def test_resamples_keep_each_class_and_follow_the_seed(groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are for speed: each draw is what drawing one image after the other gives, bit for bit."""
    classes = np.array(groups)
    drawn = np.concatenate(list(weights(classes, seed=3, resamples=40)))
    assert np.array_equal(drawn, one_after_the_other(classes, 3, 40))
    for group in np.unique(classes):
        assert (drawn[:, classes == group].sum(1) == (classes == group).sum()).all()
    monkeypatch.setattr("model.evaluation.bootstrap.BLOCK", 16)
    assert np.array_equal(drawn, np.concatenate(list(weights(classes, seed=3, resamples=40))))
    if classes.size > 2:
        assert not np.array_equal(drawn, np.concatenate(list(weights(classes, seed=4, resamples=40))))


def test_statistics_without_a_value() -> None:
    def constant(value: float) -> Statistic:
        return lambda weight: np.full(weight.shape[:-1], value)

    cells = statistic_estimates({"no": constant(math.nan), "yes": constant(0.5)}, np.zeros(3, int), 0, 20)
    assert cells["no"].to_dict() == {"value": None, "n": 3, "low": None, "high": None}
    assert cells["yes"].to_dict() == {"value": 0.5, "n": 3, "low": 0.5, "high": 0.5}
    assert statistic_estimates({"one": constant(0.5)}, np.zeros(1, int), 0)["one"].low is None
    assert interval(np.array([math.nan])) == (None, None)


def mean_of(values: Values) -> Statistic:
    return lambda weight: weight @ values / weight.sum(-1)


def test_paired_test_sees_a_small_steady_difference_and_no_other() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)  # images differ far more than methods do
    groups = np.zeros(100, int)
    better = paired("f1", mean_of(base + 0.02 + rng.normal(0, 0.01, 100)), mean_of(base), groups, 0)
    assert better.differs and better.p_value < 0.01
    assert better.difference.value == pytest.approx(0.02, abs=0.005)
    same = paired("f1", mean_of(base + rng.normal(0, 0.1, 100)), mean_of(base), groups, 0)
    assert not same.differs and same.p_value > 0.05
    assert not same.differs
    with pytest.raises(ValueError, match="too few"):
        paired("f1", mean_of(base[:1]), mean_of(base[:1]), groups[:1], 0)


def test_paired_test_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    false = 0
    for repeat in range(150):
        base = rng.random(50)
        a, b = base + rng.normal(0, 0.1, 50), base + rng.normal(0, 0.1, 50)
        false += paired("f1", mean_of(a), mean_of(b), np.zeros(50, int), repeat, 200).differs
    assert false / 150 < 0.12


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([0.3, 0.2, 0.1, 0.4], 0.125),
        ([0.1] * 6, 2 / 64),
        ([1.0, -1.0], 1.0),
        ([3.0, 2.0, -1.0], 0.5),
        ([0.0, 0.0], 1.0),
    ],
)
def test_few_images_are_tested_exactly(differences: list[float], p_value: float) -> None:
    of_a = np.array(differences)
    zero = np.zeros_like(of_a)
    groups = np.zeros(of_a.size, int)
    found = paired("f1", mean_of(of_a), mean_of(zero), groups, 0, 200, differences=of_a)
    assert found.p_value == pytest.approx(p_value)
    assert found.p_value >= found.least_p == 2.0 ** (1 - of_a.size)
    assert found.differs == (p_value <= 0.05)


def test_no_p_value_is_below_what_the_smaller_class_allows() -> None:
    classes = np.array([0] * 4 + [1] * 200)
    found = paired("image_auc", mean_of(np.ones(204)), mean_of(np.zeros(204)), classes, 0, 2000)
    assert (found.p_value, found.least_p, found.differs) == (0.125, 0.125, False)
