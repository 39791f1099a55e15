"""What a picture marks clearly more weakly than its strongest region is a hint, not a mark.

Tiles are judged one by one, so the network cannot weigh what it finds in one against what it finds in another; a large
picture has many of them, and each may be a little wrong. The picture as a whole decides here: regions are the connected
8×8 cells in which a pixel is above one half, a region is as strong as its strongest cell, and one clearly weaker
than the strongest of the picture is brought below one half. What is strong in itself stays, however strong the rest.

Where the heatmap was drawn along the edges of the picture (`model.edges`), regions are those of what is drawn, and
as strong as the network had found them: drawing averages, which lowers small regions more than large ones.
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


def strengths(heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    """How strong each cell is.

    Args:
        heatmap: H×W, probability that a pixel is forged.

    Returns:
        The log-odds of the mean of each 8×8 cell, of what there is of it at the edges.
    """
    heights, widths = (
        np.diff(np.append(starts, side)) for starts, side in zip(_starts(heatmap), heatmap.shape, strict=True)
    )
    mean = _by_cells(heatmap, np.add) / (heights[:, None] * widths)
    odds: NDArray[np.float32] = logit(mean.clip(_EXTREME, 1 - _EXTREME)).astype(np.float32)
    return odds


def demote_weak_regions(heatmap: NDArray[np.float32], spec: RegionSpec, strength: NDArray[np.float32]) -> int:
    """Cap the probability of weak regions at `HINT`, in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        spec: how much weaker is weak, as log-odds; with `weaker` 0 nothing is done.
        strength: of its cells, what `strengths` gave before it was drawn.

    Returns:
        How many regions were demoted.
    """
    if not spec.weaker:
        return 0
    regions, count = label(_by_cells(heatmap, np.maximum) > 0.5, np.ones((3, 3)))
    if count < 2:
        return 0
    of_regions = maximum(strength, regions, np.arange(1, count + 1))
    bar = min(spec.certain, float(of_regions.max()) - spec.weaker)
    weak = np.concatenate([[False], of_regions < bar])
    for row in np.flatnonzero(weak[regions].any(1)):
        strip = heatmap[row * CELL : (row + 1) * CELL]
        columns = np.repeat(weak[regions[row]], CELL)[: strip.shape[1]]
        strip[:, columns] = np.minimum(strip[:, columns], HINT)
    return int(weak.sum())


def _by_cells(heatmap: NDArray[np.float32], reduce: np.ufunc) -> NDArray[np.float32]:
    """The pixels of each 8×8 cell as one; a row of cells at a time, which is faster than all at once."""
    rows, columns = _starts(heatmap)
    cells = np.empty((len(rows), len(columns)), np.float32)
    for number, top in enumerate(rows):
        cells[number] = reduce.reduceat(reduce.reduce(heatmap[top : top + CELL], 0), columns)
    return cells


def _starts(heatmap: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """First row and first column of each cell."""
    return [np.arange(0, side, CELL) for side in heatmap.shape]
