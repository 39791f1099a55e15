"""The thumbnails that a file holds of its picture: found, decoded under tight limits, and compared with the picture.

Cameras and programs make them in many ways: with black bars or cut to another shape, sharpened, with other tones, as
stored or turned. What is left after all these is a difference of content, such as a picture cropped or edited by a
program that left the old thumbnail in place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clue_cli.evidence.formats import tiff_directories
from clue_cli.evidence.item import THUMBNAIL_SIDE
from clue_cli.evidence.jpeg import APP13, SOI, Structure

MOST_BYTES, MOST_SIDE, LEAST_SIDE = 512 << 10, 1024, 32
"""Size of a thumbnail's data and sides that is looked at."""

LIKENESS = 0.8
"""Correlation of thumbnail and picture below which they show different things."""

LOCAL = 28.0
"""Mean difference in a window, grey levels after the tones were matched, above which a part differs."""

_FRAMING = 0.015  # of the sides: so much a thumbnail's frame may lie beside the picture's
_WINDOW = 11  # pixels of the thumbnail
_Box = tuple[float, float, float, float]
_Map = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compared:
    """A thumbnail and how like the picture it is.

    Attributes:
        image: 8-bit RGB, turned as the picture is stored; at most THUMBNAIL_SIDE large.
        likeness: correlation of both, -1 to 1.
        local: largest mean difference in a window, grey levels.
    """

    image: Image.Image
    likeness: float
    local: float

    @property
    def differs(self) -> bool:
        """Whether it shows something else than the picture."""
        return self.likeness < LIKENESS or self.local > LOCAL


def embedded(data: bytes, exif: bytes, found: Structure | None) -> Iterator[tuple[str, bytes]]:
    """The JPEG thumbnails of a file, each with where it was: in EXIF's second directory, in Photoshop's resources."""
    block = exif.removeprefix(b"Exif\0\0")
    for tags in [*tiff_directories(block)][1:]:
        (_, start), (_, length) = tags.get(0x201, (0, 0)), tags.get(0x202, (0, 0))
        if start and length:
            yield "EXIF", block[start : start + length]
    for marker, start, end in found.segments if found else ():
        if marker == APP13 and data.startswith(b"Photoshop 3.0\0", start):
            at = data.find(b"8BIM\x04\x0c", start, end)
            jpeg = data.find(SOI + b"\xff", at, min(at + 64, end)) if at >= 0 else -1
            if jpeg >= 0:
                yield "Photoshop", data[jpeg:end]


def compare(thumbnail: bytes, picture: Image.Image) -> Compared:
    """Decode a thumbnail and compare it with the picture that holds it.

    Args:
        thumbnail: a JPEG.
        picture: 8-bit RGB as stored.

    Raises:
        ValueError: it is larger than a thumbnail is, or too small.
        Exception: whatever Pillow raises on damaged bytes.
    """
    if thumbnail[:2] != SOI or len(thumbnail) > MOST_BYTES:
        raise ValueError("no JPEG of a thumbnail's size")
    with Image.open(io.BytesIO(thumbnail), formats=["JPEG"]) as image:
        if max(image.size) > MOST_SIDE or min(image.size) < LEAST_SIDE:
            raise ValueError("not of a thumbnail's size")
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    best = _fitted(small, picture, 0)
    if best.likeness < LIKENESS:  # some programs turn a picture and not its thumbnail
        turned = max((_fitted(small, picture, turn) for turn in (90, 180, 270)), key=lambda one: one.likeness)
        best = turned if turned.likeness > best.likeness + 0.1 else best
    return Compared(best.image, best.likeness, best.local)


@dataclass(frozen=True, slots=True)
class _Fitted:
    image: Image.Image
    likeness: float
    local: float


def _fitted(small: Image.Image, picture: Image.Image, turn: int) -> _Fitted:
    """The comparison in the geometry that fits best, for one turn."""
    from scipy.ndimage import gaussian_filter  # few files need it, and a decoder shall start fast

    image = small.rotate(turn, expand=True) if turn else small
    grey = np.asarray(image.convert("L"), np.float64)
    fine = 4 * THUMBNAIL_SIDE
    whole = picture.resize((fine, fine), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    best, values = -2.0, (grey, grey)
    place: tuple[_Box, _Box] = (0, 0, *image.size), (0.0, 0.0, 1.0, 1.0)

    def tried(inside: _Box, outside: _Box) -> None:
        nonlocal best, place, values
        left, top, right, bottom = (round(side) for side in inside)
        part = grey[top:bottom, left:right]
        if min(part.shape) < LEAST_SIDE // 2:
            return
        box = tuple(min(max(side, 0.0), 1.0) * fine for side in outside)
        fitted = whole.resize((part.shape[1], part.shape[0]), Image.Resampling.BOX, box=box)  # type: ignore[arg-type]
        other = np.asarray(fitted, np.float64)
        likeness = _correlation(gaussian_filter(part, 1.0), gaussian_filter(other, 1.0))
        if likeness > best:
            best, place, values = likeness, (inside, outside), (part, other)

    for inside, outside in _geometries(grey, picture.width / picture.height):
        tried(inside, outside)
    if best < LIKENESS or _local(*values) > LOCAL / 2:
        for step in (_FRAMING, _FRAMING / 2, _FRAMING / 2):
            for side, by in product(range(4), (-step, step)):
                inside, outside = place
                tried(inside, (*outside[:side], outside[side] + by, *outside[side + 1 :]))  # type: ignore[arg-type]
    return _Fitted(image, best, _local(*values))


def _geometries(grey: _Map, aspect: float) -> Iterator[tuple[_Box, _Box]]:
    """Which box of the thumbnail, in pixels, may show which box of the picture, in shares of its sides."""
    height, width = grey.shape
    full: _Box = (0.0, 0.0, 1.0, 1.0)
    yield (0, 0, width, height), full
    own = width / height
    if abs(aspect / own - 1) > 0.02:
        if aspect > own:
            bar, cut = (height - width / aspect) / 2, (1 - own / aspect) / 2
            yield (0, bar, width, height - bar), full
            yield (0, 0, width, height), (cut, 0.0, 1 - cut, 1.0)
        else:
            bar, cut = (width - height * aspect) / 2, (1 - aspect / own) / 2
            yield (bar, 0, width - bar, height), full
            yield (0, 0, width, height), (0.0, cut, 1.0, 1 - cut)
    rows, columns = (np.flatnonzero(grey.max(axis) > 40) for axis in (1, 0))
    if rows.size and columns.size and (rows.size < height or columns.size < width):
        yield (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), full


def _correlation(one: _Map, other: _Map) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > one.size else 1.0  # next to even: nothing to compare


def _local(one: _Map, other: _Map) -> float:
    """The largest mean difference in a window, after the picture's tones were given those of the thumbnail."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    one, other = gaussian_filter(one, 1.0), gaussian_filter(other, 1.0)
    levels = np.linspace(0, 255, 9)
    near = [abs(other - level) <= 24 for level in levels]
    tones = [np.median(one[those]) if those.sum() > 50 else np.nan for those in near]
    known = ~np.isnan(tones)
    matched = np.interp(other, levels[known], np.asarray(tones)[known]) if known.any() else other
    shifts = ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
    least = np.min([abs(one - np.roll(matched, shift, (0, 1))) for shift in shifts], axis=0)
    border = _WINDOW // 2 + 1
    means = uniform_filter(least, _WINDOW)[border:-border, border:-border]
    return float(means.max()) if means.size else 0.0
