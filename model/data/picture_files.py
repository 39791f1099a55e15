"""Pictures and masks from files nobody vouches for: a few formats, a limit on pixels, one kind of error."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
"""What Pillow may recognize, whatever a file is called: its EPS reader, for one, would start Ghostscript.
(MPO, as phones write it, counts as JPEG.)"""

MASK_THRESHOLD = 127
"""Grey values above this are white, which is forged."""


DEEP = ("I", "F")
"""Modes with 32 bits a sample: nobody says which of their values is white."""

_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What takes back the turn of each orientation tag."""

LOSSY = ("JPEG", "WEBP")
"""Formats in which black is not exactly black."""

ALMOST_BLACK = 31
"""Grey values up to this are black in a mask of such a format."""


class DamagedFileError(ValueError):
    """A picture or mask that cannot be used; the message names the file and what is wrong."""


@contextmanager
def opened(path: Path, max_megapixels: float) -> Iterator[Image.Image]:
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
            megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                raise DamagedFileError(
                    f"{path}: {image.width}×{image.height} pixels, more than max_megapixels {max_megapixels:g}"
                )
            yield _as_stored(image)
    except DamagedFileError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise DamagedFileError(f"{path}: {_reason(path, error)}") from error


def _as_stored(image: Image.Image) -> Image.Image:
    """The picture without the turn of its orientation tag, which Pillow applies to TIFF alone, when it loads it."""
    tag = image.getexif().get(ExifTags.Base.Orientation) if image.format == "TIFF" else None
    return image.transpose(_TURNED_BACK[tag]) if tag in _TURNED_BACK else image


def picture_size(path: Path, max_megapixels: float, *, mask: bool = False) -> tuple[int, int]:
    """Height and width of a picture, or a mask, from its header.

    Raises:
        DamagedFileError: it cannot be read as that.
    """
    with opened(path, max_megapixels) as image:
        if not mask:
            _check_depth(image)
        return image.height, image.width


def _check_depth(image: Image.Image) -> None:
    if image.mode in DEEP:  # Pillow would make them white or black
        raise ValueError("32 bits a sample; expected a picture of 8 or 16")


def rgb(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> Pixels:
    """The pixels, H×W×3 uint8, of a box (left, top, right, bottom) or of all; what is transparent is over white.

    Raises:
        ValueError: the samples have 32 bits.
    """
    _check_depth(image)
    part = image.crop(box) if box is not None else image
    if part.mode.startswith("I;16"):  # 16-bit grey: Pillow would clip it
        return np.repeat((np.asarray(part) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if part.has_transparency_data:  # as a scan sees it
        above = part.convert("RGBA")
        part = Image.new("RGB", part.size, "white")
        part.paste(above, mask=above.getchannel("A"))
    return np.asarray(part.convert("RGB"))


def check_mask_size(path: Path, found: tuple[int, ...], image: tuple[int, int]) -> None:
    """Compare the height and width of a mask with those of its image.

    Raises:
        DamagedFileError: they differ.
    """
    if found != image:
        raise DamagedFileError(f"{path}: the mask has {found[1]}×{found[0]} pixels, its image {image[1]}×{image[0]}")


def read_mask(
    path: Path,
    max_megapixels: float,
    *,
    inverted: bool = False,
    size: tuple[int, int] | None = None,
    fit: bool = False,
    empty: bool = True,
) -> Mask:
    """A mask, H×W bool, True = forged.

    Args:
        path: a picture, white = forged (a mask of only the values 0 and 1 counts 1 as white), or an `.npz` with one
            array of labels, everything but 0 = forged.
        max_megapixels: the limit on its size.
        inverted: black is forged.
        size: height and width of the image it belongs to; None: not compared.
        fit: scale a mask of another size instead of refusing it.
        empty: whether a mask may mark nothing.

    Raises:
        DamagedFileError: not readable, too large, of another size than its image; it marks nothing though it may not,
            or though it is not of one colour, as where forged is a grey that is too dark; its alpha channel marks
            something else than its colours.
    """
    array = path.suffix == ".npz"
    mask = _labels(path, max_megapixels) != 0 if array else _white(path, max_megapixels, inverted)
    if inverted:
        mask = ~mask
    if size is not None and not fit:
        check_mask_size(path, mask.shape, size)
    if not empty and not mask.any():
        raise DamagedFileError(f"{path}: the mask marks nothing")
    if size is not None and mask.shape != size:
        scaled = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
        mask = np.asarray(scaled, dtype=np.bool_)
    return mask


def _white(path: Path, max_megapixels: float, inverted: bool) -> Mask:
    """What is white in a mask of grey values."""
    with opened(path, max_megapixels) as image:
        lossy = image.format in LOSSY
        if image.mode.startswith("I;16"):
            deep = np.asarray(image)
            grey = (deep >> 8 if deep.max() > 255 else deep).astype(np.uint8)  # some hold 8 bits in 16
        else:
            grey = np.asarray(image.convert("L"))
        found = white(grey, inverted=inverted, lossy=lossy)
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
            if alpha.min() < alpha.max() and not np.array_equal(alpha > MASK_THRESHOLD, found != inverted):
                raise ValueError("the mask is transparent in places, and what is opaque is not what is forged")
        return found


def white(grey: Pixels, *, inverted: bool = False, lossy: bool = False) -> Mask:
    """What is white in a mask of grey values, H×W uint8: H×W bool.

    Args:
        inverted: what is black will be asked for.
        lossy: black need not be exactly black.

    Raises:
        ValueError: nothing is, though the mask is not of one colour.
    """
    darkest, brightest = int(grey.min()), int(grey.max())
    found: Mask = grey > (MASK_THRESHOLD if brightest > 1 else 0)
    black = ALMOST_BLACK if lossy else 1
    if not inverted and black < brightest <= MASK_THRESHOLD:
        raise ValueError(f"the mask marks nothing, its brightest grey is {brightest} of 255")
    if inverted and MASK_THRESHOLD < darkest < 255 - (ALMOST_BLACK if lossy else 0):
        raise ValueError(f"the mask marks nothing, its darkest grey is {darkest} of 255")
    return found


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
    except Exception as error:  # as above
        raise DamagedFileError(f"{path}: {_reason(path, error)}") from error
    return labels


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = str(error).replace(str(path), "").replace("''", "").strip() or type(error).__name__
    return "not a picture of a known format" if "cannot identify image file" in words else words
