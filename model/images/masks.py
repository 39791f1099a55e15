"""Mask files to H×W bool, True = forged, whatever the convention; on the pixels of the picture as they are stored."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.pixels import MAX_MEGAPIXELS, DamagedFileError, Pixels, as_stored, opened, reason

Mask = NDArray[np.bool_]

MaskStyle = Literal["white", "black", "grey", "two-coloured"]
"""What marks a forged pixel.

`white`: brighter than half. `black`: the inverse. `grey`: all that is not black; Korus marks collateral damage of the
edit in grey. `two-coloured`: green on the forged side and red on the other, as in Columbia's edge masks.
"""

THRESHOLD = 127
"""Grey values above this are white."""

LOSSY = ("JPEG", "WEBP")
"""Formats in which black is not exactly black."""

ALMOST_BLACK = 31
"""Grey values up to this are black in a mask of such a format."""


def read_mask(
    path: Path,
    style: MaskStyle = "white",
    max_megapixels: float = MAX_MEGAPIXELS,
    *,
    strict: bool = False,
    size: tuple[int, int] | None = None,
    fit: bool = False,
    empty: bool = True,
) -> Mask:
    """A mask file, H×W bool, True = forged.

    Args:
        path: a picture (`marked`), or an `.npz` with one array of labels, everything but 0 = forged.
        style: what marks a forged pixel.
        max_megapixels: the limit on its size.
        strict: refuse masks that look damaged, as in `marked`.
        size: height and width of the image it belongs to; None: not compared.
        fit: scale a mask of another size instead of refusing it.
        empty: whether a mask may mark nothing.

    Raises:
        DamagedFileError: not readable, too large, of another size than its image, looks damaged, or marks nothing
            though it may not.
    """
    if path.suffix == ".npz":
        labels = _labels(path, max_megapixels)
        mask = np.asarray(labels == 0 if style == "black" else labels != 0)
    else:
        with opened(path, max_megapixels) as image:
            mask = marked(image, style, strict=strict)
    if size is not None and not fit:
        check_mask_size(path, mask.shape, size)
    if not empty and not mask.any():
        raise DamagedFileError(f"{path}: the mask marks nothing")
    if size is not None and mask.shape != size:
        scaled = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
        mask = np.asarray(scaled, dtype=np.bool_)
    return mask


def check_mask_size(path: Path, found: tuple[int, ...], image: tuple[int, int]) -> None:
    """Compare the height and width of a mask with those of its image.

    Raises:
        DamagedFileError: they differ.
    """
    if found != image:
        raise DamagedFileError(f"{path}: the mask has {found[1]}×{found[0]} pixels, its image {image[1]}×{image[0]}")


def marked(image: Image.Image, style: MaskStyle = "white", *, strict: bool = False) -> Mask:
    """What a mask marks as forged, H×W bool. Masks that hold only 0 and 1 are understood as well.

    Args:
        image: not loaded yet.
        style: what marks a forged pixel.
        strict: of masks for training: one that marks nothing though it is not of one colour is refused, and so is one
            that is transparent in places if not just what is forged is opaque. 16-bit samples that are all below 256
            count as 8-bit ones; a benchmark's do not, so that its figures stay what they are.

    Raises:
        ValueError: a strict mask looks damaged.
        Exception: whatever Pillow raises on damaged bytes.
    """
    lossy, image = image.format in LOSSY, as_stored(image)
    if style == "two-coloured":
        return _filled(np.asarray(Image.fromarray(_levels(image)).convert("RGB")))
    found = from_grey(_levels(image, strict=strict), style, strict=strict, lossy=lossy)
    if strict and image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < alpha.max() and not np.array_equal(alpha > THRESHOLD, found):
            raise ValueError("the mask is transparent in places, and what is opaque is not what is forged")
    return found


def from_grey(levels: Pixels, style: MaskStyle = "white", *, strict: bool = False, lossy: bool = False) -> Mask:
    """What a mask marks as forged, H×W bool, from its levels, H×W or H×W×3 uint8.

    Args:
        style: any but `two-coloured`.
        strict: refuse what marks nothing though it is not of one colour.
        lossy: black need not be exactly black.

    Raises:
        ValueError: refused.
    """
    grey = levels if levels.ndim == 2 else np.asarray(Image.fromarray(levels).convert("L"))
    darkest, brightest = int(grey.min(initial=255)), int(grey.max(initial=0))
    if strict and style != "black" and (ALMOST_BLACK if lossy else 1) < brightest <= THRESHOLD:
        raise ValueError(f"the mask marks nothing, its brightest grey is {brightest} of 255")
    if strict and style == "black" and THRESHOLD < darkest < 255 - (ALMOST_BLACK if lossy else 0):
        raise ValueError(f"the mask marks nothing, its darkest grey is {darkest} of 255")
    full = 1 if brightest <= 1 else 255
    threshold = full // 25 if style == "grey" else full // 2  # 10 and THRESHOLD of 255
    return np.asarray(grey <= threshold if style == "black" else grey > threshold)


def _levels(image: Image.Image, *, strict: bool = False) -> Pixels:
    """A mask of any of Pillow's modes as H×W or H×W×3 uint8: no alpha, and of wide samples the upper eight bits."""
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    values = np.asarray(image).astype(np.int32)
    if strict:
        return (values >> 8 if values.max() > 255 else values).clip(0, 255).astype(np.uint8)
    # 0 and 1 stay what they are, and nothing else becomes one of them
    return np.where(values > 1, np.clip(values >> 8, 2, 255), values.clip(0)).astype(np.uint8)


def _filled(pixels: Pixels) -> Mask:
    """Green is forged, red is not, what has no colour belongs to the nearest that has; a bare outline is filled.

    Columbia's edge masks show the two sides of the cut in two colours, brighter near the cut, as JPEG, so that the
    colours bleed a little.
    """
    from scipy import ndimage  # not for a decoder that meets no such mask

    red, green = pixels[:, :, 0].astype(np.int16), pixels[:, :, 1].astype(np.int16)
    coloured = np.abs(green - red) > 40
    forged = coloured & (green > red)
    if not forged.any() or not (coloured & ~forged).any():
        return np.asarray(ndimage.binary_fill_holes(pixels.max(2) > THRESHOLD))
    if not coloured.all():
        rows, columns = ndimage.distance_transform_edt(~coloured, return_distances=False, return_indices=True)
        forged = forged[rows, columns]
    return np.asarray(forged)


def _labels(path: Path, max_megapixels: float) -> NDArray[np.integer]:
    """The array of an `.npz`, H×W; nothing is unpickled, and its size is looked at before it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) != 1 or members[0].file_size > max_megapixels * 1e6 * 8 + 4096:
                raise DamagedFileError(f"{path}: not one array within max_megapixels {max_megapixels:g}")
        with np.load(path, allow_pickle=False) as arrays:
            labels: NDArray[np.integer] = np.squeeze(arrays[arrays.files[0]])
        if labels.ndim != 2 or labels.dtype.kind not in "iub" or labels.size > max_megapixels * 1e6:
            raise DamagedFileError(f"{path}: an array of {labels.shape} {labels.dtype}, not a mask")
    except DamagedFileError:
        raise
    except Exception as error:  # whatever zipfile and numpy raise on damaged bytes
        raise DamagedFileError(f"{path}: {reason(path, error)}") from error
    return labels


def looks_inverted(truth: Mask) -> bool:
    """Whether a mask marks more than half of the picture and more than three quarters of its outermost pixels."""
    frame = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return float(truth.mean()) > 0.5 and float(frame.mean()) > 0.75
