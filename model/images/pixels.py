"""Picture files to pixels as they are stored: H×W×3 uint8 RGB, the same for scanning, training and measuring.

Nothing is turned: masks lie on the stored pixels, and a JPEG's 8×8 grid where the encoder put it. `orientation_of` says
how a viewer turns a picture, and `displayed_view` does so for whoever shows it or writes what is to be shown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from PIL.Image import Transpose

from model.errors import UserError

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "AVIF")
"""What Pillow may recognize, whatever a file is called: its EPS reader, for one, would start Ghostscript.
(MPO, as phones write it, counts as JPEG.)"""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".avif"})
"""Endings of the names of such files."""
MAX_MEGAPIXELS = 178.0
"""Size, 10⁶ pixels, above which Pillow itself refuses a picture."""

_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258  # TIFF and EXIF tags
_TURNED_BACK = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
"""What leads from the displayed picture to the stored one, for each orientation."""


class DamagedFileError(UserError, ValueError):
    """A picture, mask or map that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself before it is decoded.

    Attributes:
        width, height: in pixels as stored.
        format: one of `FORMATS`, or MPO, where this process read it.
        signature: hash of format, mode, quantization tables, sampling and which kinds of metadata there are.
    """

    width: int
    height: int
    format: str
    signature: str = ""


@contextmanager
def opened(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """A picture whose header was read, its size within the limit.

    Raises:
        DamagedFileError: not readable, not a picture, too large; also when what is done with it fails.
    """
    try:
        # A pipe or a device would be waited for without end
        if not path.is_file():
            raise DamagedFileError(f"{path}: not a file")
        # Given a path, Pillow maps a TIFF of one channel, and mixes its pixels up where a tag turns it by 90°
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height / 1e6 > max_megapixels:
                height, width = stored_size(image)
                raise DamagedFileError(f"{path}: {width}×{height} pixels, more than max_megapixels {max_megapixels:g}")
            yield image
    except DamagedFileError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise DamagedFileError(f"{path}: {reason(path, error)}") from error


def read_pixels(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """A picture file, H×W×3 uint8 as stored. Raises DamagedFileError."""
    with opened(path, max_megapixels) as image:
        return rgb(image)


def read_header(path: Path) -> Header:
    """Size, format and signature without decoding. Raises DamagedFileError."""
    with opened(path, math.inf) as image:
        height, width = stored_size(image)
        return Header(width, height, str(image.format), _signature(image))


def picture_size(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """Height and width of a picture or a mask as stored, from its header. Raises DamagedFileError."""
    with opened(path, max_megapixels) as image:
        return stored_size(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width, as stored, of a picture that is not loaded."""
    turned = _turned_by_pillow(image) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of a picture that is not loaded: how a viewer turns what is stored.

    Raises:
        Exception: whatever Pillow raises on damaged EXIF.
    """
    if image.format == "TIFF":
        return _turned_by_pillow(image)
    # libheif and libjxl have turned the picture as the container says; EXIF does not count there
    if image.format in ("HEIF", "JXL") or "exif" not in image.info:
        return 1
    exif = Image.Exif()
    exif.load(image.info["exif"])
    return _valid(exif.get(_ORIENTATION, 1))


def as_stored(image: Image.Image) -> Image.Image:
    """A picture that is not loaded, loaded and without the turn that Pillow applies to a TIFF."""
    turned = _turned_by_pillow(image)  # the tag is gone afterwards
    image.load()
    return image.transpose(_TURNED_BACK[turned]) if turned != 1 else image


def rgb(image: Image.Image, box: Box | None = None) -> Pixels:
    """The pixels of a box, or all, of a picture that is not loaded: H×W×3 uint8, as `to_rgb` converts them."""
    return np.asarray(to_rgb(image, box)[0])


def to_rgb(image: Image.Image, box: Box | None = None) -> tuple[Image.Image, list[str]]:
    """8-bit RGB as stored, from any mode that Pillow knows; the one place that decides what odd samples become.

    Of 16 bits a sample the upper 8 are kept; 32-bit samples are scaled from their extremes, those of the whole picture,
    to 0…255; what is transparent is composited over white; inks are as Adobe's marker says; no profile is applied.

    Args:
        image: not loaded yet: Pillow forgets by how much it has turned a TIFF.
        box: what of the picture is wanted, in stored pixels.

    Returns:
        The picture, and what was done, in words.

    Raises:
        Exception: whatever Pillow raises on damaged bytes.
    """
    done = []
    bits, jpeg, adobe = _bits_per_sample(image), image.format in ("JPEG", "MPO"), "adobe" in image.info
    image = as_stored(image)
    if bits > 8 and image.mode not in ("I", "F"):
        done.append(f"{bits}-bit samples cut to their upper 8 bits")
    if image.mode in ("I", "F"):
        pixels, low, high = _scaled(np.asarray(image))
        image = Image.fromarray(pixels)
        done.append(f"{'float' if bits == 32 else bits} samples scaled from {low:g}…{high:g} to 0…255")
    if box is not None:
        image = image.crop(box)
    if image.mode.startswith("I;16"):
        # Pillow widens 10- and 12-bit samples to nothing: the upper 8 bits are those of the 16
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode == "CMYK":
        if jpeg and not adobe:
            image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for one of Adobe's
            done.append("inks taken as they are: no Adobe marker")
        done.append("CMYK converted to RGB without a colour profile")
    elif image.mode in ("YCbCr", "LAB", "HSV"):
        done.append(f"{image.mode} converted to RGB")
    elif image.mode in ("P", "PA"):
        done.append("palette applied")
    elif image.mode in ("1", "L", "LA", "La"):
        done.append("greyscale repeated in three channels")
    if image.has_transparency_data:
        image, note = _over_white(image)
        done.append(note)
    return (image if image.mode == "RGB" else image.convert("RGB")), done


OVER_WHITE = "alpha composited over white"
"""What `to_rgb` says of a picture that is transparent in places."""


def displayed_view(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels or a map as a viewer shows them, from those as stored.

    Args:
        stored: H×W or H×W×C, any type.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        A view: no pixel is copied. Raises ValueError for an orientation that does not exist.
    """
    match orientation:
        case 1:
            return stored
        case 2:
            return stored[:, ::-1]
        case 3:
            return stored[::-1, ::-1]
        case 4:
            return stored[::-1]
        case 5:
            return np.swapaxes(stored, 0, 1)
        case 6:
            return np.swapaxes(stored, 0, 1)[:, ::-1]
        case 7:
            return np.swapaxes(stored, 0, 1)[::-1, ::-1]
        case 8:
            return np.swapaxes(stored, 0, 1)[::-1]
    raise ValueError(f"EXIF orientation is 1 to 8, not {orientation}")


def reason(path: Path, error: Exception) -> str:
    """What is wrong with a file, in words, without its path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = str(error).replace(str(path), "").replace("''", "").strip() or type(error).__name__
    return "not a picture of a known format" if "cannot identify image file" in words else words


def _turned_by_pillow(image: Image.Image) -> int:
    """The orientation by which Pillow turns a picture when it loads it, which it does to TIFF alone."""
    return _valid(image.tag_v2.get(_ORIENTATION, 1)) if image.format == "TIFF" else 1  # type: ignore[attr-defined]


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and orientation in _TURNED_BACK else 1


def _bits_per_sample(image: Image.Image) -> int:
    if image.format == "PNG":
        return 16 if any("16" in str(tile.args) for tile in image.tile) else 8  # type: ignore[attr-defined]
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) and bits else 8
    if image.format == "JPEG2000" and image.mode.startswith("I;16"):
        return 16
    bits = image.info.get("bit_depth", 8)
    return bits if isinstance(bits, int) else 8


def _scaled(samples: NDArray[Any]) -> tuple[Pixels, float, float]:
    """Samples stretched to 0…255 by their extremes, which come with them; what is not finite counts as the smallest."""
    values = samples.astype(np.float64)  # float32 could overflow below
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8), 0.0, 0.0
    low, high = float(values[finite].min()), float(values[finite].max())
    values[~finite] = low
    values -= low
    values *= 255.0 / (high - low) if high > low else 0.0
    return np.rint(values).astype(np.uint8), low, high


def _over_white(image: Image.Image) -> tuple[Image.Image, str]:
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB"), "alpha channel dropped, opaque everywhere"
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=alpha)
    return flat, OVER_WHITE


def _signature(image: Image.Image) -> str:
    tables, layers = getattr(image, "quantization", None), getattr(image, "layer", None)
    asked = ("exif", "icc_profile", "photoshop", "dpi", "jfif", "adobe", "xmp")
    kinds = sorted(kind for kind in asked if kind in image.info)
    described = f"{image.format} {image.mode} {tables} {layers} {kinds}"
    return hashlib.sha256(described.encode("utf-8", "replace")).hexdigest()[:16]
