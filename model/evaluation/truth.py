"""Pictures and ground truth from files: H×W×3 uint8, and H×W bool with True = forged, whatever the set's convention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.evaluation.problems import UnreadablePicture

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MaskStyle = Literal["white", "black", "grey", "two-coloured"]
"""What marks a forged pixel in a set's masks.

`white`: brighter than half. `black`: the inverse. `grey`: all that is not black; Korus marks collateral damage of the
edit in grey. `two-coloured`: green on the forged side and red on the other, as in Columbia's edge masks.
"""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""What is opened, by content. Pillow's other formats are none that a benchmark ships, and some start programs."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"})


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a picture say: width and height in pixels as stored, and the format."""

    width: int
    height: int
    format: str


def read_header(path: Path) -> Header:
    """Size and format without decoding.

    Raises:
        UnreadablePicture: not a picture, or not there.
    """
    with _opened(path) as image:
        return Header(image.width, image.height, str(image.format))


def read_pixels(path: Path) -> Pixels:
    """H×W×3 uint8 in the order of the file: masks are drawn on the stored pixels, so no orientation is applied.

    Raises:
        UnreadablePicture: not a picture, damaged, or too large for Pillow's limit against decompression bombs.
    """
    with _opened(path) as image:
        try:
            if image.mode.startswith("I"):  # 16 bits a pixel; convert() would clip
                grey = (_plain(image) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, 2)
            return np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadablePicture(f"{path}: {error}") from error


def read_mask(path: Path, style: MaskStyle = "white") -> Mask:
    """One mask file, H×W bool, True = forged. Masks that hold only 0 and 1 are understood as well.

    Raises:
        UnreadablePicture: not a picture, or damaged.
    """
    if style == "two-coloured":
        return _filled(read_pixels(path))
    with _opened(path) as image:
        try:
            values: NDArray[np.int32 | np.uint8]
            if image.mode.startswith("I"):
                values, full = _plain(image), 65535
            else:
                values, full = np.array(image.convert("L")), 255
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadablePicture(f"{path}: {error}") from error
    full = 1 if values.max(initial=0) <= 1 else full
    threshold = full // 25 if style == "grey" else full // 2  # 10 and 127 of 255
    return np.asarray(values <= threshold if style == "black" else values > threshold)


def read_truth(masks: Sequence[Path], style: MaskStyle = "white") -> Mask:
    """The union of an image's masks (MISD has one for each object), H×W bool.

    Raises:
        UnreadablePicture: a mask cannot be read, or the parts differ in size.
        ValueError: no mask is given.
    """
    if not masks:
        raise ValueError("an image without a mask has no ground truth to read")
    truth = read_mask(masks[0], style)
    for path in masks[1:]:
        part = read_mask(path, style)
        if part.shape != truth.shape:
            raise UnreadablePicture(f"{path}: {part.shape}, but {masks[0].name} is {truth.shape}")
        truth |= part
    return truth


def looks_inverted(truth: Mask) -> bool:
    """Whether a mask marks more than half of the picture and more than three quarters of its outermost pixels."""
    frame = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return float(truth.mean()) > 0.5 and float(frame.mean()) > 0.75


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(f"{path}: {error}") from error


def _plain(image: Image.Image) -> NDArray[np.int32]:
    return np.array(image).astype(np.int32)


def _filled(pixels: Pixels) -> Mask:
    """Green is forged, red is not, what has no colour belongs to the nearest that has; a bare outline is filled.

    Columbia's edge masks show the two sides of the cut in two colours, brighter near the cut, as JPEG, so that the
    colours bleed a little.
    """
    red, green = pixels[:, :, 0].astype(np.int16), pixels[:, :, 1].astype(np.int16)
    coloured = np.abs(green - red) > 40
    forged = coloured & (green > red)
    if not forged.any() or not (coloured & ~forged).any():
        return np.asarray(ndimage.binary_fill_holes(pixels.max(2) > 127))
    if not coloured.all():
        rows, columns = ndimage.distance_transform_edt(~coloured, return_distances=False, return_indices=True)
        forged = forged[rows, columns]
    return np.asarray(forged)
