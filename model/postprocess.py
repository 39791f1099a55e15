"""What is done to the heatmap of a whole picture: its level is set, it is drawn along edges, weak regions are demoted.

**Level.** How much of a forgery is above one half differs from picture to picture: where the network is sure, it marks
a little more than was changed; where a second compression left faint traces, it finds the place and stays below one
half. The threshold with the best expected F1 is half of that F1 (Lipton, Elkan and Naryanaswamy 2014), so it is lower
where less is to be had. So a heatmap whose strongest cells are weak is raised as a whole, and one whose strongest are
strong is lowered; where next to nothing was found it stays as it is.

**Edges.** The network judges cells of 8×8 pixels; where within such a cell a foreign object ends can be seen in the
picture. A guided filter (He, Sun and Tang 2013) takes the heatmap, around every pixel, for a linear function of the
colours: it follows an edge of the picture where the heatmap changes near one, and averages elsewhere. The coefficients
are found at a quarter of the resolution, which costs a sixteenth (He and Sun 2015, arXiv 1505.00996).

**Weak regions.** Tiles are judged one by one, so the network cannot weigh what it finds in one against what it finds in
another; a large picture has many, and each may be a little wrong. So what is marked clearly more weakly than the
strongest region of the picture becomes a hint. Regions are the connected 8×8 cells in which a pixel is above one half,
after drawing; each is as strong as its strongest cell was before, since drawing lowers small regions more than large
ones. A region that is strong in itself stays, however strong the others are.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Executor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import label, maximum
from scipy.special import expit, logit
from torch import Tensor

from model.preset import EdgeSpec, LevelSpec, RegionSpec
from model.self_match import one_thread


def complete(
    heatmap: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    level: LevelSpec,
    edges: EdgeSpec,
    regions: RegionSpec,
    helpers: Executor | None = None,
) -> None:
    """Set the level of a heatmap, draw it along the edges of its picture, and demote the regions that the network found
    weak; in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        pixels: H×W×3.
        level, edges, regions: of the preset.
        helpers: threads of which one may draw some of the strips of a large picture, if it has nothing else to do.

    Raises:
        ValueError: heatmap and picture do not fit.
    """
    found = strengths(heatmap)
    found += set_level(heatmap, level, found)
    follow_edges(heatmap, pixels, edges, helpers)
    demote_weak_regions(heatmap, regions, found)


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


def set_level(heatmap: NDArray[np.float32], spec: LevelSpec, strength: NDArray[np.float32]) -> float:
    """Raise or lower a heatmap as a whole, in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        spec: by how much; with `slope` 0 nothing is done.
        strength: of its cells (`strengths`).

    Returns:
        What was added to the log-odds of every pixel.
    """
    if not spec.slope:
        return 0.0
    count = min(spec.cells, strength.size)
    strongest = np.partition(strength.ravel(), strength.size - count)[strength.size - count :]
    of_picture = float(logit(expit(strongest.astype(np.float64)).mean()))
    shift = min(spec.slope * (spec.pivot - of_picture), max(0.0, of_picture - spec.least))
    shift = max(spec.lowest, shift)
    odds = np.float32(math.exp(shift))
    for strip in np.array_split(heatmap, -(-len(heatmap) // ROWS)):
        strip *= odds / (1 + strip * (odds - 1))
        np.minimum(strip, 1, out=strip)  # what is rounded above
    return shift


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


STEP = 4
"""Pixels, each way, that are averaged to find the coefficients."""
ROWS = 256
"""Of a strip; pictures are filtered strip by strip, with the rows around that it depends on."""


def follow_edges(
    heatmap: NDArray[np.float32], pixels: NDArray[np.uint8], spec: EdgeSpec, helpers: Executor | None = None
) -> None:
    """Draw a heatmap along the edges of its picture, in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        pixels: H×W×3.
        spec: how far an edge may be; with `radius` 0 nothing is done.
        helpers: see `complete`; to the same bits.

    Raises:
        ValueError: the two do not fit.
    """
    if pixels.shape != (*heatmap.shape, 3):
        raise ValueError(f"heatmap {heatmap.shape} does not fit the image {pixels.shape}")
    if not spec.radius:
        return
    around = -(-2 * (spec.radius + STEP) // STEP) * STEP
    # What a strip depends on beyond itself, before its neighbours are drawn.
    strips = deque(
        (top, heatmap[max(0, top - around) : top].copy(), heatmap[top + ROWS : top + ROWS + around].copy())
        for top in range(0, len(heatmap), ROWS)
    )

    def draw() -> None:
        with torch.inference_mode(), one_thread():
            while True:
                try:
                    top, above, below = strips.popleft()
                except IndexError:
                    return
                strip = heatmap[top : top + ROWS]
                p = np.concatenate([above, strip, below])
                seen = pixels[top - len(above) : top + len(strip) + len(below)]
                planes = torch.from_numpy(np.array(seen, order="C")).permute(2, 0, 1)
                colours = planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
                drawn = _filtered(colours, torch.from_numpy(p)[None], spec)
                strip[:] = drawn.clamp_(0, 1).numpy()[len(above) :][: len(strip)]

    # One more, no matter how many there are: each needs memory for about ten planes of a strip.
    other = helpers.submit(draw) if helpers is not None and len(strips) > 1 else None
    try:
        draw()
    finally:
        if other is not None and not other.cancel():  # one that has not begun would find nothing to do
            other.result()


def _filtered(colours: Tensor, p: Tensor, spec: EdgeSpec) -> Tensor:
    """3×H×W, 1×H×W to H×W."""
    height, width = p.shape[-2:]
    small, q = _reduced(colours), _reduced(p)
    r, g, b = small
    moments = torch.stack([*small, q[0], *(small * q), r * r, r * g, r * b, g * g, g * b, b * b])
    mean_r, mean_g, mean_b, mean, *rest = _averaged(moments, spec)
    to_r, to_g, to_b, rr, rg, rb, gg, gb, bb = rest
    to_r, to_g, to_b = to_r - mean_r * mean, to_g - mean_g * mean, to_b - mean_b * mean
    rr, rg, rb = rr - mean_r * mean_r + spec.epsilon, rg - mean_r * mean_g, rb - mean_r * mean_b
    gg, gb, bb = gg - mean_g * mean_g + spec.epsilon, gb - mean_g * mean_b, bb - mean_b * mean_b + spec.epsilon
    # The inverse of the symmetric 3×3 covariance, by cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    of_r = (c_rr * to_r + c_rg * to_g + c_rb * to_b) / determinant
    of_g = (c_rg * to_r + c_gg * to_g + c_gb * to_b) / determinant
    of_b = (c_rb * to_r + c_gb * to_g + c_bb * to_b) / determinant
    constant = mean - of_r * mean_r - of_g * mean_g - of_b * mean_b
    coefficients = _averaged(torch.stack([of_r, of_g, of_b, constant]), spec)
    size = (coefficients.shape[1] * STEP, coefficients.shape[2] * STEP)
    full = F.interpolate(coefficients[None], size=size, mode="bilinear")[0, :, :height, :width]
    red, green, blue = full[:3].mul_(colours)
    drawn: Tensor = red.add_(green).add_(blue).add_(full[3])
    return drawn


def _reduced(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps[None], STEP, ceil_mode=True, count_include_pad=False)[0]


def _averaged(maps: Tensor, spec: EdgeSpec) -> Tensor:
    radius = -(-spec.radius // STEP)
    return F.avg_pool2d(maps[None], 2 * radius + 1, 1, radius, count_include_pad=False)[0]
