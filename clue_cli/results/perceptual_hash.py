"""The perceptual hash of a picture: pictures that look alike have hashes that differ in few bits.

It is pHash as `imagehash.phash` computes it, of the picture shrunk to about 128 pixels first: luma, 32×32 pixels, DCT,
and of its 8×8 lowest frequencies whether each is above their median. Up to the DCT all is integer arithmetic of
Pillow's; the DCT is in float64. The same pixels have the same hash on every machine, unless a coefficient is as near to
the median as rounding errors are (1e-12 of it), or Pillow changes its resampling.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.pixels import displayed_view

_SIDE, _KEPT = 32, 8
_SMALL = 128
"""Pixels of the shorter side that are left when a large picture is shrunk by a whole factor."""

NOISE = 55.0
"""A coefficient no farther from the median than this may be noise: three standard deviations of what rounding 32×32
pixels to whole numbers adds to one (16 · 16² / 12, its square)."""

MOST_NOISE = 6
"""Bits that may be noise; with more there is too little in a picture to tell it apart by."""


def perceptual_hash(pixels: NDArray[np.uint8], orientation: int = 1) -> str | None:
    """The 64-bit hash of a picture as displayed: 16 hexadecimal digits.

    Args:
        pixels: H×W×3 uint8 RGB, as stored.
        orientation: the EXIF orientation, 1 to 8.

    Returns:
        None if there is too little in the picture: it is flat, a gradient, or nearly so.
    """
    coefficients = _coefficients(pixels, orientation)
    distances = coefficients - np.median(coefficients)
    if np.count_nonzero(np.abs(distances) <= NOISE) > MOST_NOISE:
        return None
    return np.packbits(distances > 0).tobytes().hex()


def _coefficients(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.float64]:
    """8×8: the lowest frequencies of the picture."""
    from scipy.fft import dctn  # with the first picture: it takes time to import

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    if (factor := min(image.size) // _SMALL) > 1:
        image = image.reduce(factor)
    upright = Image.fromarray(np.ascontiguousarray(displayed_view(np.asarray(image), orientation)))
    square = np.asarray(upright.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    return np.asarray(dctn(square, type=2)[:_KEPT, :_KEPT])
