"""What a picture marks far more weakly than its strongest region is a hint, not a mark.

Tiles are judged one by one, so the network cannot weigh what it finds in one against what it finds in another; a large
picture has many of them, and each may be a little wrong. The picture as a whole decides here: regions are the connected
8×8 cells in which a pixel is above one half, a region is as strong as its strongest cell, and one that is much weaker
than the strongest of the picture is brought below one half. What is strong in itself stays, however strong the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum
from scipy.special import logit

from model.presets.spec import RegionSpec

CELL = 8
HINT = 0.49
"""What is left of a weak region: below one half also where a heatmap is stored with 8 bits."""

_EXTREME = 1e-5


def demote_weak_regions(heatmap: NDArray[np.float32], spec: RegionSpec) -> int:
    """Cap the probability of weak regions at `HINT`, in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        spec: how much weaker is weak, as log-odds; with `weaker` 0 nothing is done.

    Returns:
        How many regions were demoted.
    """
    if not spec.weaker:
        return 0
    strongest, mean = _cells(heatmap)
    regions, count = label(strongest > 0.5, np.ones((3, 3)))
    if count < 2:
        return 0
    strength = logit(mean.clip(_EXTREME, 1 - _EXTREME))
    bar = min(spec.certain, float(strength.max()) - spec.weaker)
    weak = np.concatenate([[False], maximum(strength, regions, np.arange(1, count + 1)) < bar])
    for row in np.flatnonzero(weak[regions].any(1)):
        strip = heatmap[row * CELL : (row + 1) * CELL]
        columns = np.repeat(weak[regions[row]], CELL)[: strip.shape[1]]
        strip[:, columns] = np.minimum(strip[:, columns], HINT)
    return int(weak.sum())


def _cells(heatmap: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Largest value and mean of each 8×8 cell, of what there is of it at the edges; a row of cells at a time."""
    height, width = heatmap.shape
    starts = np.arange(0, width, CELL)
    widths = np.diff(np.append(starts, width))
    largest = np.empty((-(-height // CELL), len(starts)), np.float32)
    mean = np.empty_like(largest)
    for row in range(len(largest)):
        strip = heatmap[row * CELL : (row + 1) * CELL]
        largest[row] = np.maximum.reduceat(strip.max(0), starts)
        mean[row] = np.add.reduceat(strip.mean(0), starts) / widths
    return largest, mean
