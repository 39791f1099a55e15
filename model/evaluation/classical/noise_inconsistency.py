"""Noise inconsistency: B. Mahdian and S. Saic, "Using noise inconsistencies for blind image forensics", IVC 27, 2009.

A photo's noise is about the same everywhere; what was put in from elsewhere, enlarged or smoothed has another level.
The diagonal subband of a wavelet transform is mostly noise, and the median of its magnitude in a block estimates the
noise there. Texture raises the estimate, and saturated or flat areas lower it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

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
BLOCK = 16
"""Side of a block in coefficients; in pixels, twice that."""
RANGE = 2.0
"""A noise level that differs by this power of two gives 1; half of it, a factor of two, gives 0.5."""


def noise_inconsistency(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """|log₂ of a block's noise level over the picture's median| / 2, at most 1: H×W float32 in [0, 1].

    Zero for pictures of fewer than 4×4 blocks.
    """
    height, width = pixels.shape[:2]
    rows, columns = height // (2 * BLOCK), width // (2 * BLOCK)
    if min(rows, columns) < 4:
        return np.zeros((height, width), np.float32)
    levels = noise_levels(pixels)
    deviation = np.abs(np.log2((levels + 0.1) / (np.median(levels) + 0.1)))
    block_map = np.clip(deviation / RANGE, 0, 1).astype(np.float32)
    side = 2 * BLOCK
    resized = Image.fromarray(block_map).resize((columns * side, rows * side), Image.Resampling.BILINEAR)
    out = np.pad(np.asarray(resized), ((0, height - rows * side), (0, width - columns * side)), mode="edge")
    return np.asarray(np.clip(out, 0, 1), np.float32)


def noise_levels(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of the noise in each block of 32×32 pixels, grey levels (Donoho's median estimator)."""
    grey = pixels.mean(2, dtype=np.float32)
    detail = ndimage.correlate1d(grey, WAVELET, axis=0, mode="mirror")[::2]
    detail = ndimage.correlate1d(detail, WAVELET, axis=1, mode="mirror")[:, ::2]
    rows, columns = pixels.shape[0] // (2 * BLOCK), pixels.shape[1] // (2 * BLOCK)
    blocks = np.abs(detail[: rows * BLOCK, : columns * BLOCK]).reshape(rows, BLOCK, columns, BLOCK)
    return np.asarray(np.median(blocks, (1, 3)) / 0.6745, np.float64)
