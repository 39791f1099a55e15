"""Error level analysis: N. Krawetz, "A Picture's Worth… Digital Image Analysis and Forensics", Black Hat USA 2007.

A JPEG that is saved again changes less where it was saved at that quality before. Regions that differ from their
surroundings in how much they change may have another history; edges and texture always differ, which is what makes the
method so easy to misread.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

QUALITY = 90
WINDOW = 9
"""Side, in pixels, of the square over which the change is averaged: a block and its border."""


def error_level_analysis(pixels: NDArray[np.uint8], quality: int = QUALITY) -> NDArray[np.float32]:
    """Change through JPEG at `quality`, largest channel, averaged locally, over its largest: H×W float32 in [0, 1]."""
    again = recompressed(pixels, quality)
    change = np.empty(pixels.shape[:2], np.float32)
    for row in range(0, pixels.shape[0], 256):  # strips: a large picture needs no copy of 16 bits a channel
        difference = np.abs(pixels[row : row + 256].astype(np.int16) - again[row : row + 256])
        change[row : row + 256] = difference.max(2)
    level = ndimage.uniform_filter(change, WINDOW, mode="nearest")
    return np.asarray(np.clip(level / max(float(level.max()), 1.0), 0, 1), np.float32)


def recompressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Through JPEG with libjpeg's tables and 4:2:0 chroma, H×W×3 uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"))
