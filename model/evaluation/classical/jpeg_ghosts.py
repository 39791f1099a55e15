"""JPEG ghosts: H. Farid, "Exposing Digital Forgeries from JPEG Ghosts", IEEE TIFS 4(1), 2009.

If a region was once saved at a lower quality than its surroundings, then saving the picture again at that lower
quality changes the region least: it appears as a dark ghost in the difference. The paper looks through the differences
by eye; here the quality at which the picture falls most clearly into two parts is taken (Otsu's criterion), and the
smaller part marked. There are always two parts: an untouched picture gets marks as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.evaluation.classical.error_level_analysis import recompressed

QUALITIES = tuple(range(40, 96, 5))
BLOCK = 8
"""Differences are averaged over JPEG's blocks first, so that large pictures need little memory."""
SMOOTH = 3
"""Side, in blocks, of the mean that follows: 24 pixels, where the paper has 16."""
BINS = 64


def jpeg_ghosts(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """H×W float32 in [0, 1], 0.5 at the split between the parts. Zero for pictures of fewer than 8×8 blocks."""
    height, width = pixels.shape[:2]
    if min(height, width) < 8 * BLOCK:
        return np.zeros((height, width), np.float32)
    stack = np.stack([_difference(pixels, quality) for quality in QUALITIES])  # q×h×w
    low, high = stack.min(0), stack.max(0)
    normalized = (stack - low) / np.maximum(high - low, 1e-6)  # the paper's equation 4
    chosen = max(normalized, key=lambda difference: _split(difference)[0])
    above = chosen - _split(chosen)[1]
    ghost = np.clip(0.5 + (above if np.mean(above > 0) < 0.5 else -above), 0, 1)
    resized = Image.fromarray(ghost.astype(np.float32)).resize(
        (stack.shape[2] * BLOCK, stack.shape[1] * BLOCK), Image.Resampling.BILINEAR
    )
    out = np.pad(
        np.asarray(resized),
        ((0, height - stack.shape[1] * BLOCK), (0, width - stack.shape[2] * BLOCK)),
        mode="edge",
    )
    return np.asarray(np.clip(out, 0, 1), np.float32)


def _difference(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.float64]:
    """Mean squared change of each block (equation 3), smoothed."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    again = recompressed(pixels, quality)
    out = np.empty((rows, columns))
    for row in range(rows):  # a strip of blocks at a time
        strip = np.s_[row * BLOCK : (row + 1) * BLOCK, : columns * BLOCK]
        change = pixels[strip].astype(np.float32) - again[strip]
        out[row] = (change**2).reshape(BLOCK, columns, BLOCK * 3).mean((0, 2))
    return np.asarray(ndimage.uniform_filter(out, SMOOTH, mode="nearest"))


def _split(values: NDArray[np.float64]) -> tuple[float, float]:
    """Otsu's criterion: variance between the best two classes, of 1 % each at least, and the threshold between them."""
    counts, edges = np.histogram(values, BINS, (0, 1))
    share = counts / counts.sum()
    middle = (edges[:-1] + edges[1:]) / 2
    below, mean_below, mean = np.cumsum(share), np.cumsum(share * middle), float((share * middle).sum())
    apart = (below > 0.01) & (below < 0.99)
    between = np.zeros(BINS)
    between[apart] = (mean * below[apart] - mean_below[apart]) ** 2 / (below[apart] * (1 - below[apart]))
    best = int(between.argmax())
    return float(between[best]), float(edges[best + 1])
