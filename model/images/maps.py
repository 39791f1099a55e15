"""Probability maps: from files, checked, and brought to the size of the ground truth."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.pixels import DamagedFileError

Map = NDArray[np.float32]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

SUFFIXES = (".npy", ".png")
LARGEST = 500.0
"""Size of a map, 10⁶ pixels, that is read: more is damage or malice."""


def png_levels(path: Path, max_megapixels: float = LARGEST) -> Levels:
    """The grey levels of a PNG map as they are stored, H×W, uint8 or, of 16 bits, uint16.

    Raises:
        DamagedFileError: not one channel, or larger than the limit.
        Exception: whatever Pillow raises on damaged bytes.
    """
    with Image.open(path, formats=("PNG",)) as image:
        _check_size(path, image.width, image.height, max_megapixels)
        if image.mode.startswith("I"):
            return np.array(image).astype(np.uint16)
        if image.mode not in ("1", "L"):
            raise DamagedFileError(f"{path}: expected one channel, found {image.mode}")
        return np.array(image.convert("L"))


def read_map(path: Path, max_megapixels: float = LARGEST, *, read: Callable[[Path, float], Levels] = png_levels) -> Map:
    """Any method's map, H×W float32: `.npy` as it is, 8-bit PNG / 255, 16-bit PNG / 65535.

    Eight bits move the threshold 0.5 to 128/255 = 0.502: keep 16 bits or floats where a number is computed. Values
    that are not finite or leave [0, 1] are handed on, for the caller to report.

    Args:
        read: decodes a PNG; `png_levels`, or one that does it elsewhere.

    Raises:
        DamagedFileError: not such a file, not one channel, damaged, or larger than the limit.
    """
    try:
        if path.suffix.lower() == ".npy":
            return _read_array(path, max_megapixels)
        levels = read(path, max_megapixels)
        return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)
    except DamagedFileError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise DamagedFileError(f"{path}: {str(error) or type(error).__name__}") from error


def _read_array(path: Path, max_megapixels: float) -> Map:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        sides = shape if len(shape) <= 2 else tuple(side for side in shape if side != 1)
        if len(sides) != 2 or min(sides) < 1 or dtype.kind not in "fbui":
            raise DamagedFileError(f"{path}: expected H×W numbers, found {shape} {dtype}")
        _check_size(path, sides[1], sides[0], max_megapixels)
        promised, there = math.prod(sides) * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
        if there < promised:
            raise DamagedFileError(f"{path}: its header promises {promised} bytes of values, {there} are there")
        file.seek(0)
        values = np.load(file, allow_pickle=False)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is the caller's to report
        return np.asarray(values.reshape(sides), np.float32)


def is_finite(heatmap: NDArray[np.floating[Any]]) -> bool:
    """Whether no value is NaN or infinite, without a copy."""
    with np.errstate(invalid="ignore"):  # infinity and its negative
        return bool(np.isfinite(heatmap.sum(dtype=np.float64)))


def _check_size(path: Path, width: int, height: int, max_megapixels: float) -> None:
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise DamagedFileError(f"{path}: {megapixels:.4g} megapixels; the limit is {max_megapixels:g}")


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
