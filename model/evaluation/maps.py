"""Probability maps: from files, checked, and brought to the size of the ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.problems import UnreadablePicture

Map = NDArray[np.float32]

SUFFIXES = (".npy", ".png")
LARGEST = 500.0
"""Size of a map, 10⁶ pixels, that is read: more is damage or malice."""


def read_map(path: Path, max_megapixels: float = LARGEST) -> Map:
    """Any method's map, H×W float32: `.npy` as it is, 8-bit PNG / 255, 16-bit PNG / 65535.

    Eight bits move the threshold 0.5 to 128/255 = 0.502: keep 16 bits or floats where a number is computed. Values
    that are not finite or leave [0, 1] are handed on, for the caller to report.

    Raises:
        UnreadablePicture: not such a file, not one channel, damaged, or larger than the limit.
    """
    try:
        return _read_array(path, max_megapixels) if path.suffix.lower() == ".npy" else _read_png(path, max_megapixels)
    except UnreadablePicture:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise UnreadablePicture(f"{path}: {str(error) or type(error).__name__}") from error


def _read_array(path: Path, max_megapixels: float) -> Map:
    # Unlike `np.load`, this reads no archive and no pickle, whatever the file holds
    stored: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    if stored.ndim > 2:
        stored = stored.reshape([side for side in stored.shape if side != 1])
    if stored.ndim != 2 or stored.size == 0 or stored.dtype.kind not in "fbui":
        raise UnreadablePicture(f"{path}: expected H×W numbers, found {stored.shape} {stored.dtype}")
    _check_size(path, stored.shape[1], stored.shape[0], max_megapixels)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and the caller's to report
        return np.array(stored, np.float32)


def _read_png(path: Path, max_megapixels: float) -> Map:
    with Image.open(path, formats=("PNG",)) as image:
        _check_size(path, image.width, image.height, max_megapixels)
        if image.mode.startswith("I"):
            return np.asarray(np.array(image), np.float32) / np.float32(65535)
        if image.mode not in ("1", "L"):
            raise UnreadablePicture(f"{path}: expected one channel, found {image.mode}")
        return np.asarray(image.convert("L"), np.float32) / np.float32(255)


def _check_size(path: Path, width: int, height: int, max_megapixels: float) -> None:
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise UnreadablePicture(f"{path}: {megapixels:.4g} megapixels; the limit is {max_megapixels:g}")


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
