"""Classical methods to run beside the network, each with its paper.

A method is a function from pixels H×W×3 uint8 to a map H×W float32 in [0, 1], the same for the same pixels. The maps
are aids for a person to look at, not verdicts: none of them is calibrated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.data.attacks import jpeg

ELA_QUALITY = 90
ELA_WINDOW = 9
"""Side, in pixels, of the square over which the change is averaged: a block and its border."""


def error_level_analysis(pixels: NDArray[np.uint8], quality: int = ELA_QUALITY) -> NDArray[np.float32]:
    """Change through JPEG at `quality`, largest channel, averaged locally, over its largest: H×W float32 in [0, 1].

    Error level analysis: N. Krawetz, "A Picture's Worth… Digital Image Analysis and Forensics", Black Hat USA 2007.

    A JPEG that is saved again changes less where it was saved at that quality before. Regions that differ from
    their surroundings in how much they change may have another history; edges and texture always differ, which is
    what makes the method so easy to misread.
    """
    again = jpeg(pixels, quality)
    change = np.empty(pixels.shape[:2], np.float32)
    for row in range(0, pixels.shape[0], 256):  # strips: a large picture needs no copy of 16 bits a channel
        difference = np.abs(pixels[row : row + 256].astype(np.int16) - again[row : row + 256])
        change[row : row + 256] = difference.max(2)
    level = ndimage.uniform_filter(change, ELA_WINDOW, mode="nearest")
    return np.asarray(np.clip(level / max(float(level.max()), 1.0), 0, 1), np.float32)


GHOST_QUALITIES = tuple(range(40, 96, 5))
GHOST_BLOCK = 8
"""Differences are averaged over JPEG's blocks first, so that large pictures need little memory."""
GHOST_SMOOTH = 3
"""Side, in blocks, of the mean that follows: 24 pixels, where the paper has 16."""
GHOST_BINS = 64


def jpeg_ghosts(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """H×W float32 in [0, 1], 0.5 at the split between the parts. Zero for pictures of fewer than 8×8 blocks.

    JPEG ghosts: H. Farid, "Exposing Digital Forgeries from JPEG Ghosts", IEEE TIFS 4(1), 2009.

    If a region was once saved at a lower quality than its surroundings, then saving the picture again at that lower
    quality changes the region least: it appears as a dark ghost in the difference. The paper looks through the
    differences by eye; here the quality at which the picture falls most clearly into two parts is taken (Otsu's
    criterion), and the smaller part marked. There are always two parts: an untouched picture gets marks as well.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 8 * GHOST_BLOCK:
        return np.zeros((height, width), np.float32)
    stack = np.stack([_difference(pixels, quality) for quality in GHOST_QUALITIES])  # q×h×w
    low, high = stack.min(0), stack.max(0)
    normalized = (stack - low) / np.maximum(high - low, 1e-6)  # the paper's equation 4
    chosen = max(normalized, key=lambda difference: _split(difference)[0])
    above = chosen - _split(chosen)[1]
    ghost = np.clip(0.5 + (above if np.mean(above > 0) < 0.5 else -above), 0, 1)
    resized = Image.fromarray(ghost.astype(np.float32)).resize(
        (stack.shape[2] * GHOST_BLOCK, stack.shape[1] * GHOST_BLOCK), Image.Resampling.BILINEAR
    )
    out = np.pad(
        np.asarray(resized),
        ((0, height - stack.shape[1] * GHOST_BLOCK), (0, width - stack.shape[2] * GHOST_BLOCK)),
        mode="edge",
    )
    return np.asarray(np.clip(out, 0, 1), np.float32)


def _difference(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.float64]:
    """Mean squared change of each block (equation 3), smoothed."""
    rows, columns = pixels.shape[0] // GHOST_BLOCK, pixels.shape[1] // GHOST_BLOCK
    again = jpeg(pixels, quality)
    out = np.empty((rows, columns))
    for row in range(rows):  # a strip of blocks at a time
        strip = np.s_[row * GHOST_BLOCK : (row + 1) * GHOST_BLOCK, : columns * GHOST_BLOCK]
        change = pixels[strip].astype(np.float32) - again[strip]
        out[row] = (change**2).reshape(GHOST_BLOCK, columns, GHOST_BLOCK * 3).mean((0, 2))
    return np.asarray(ndimage.uniform_filter(out, GHOST_SMOOTH, mode="nearest"))


def _split(values: NDArray[np.float64]) -> tuple[float, float]:
    """Otsu's criterion: variance between the best two classes, of 1 % each at least, and the threshold between them."""
    counts, edges = np.histogram(values, GHOST_BINS, (0, 1))
    share = counts / counts.sum()
    middle = (edges[:-1] + edges[1:]) / 2
    below, mean_below, mean = np.cumsum(share), np.cumsum(share * middle), float((share * middle).sum())
    apart = (below > 0.01) & (below < 0.99)
    between = np.zeros(GHOST_BINS)
    between[apart] = (mean * below[apart] - mean_below[apart]) ** 2 / (below[apart] * (1 - below[apart]))
    best = int(between.argmax())
    return float(between[best]), float(edges[best + 1])


# Scaling filter of Daubechies' wavelet with 8 taps (Ten Lectures on Wavelets, table 6.1, N = 4)
SCALING = np.array(
    [
        0.230377813309,
        0.714846570553,
        0.630880767930,
        -0.027983769417,
        -0.187034811719,
        0.030841381836,
        0.032883011667,
        -0.010597401785,
    ],
    np.float32,
)
WAVELET = SCALING[::-1] * np.array([1, -1] * 4, np.float32)
NOISE_BLOCK = 16
"""Side of a block in coefficients; in pixels, twice that."""
NOISE_RANGE = 2.0
"""A noise level that differs by this power of two gives 1; half of it, a factor of two, gives 0.5."""


def noise_inconsistency(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """|log₂ of a block's noise level over the picture's median| / 2, at most 1: H×W float32 in [0, 1].

    Zero for pictures of fewer than 4×4 blocks.

    Noise inconsistency: B. Mahdian and S. Saic, "Using noise inconsistencies for blind image forensics", IVC 27, 2009.

    A photo's noise is about the same everywhere; what was put in from elsewhere, enlarged or smoothed has another
    level. The diagonal subband of a wavelet transform is mostly noise, and the median of its magnitude in a block
    estimates the noise there. Texture raises the estimate, and saturated or flat areas lower it.
    """
    height, width = pixels.shape[:2]
    rows, columns = height // (2 * NOISE_BLOCK), width // (2 * NOISE_BLOCK)
    if min(rows, columns) < 4:
        return np.zeros((height, width), np.float32)
    levels = noise_levels(pixels)
    deviation = np.abs(np.log2((levels + 0.1) / (np.median(levels) + 0.1)))
    block_map = np.clip(deviation / NOISE_RANGE, 0, 1).astype(np.float32)
    side = 2 * NOISE_BLOCK
    resized = Image.fromarray(block_map).resize((columns * side, rows * side), Image.Resampling.BILINEAR)
    out = np.pad(np.asarray(resized), ((0, height - rows * side), (0, width - columns * side)), mode="edge")
    return np.asarray(np.clip(out, 0, 1), np.float32)


def noise_levels(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of the noise in each block of 32×32 pixels, grey levels (Donoho's median estimator)."""
    grey = pixels.mean(2, dtype=np.float32)
    detail = ndimage.correlate1d(grey, WAVELET, axis=0, mode="mirror")[::2]
    detail = ndimage.correlate1d(detail, WAVELET, axis=1, mode="mirror")[:, ::2]
    rows, columns = pixels.shape[0] // (2 * NOISE_BLOCK), pixels.shape[1] // (2 * NOISE_BLOCK)
    blocks = np.abs(detail[: rows * NOISE_BLOCK, : columns * NOISE_BLOCK]).reshape(
        rows, NOISE_BLOCK, columns, NOISE_BLOCK
    )
    return np.asarray(np.median(blocks, (1, 3)) / 0.6745, np.float64)
