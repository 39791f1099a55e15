"""Probability maps: from files, checked, and brought to the size of the ground truth."""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.problems import UnreadablePicture

Map = NDArray[np.float32]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

SUFFIXES = (".npy", ".png")
LARGEST = 500.0
"""Size of a map, 10⁶ pixels, that is read: more is damage or malice."""
LARGEST_HEADER = 10_000
"""Bytes of an NPY header that are looked at, as numpy itself does; one of H×W numbers has 128."""
CHUNK = 1 << 20
"""Values that are read at once: what is stored as float64 is never held as a whole."""


def png_levels(path: Path, max_megapixels: float = LARGEST) -> Levels:
    """The grey levels of a PNG map as they are stored, H×W, uint8 or, of 16 bits, uint16.

    Raises:
        UnreadablePicture: not one channel, or larger than the limit.
        Exception: whatever Pillow raises on damaged bytes.
    """
    with Image.open(path, formats=("PNG",)) as image:
        _check_size(path, image.width, image.height, max_megapixels)
        if image.mode.startswith("I"):
            return np.array(image).astype(np.uint16)
        if image.mode not in ("1", "L"):
            raise UnreadablePicture(f"{path}: expected one channel, found {image.mode}")
        return np.array(image.convert("L"))


def read_map(path: Path, max_megapixels: float = LARGEST, *, read: Callable[[Path, float], Levels] = png_levels) -> Map:
    """Any method's map, H×W float32: `.npy` as it is, 8-bit PNG / 255, 16-bit PNG / 65535.

    Eight bits move the threshold 0.5 to 128/255 = 0.502: keep 16 bits or floats where a number is computed. Values
    that are not finite or leave [0, 1] are handed on, for the caller to report.

    Args:
        read: decodes a PNG; `png_levels`, or one that does it elsewhere.

    Raises:
        UnreadablePicture: not such a file, not one channel, damaged, or larger than the limit.
    """
    try:
        if path.suffix.lower() == ".npy":
            return _read_array(path, max_megapixels)
        levels = read(path, max_megapixels)
        return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)
    except UnreadablePicture:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise UnreadablePicture(f"{path}: {str(error) or type(error).__name__}") from error


def _read_array(path: Path, max_megapixels: float) -> Map:
    # Unlike `np.load`, this reads no archive and no pickle, whatever the file holds. It maps nothing into memory: of a
    # file that is cut meanwhile, the pages that are gone would end the process (SIGBUS).
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnreadablePicture(f"{path}: expected a regular file")
        shape, by_columns, dtype = _array_header(file)
        sides = shape if len(shape) <= 2 else tuple(side for side in shape if side != 1)
        if len(sides) != 2 or min(sides) < 1 or dtype.kind not in "fbui":
            raise UnreadablePicture(f"{path}: expected H×W numbers, found {shape} {dtype}")
        _check_size(path, sides[1], sides[0], max_megapixels)
        promised = math.prod(sides) * dtype.itemsize
        there = os.fstat(file.fileno()).st_size - file.tell()
        if there < promised:
            raise UnreadablePicture(f"{path}: its header promises {promised} bytes of values, {there} are there")
        return _values(path, file, math.prod(sides), dtype).reshape(sides, order="F" if by_columns else "C")


def _open_at_once(name: str, flags: int) -> int:
    """A pipe that took the place of a file would keep whoever opens it waiting."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and number format; the file stands at the first value then.

    Raises ValueError: it is no NPY file. Whatever length the header claims to have, no more of the file is read.
    """
    head = io.BytesIO(file.read(LARGEST_HEADER))
    version = np.lib.format.read_magic(head)
    # Version 3 differs from 2 in the names of columns alone, which a map does not have
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError("NPY {}.{} is not known; expected 1.0, 2.0 or 3.0".format(*version))
    shape, by_columns, dtype = read(head)
    file.seek(head.tell())
    return shape, by_columns, dtype


def _values(path: Path, file: BinaryIO, count: int, dtype: np.dtype[Any]) -> Map:
    """The next `count` values, float32, in the order in which they are stored.

    Raises UnreadablePicture: the file ends before, because somebody cuts it meanwhile.
    """
    values = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        part = values[start : start + CHUNK]
        content = file.read(part.size * dtype.itemsize)
        if len(content) < part.size * dtype.itemsize:
            raise UnreadablePicture(f"{path}: it was cut while it was read, after {start} of {count} values")
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is the caller's to report
            part[:] = np.frombuffer(content, dtype)
    return values


def is_finite(heatmap: NDArray[np.floating[Any]]) -> bool:
    """Whether no value is NaN or infinite, without a copy."""
    with np.errstate(invalid="ignore"):  # infinity and its negative
        return bool(np.isfinite(heatmap.sum(dtype=np.float64)))


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
