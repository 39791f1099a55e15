"""Pictures and ground truth from files: H×W×3 uint8, and H×W bool with True = forged, whatever the set's convention."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.datasets.sample import MaskStyle
from model.evaluation.problems import UnreadablePicture

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MAX_MEGAPIXELS = 178.0
"""Size, 10⁶ pixels, that a picture or mask may have; above about this, Pillow itself refuses."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""What is opened, by content. Pillow's other formats are none that a benchmark ships, and some start programs."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself before it is decoded.

    Attributes:
        width, height: in pixels as stored.
        format: one of `FORMATS`, where this process read it.
        signature: hash of format, mode, quantization tables, sampling and which kinds of metadata there are.
    """

    width: int
    height: int
    format: str
    signature: str = ""


def read_header(path: Path) -> Header:
    """Size, format and signature without decoding.

    Raises:
        UnreadablePicture: not a picture, or not there.
    """
    with _opened(path, None) as image:
        return Header(image.width, image.height, str(image.format), _signature(image))


def read_pixels(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """H×W×3 uint8 in the order of the file: masks are drawn on the stored pixels, so no orientation is applied.

    Raises:
        UnreadablePicture: not a picture, damaged, or larger than the limit.
    """
    with _opened(path, max_megapixels) as image:
        try:
            if image.mode.startswith("I"):  # 16 bits a pixel; convert() would clip
                grey = (_plain(image) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, 2)
            return np.array(image.convert("RGB"))
        except Exception as error:  # decoders raise anything on damaged bytes
            raise UnreadablePicture(_why(path, error)) from error


def read_mask(path: Path, style: MaskStyle = "white", max_megapixels: float = MAX_MEGAPIXELS) -> Mask:
    """One mask file, H×W bool, True = forged. Masks that hold only 0 and 1 are understood as well.

    Raises:
        UnreadablePicture: not a picture, damaged, or larger than the limit.
    """
    with _opened(path, max_megapixels) as image:
        try:
            levels = np.array(mask_levels(image))
        except Exception as error:  # as above
            raise UnreadablePicture(_why(path, error)) from error
    return marked(levels, style)


def mask_levels(image: Image.Image) -> Image.Image:
    """A mask of any of Pillow's modes as 8-bit L or RGB, for `marked`: no alpha, and of 16 bits the upper eight.

    Raises:
        Exception: whatever Pillow raises on damaged bytes.
    """
    if image.mode.startswith("I"):
        values = _plain(image)
        # 0 and 1 stay what they are, and nothing else becomes one of them
        return Image.fromarray(np.where(values > 1, np.clip(values >> 8, 2, 255), values.clip(0)).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def marked(levels: Pixels, style: MaskStyle = "white") -> Mask:
    """What a mask marks as forged, H×W bool, from its levels, H×W or H×W×3 uint8 (`mask_levels`)."""
    if style == "two-coloured":
        return _filled(levels if levels.ndim == 3 else np.repeat(levels[:, :, None], 3, 2))
    grey = levels if levels.ndim == 2 else np.asarray(Image.fromarray(levels).convert("L"))
    full = 1 if grey.max(initial=0) <= 1 else 255
    threshold = full // 25 if style == "grey" else full // 2  # 10 and 127 of 255
    return np.asarray(grey <= threshold if style == "black" else grey > threshold)


def read_truth(
    masks: Sequence[Path], style: MaskStyle = "white", *, read: Callable[[Path, MaskStyle], Mask] = read_mask
) -> Mask:
    """The union of an image's masks (MISD has one for each object), H×W bool.

    Args:
        read: reads one mask; `read_mask`, or one that decodes elsewhere.

    Raises:
        UnreadablePicture: a mask cannot be read, or the parts differ in size.
        ValueError: no mask is given.
    """
    if not masks:
        raise ValueError("an image without a mask has no ground truth to read")
    truth = read(masks[0], style)
    for path in masks[1:]:
        part = read(path, style)
        if part.shape != truth.shape:
            raise UnreadablePicture(f"{path}: {part.shape}, but {masks[0].name} is {truth.shape}")
        truth |= part
    return truth


def looks_inverted(truth: Mask) -> bool:
    """Whether a mask marks more than half of the picture and more than three quarters of its outermost pixels."""
    frame = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return float(truth.mean()) > 0.5 and float(frame.mean()) > 0.75


def _signature(image: Image.Image) -> str:
    tables, layers = getattr(image, "quantization", None), getattr(image, "layer", None)
    asked = ("exif", "icc_profile", "photoshop", "dpi", "jfif", "adobe", "xmp")
    kinds = sorted(kind for kind in asked if kind in image.info)
    described = f"{image.format} {image.mode} {tables} {layers} {kinds}"
    return hashlib.sha256(described.encode("utf-8", "replace")).hexdigest()[:16]


def _opened(path: Path, max_megapixels: float | None) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except Exception as error:  # as above
        raise UnreadablePicture(_why(path, error)) from error
    megapixels = image.width * image.height / 1e6
    if max_megapixels is not None and megapixels > max_megapixels:
        image.close()
        raise UnreadablePicture(f"{path}: {megapixels:.4g} megapixels; the limit is {max_megapixels:g}")
    return image


def _why(path: Path, error: Exception) -> str:
    return f"{path}: {error}" if isinstance(error, OSError | ValueError) else f"{path}: {type(error).__name__}: {error}"


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
