"""Probability maps: from files, checked, and brought to the size of the ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.problems import UnreadablePicture

Map = NDArray[np.float32]

SUFFIXES = (".npy", ".png")
LARGEST = 1 << 29
"""Pixels of an `.npy` that are read, half a gigapixel: more is damage or malice."""


def read_map(path: Path) -> Map:
    """Any method's map, H×W float32: `.npy` as it is, 8-bit PNG / 255, 16-bit PNG / 65535.

    Eight bits move the threshold 0.5 to 128/255 = 0.502: keep 16 bits or floats where a number is computed. Values
    that are not finite or leave [0, 1] are handed on, for the caller to report.

    Raises:
        UnreadablePicture: not such a file, not one channel, or damaged.
    """
    try:
        if path.suffix.lower() == ".npy":
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
            if stored.ndim > 2:
                stored = stored.reshape([side for side in stored.shape if side != 1])
            if stored.ndim != 2 or not 0 < stored.size <= LARGEST or stored.dtype.kind not in "fbui":
                raise UnreadablePicture(f"{path}: expected H×W numbers, found {stored.shape} {stored.dtype}")
            return np.array(stored, np.float32)
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode.startswith("I"):
                return np.asarray(np.array(image), np.float32) / np.float32(65535)
            if image.mode not in ("1", "L"):
                raise UnreadablePicture(f"{path}: expected one channel, found {image.mode}")
            return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    except UnreadablePicture:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(f"{path}: {error}") from error


def to_size(heatmap: Map, height: int, width: int) -> Map:
    """A map brought to height × width, H×W float32.

    Bilinear, pixel areas aligned, and averaging where it shrinks (Pillow's BILINEAR on floats). The choice moves
    figures: `RESIZE` belongs to the configuration of a result.
    """
    if heatmap.shape == (height, width):
        return heatmap
    resized = Image.fromarray(heatmap.astype(np.float32, copy=False)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


RESIZE = "bilinear, antialiased, to the size of the ground truth (Pillow)"
