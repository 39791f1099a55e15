"""Pixel metrics against scikit-learn, by hand, and on maps made to have ties."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from model.evaluation import pixel_scores as module
from model.evaluation.pixel_scores import pixel_scores

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
PROBABILITIES = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 0.25, 0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1.0]),  # ties
)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    shape = draw(SHAPES)
    heatmap = draw(arrays.arrays(np.float32, shape, elements=PROBABILITIES))
    return heatmap, draw(arrays.arrays(np.bool_, shape))


def best_f1_by_trying_all(heatmap: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    return max(float(sklearn.f1_score(truth.ravel(), (heatmap >= value).ravel())) for value in np.unique(heatmap))


@settings(max_examples=150, deadline=None)
@given(pictures(), st.sampled_from([1, 3, 1 << 20]))
def test_against_scikit_learn(picture: tuple[NDArray[np.float32], NDArray[np.bool_]], chunk: int) -> None:
    heatmap, truth = picture
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        scores = pixel_scores(heatmap, truth)
    flat, labels, marked = heatmap.ravel(), truth.ravel(), (heatmap > 0.5).ravel()
    assert scores.marked_area == pytest.approx(marked.mean())
    assert scores.forged_area == pytest.approx(labels.mean())
    if not truth.any():
        assert (scores.f1, scores.iou, scores.auc, scores.ap, scores.f1_best, scores.f1_permute) == (None,) * 6
        return
    assert scores.f1 == pytest.approx(sklearn.f1_score(labels, marked))
    assert scores.iou == pytest.approx(sklearn.jaccard_score(labels, marked))
    assert scores.f1_permute == pytest.approx(max(sklearn.f1_score(labels, m) for m in (marked, ~marked)))
    assert scores.ap == pytest.approx(sklearn.average_precision_score(labels, flat))
    assert scores.f1_best == pytest.approx(best_f1_by_trying_all(heatmap, truth))
    assert scores.f1_best_threshold is not None
    assert sklearn.f1_score(labels, flat >= np.float32(scores.f1_best_threshold)) == pytest.approx(scores.f1_best)
    if truth.all():
        assert scores.auc is None
    else:
        assert scores.auc == pytest.approx(sklearn.roc_auc_score(labels, flat))


@settings(max_examples=50, deadline=None)
@given(pictures())
def test_identities(picture: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    heatmap, truth = picture
    scores = pixel_scores(heatmap, truth)
    if scores.f1 is None or scores.iou is None or scores.f1_best is None or scores.f1_permute is None:
        return
    assert scores.f1 == pytest.approx(2 * scores.iou / (1 + scores.iou))
    assert scores.f1_best >= scores.f1 - 1e-12
    assert scores.f1_permute >= scores.f1
    if scores.auc is not None:
        inverse = pixel_scores(1 - heatmap, truth).auc
        # 1 − p rounds small values together, so only the order of distinct values that stay distinct is kept.
        if np.unique(1 - heatmap).size == np.unique(heatmap).size:
            assert inverse == pytest.approx(1 - scores.auc)


def test_by_hand() -> None:
    truth = np.array([[True, True, False, False, False]])
    heatmap = np.array([[0.9, 0.4, 0.6, 0.5, 0.1]], np.float32)
    scores = pixel_scores(heatmap, truth)
    assert scores.f1 == pytest.approx(2 * 1 / (2 + 2))  # marked: 0.9 and 0.6; 0.5 is not above 0.5
    assert scores.iou == pytest.approx(1 / 3)
    assert scores.auc == pytest.approx(4 / 6)
    assert scores.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert scores.f1_best == pytest.approx(2 * 2 / (4 + 2))
    assert scores.f1_best_threshold == pytest.approx(0.4)
    assert scores.f1_permute == pytest.approx(0.5)


@pytest.mark.parametrize(("value", "marked"), [(0.5, 0.0), (0.50001, 1.0), (128 / 255, 1.0), (127 / 255, 0.0)])
def test_threshold_is_strict_on_floats(value: float, marked: float) -> None:
    assert pixel_scores(np.full((2, 2), value, np.float32), np.ones((2, 2), bool)).marked_area == marked


@pytest.mark.parametrize(
    ("heatmap", "truth"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), bool)),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), bool)),
        (np.full((2, 2), math.nan, np.float32), np.ones((2, 2), bool)),
        (np.full((2, 2), math.inf, np.float32), np.ones((2, 2), bool)),
        (np.array([[math.inf, -math.inf]], np.float32), np.ones((1, 2), bool)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_scored(heatmap: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match=r"fit|finite"):
        pixel_scores(heatmap, truth)


def test_memory_stays_near_two_copies_of_the_map() -> None:
    rng = np.random.default_rng(0)
    heatmap = rng.random((1000, 1000), np.float32)
    truth = rng.random((1000, 1000), np.float32) < 0.3
    tracemalloc.start()
    pixel_scores(heatmap, truth)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Chunks are of fixed size, so at 20 megapixels the copies (8 bytes a pixel) and masks are what counts.
    assert peak < 40 * heatmap.size
