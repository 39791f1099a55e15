"""Mask and heatmap as PNG."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEATMAP_SCALE = 65535
"""A heatmap pixel of this value means probability 1."""

# A heatmap's low bits are noise to a compressor: level 6 takes a quarter longer than level 1 and saves nothing.
_COMPRESS_LEVEL = 1
_ROWS = 256


def write_mask(to: BinaryIO, mask: NDArray[np.bool_]) -> None:
    """Write an H×W mask as PNG with one 8-bit channel: 255 where it is set, 0 elsewhere.

    Raises:
        ValueError: not H×W of bool.
        OSError: writing failed.
    """
    _check(mask, np.bool_)
    _save(to, np.multiply(mask, np.uint8(255), dtype=np.uint8, order="C"), "L")


def write_heatmap(to: BinaryIO, heatmap: NDArray[np.float32]) -> None:
    """Write H×W probabilities in [0, 1] as PNG with one 16-bit channel: value / 65535 = probability.

    Needs 2 bytes per pixel above the heatmap itself.

    Raises:
        ValueError: not H×W of float32, or with values that are no probabilities.
        OSError: writing failed.
    """
    _check(heatmap, np.float32)
    # NaN makes both comparisons false.
    if not (float(heatmap.min()) >= 0 and float(heatmap.max()) <= 1):
        raise ValueError("a heatmap holds probabilities from 0 to 1")
    values = np.empty(heatmap.shape, dtype=np.uint16)
    for top in range(0, len(heatmap), _ROWS):
        rows = slice(top, top + _ROWS)
        values[rows] = np.rint(heatmap[rows] * np.float32(HEATMAP_SCALE))
    _save(to, values, "I;16")


def _check(pixels: NDArray[np.generic], dtype: type[np.generic]) -> None:
    if pixels.ndim != 2 or pixels.dtype != dtype or not pixels.size:
        raise ValueError(f"expected H×W of {dtype.__name__}, got {pixels.dtype} of shape {pixels.shape}")


def _save(to: BinaryIO, pixels: NDArray[np.uint8] | NDArray[np.uint16], mode: str) -> None:
    height, width = pixels.shape
    # frombuffer, unlike fromarray, does not copy.
    image = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    image.save(to, "PNG", compress_level=_COMPRESS_LEVEL)
