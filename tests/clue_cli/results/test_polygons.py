"""Masks as polygons and runs: COCO's own code decodes either back to the mask, whatever its shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

from clue_cli.results.polygons import parts

Mask = NDArray[np.bool_]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def check(mask: Mask) -> None:
    height, width = mask.shape
    found = np.zeros_like(mask)
    for part in parts(mask):
        whole = np.zeros_like(mask)
        whole[part.y : part.y + part.height, part.x : part.x + part.width] = part.inside
        assert part.area == whole.sum()
        polygons = part.polygons()
        for ring in polygons:
            steps = np.diff(ring, axis=0, append=ring[:1])
            assert ((steps == 0).sum(axis=1) == 1).all()  # each edge is horizontal or vertical, and none has no length
        drawn = coco.merge(coco.frPyObjects([ring.ravel().tolist() for ring in polygons], height, width))
        assert np.array_equal(coco.decode(drawn), whole)
        counts = part.counts(height, width)
        assert sum(counts) == height * width and all(count > 0 for count in counts[1:])
        runs = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        assert np.array_equal(coco.decode(runs), whole)
        assert not (found & whole).any()
        found |= whole
    assert np.array_equal(found, mask)


@settings(max_examples=150, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans()))
def test_any_mask(mask: Mask) -> None:
    check(mask)


@pytest.mark.parametrize("seed", range(20))
def test_smooth_and_ragged_masks(seed: int) -> None:
    noise = np.random.default_rng(seed)
    field = noise.random((70, 90))
    check(field < noise.random())
    check(ndimage.gaussian_filter(field, 2) > 0.5)


def test_holes_in_holes_and_a_column_of_holes() -> None:
    mask = np.ones((60, 40), np.bool_)
    mask[3:55, 3:37] = False
    mask[6:50, 6:34] = True
    mask[10:40, 10:30] = False
    check(mask)
    mask = np.ones((4000, 5), np.bool_)
    mask[1::2, 1:4] = False  # each cut begins at the hole above
    check(mask)


def test_the_number_of_groups_is_that_of_regions() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.bool_)
    assert [(part.y, part.area, len(part.polygons())) for part in parts(mask)] == [(0, 2, 2), (3, 3, 1)]
    assert list(parts(np.zeros((3, 3), np.bool_))) == []
