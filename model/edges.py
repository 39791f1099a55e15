"""The heatmap drawn along the edges of the picture.

The network says what it thinks of cells of 8×8 pixels; where within such a cell a foreign object ends is to be seen in
the picture. A guided filter (He, Sun and Tang 2013) takes the heatmap, around every pixel, for a linear function of the
colours: it follows an edge of the picture where the heatmap changes near one, and averages elsewhere. The coefficients
are found at a quarter of the resolution, which costs a sixteenth (He and Sun 2015, arXiv 1505.00996).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.presets.spec import EdgeSpec
from model.self_match import one_thread

STEP = 4
"""Pixels, each way, that are averaged to find the coefficients."""
ROWS = 512
"""Of a strip; pictures are filtered strip by strip, with the rows around that it depends on."""


def follow_edges(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8], spec: EdgeSpec) -> None:
    """Draw a heatmap along the edges of its picture, in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        pixels: H×W×3.
        spec: how far an edge may be; with `radius` 0 nothing is done.

    Raises:
        ValueError: the two do not fit.
    """
    if pixels.shape != (*heatmap.shape, 3):
        raise ValueError(f"heatmap {heatmap.shape} does not fit the image {pixels.shape}")
    if not spec.radius:
        return
    around = -(-2 * (spec.radius + STEP) // STEP) * STEP
    height = len(heatmap)
    above = heatmap[:0].copy()  # of the strip before: what it was
    with torch.inference_mode(), one_thread():
        for top in range(0, height, ROWS):
            first, last = max(0, top - around), min(height, top + ROWS + around)
            p = np.concatenate([above, heatmap[top:last]])
            above = heatmap[max(0, top + ROWS - around) : top + ROWS].copy()
            colours = torch.from_numpy(np.ascontiguousarray(pixels[first:last], np.float32)).permute(2, 0, 1) / 255
            drawn = _filtered(colours, torch.from_numpy(p)[None], spec)
            heatmap[top : top + ROWS] = drawn.clamp_(0, 1).numpy()[top - first :][: min(ROWS, height - top)]


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
    return (full[:3] * colours).sum(0) + full[3]


def _reduced(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps[None], STEP, ceil_mode=True, count_include_pad=False)[0]


def _averaged(maps: Tensor, spec: EdgeSpec) -> Tensor:
    radius = -(-spec.radius // STEP)
    return F.avg_pool2d(maps[None], 2 * radius + 1, 1, radius, count_include_pad=False)[0]
