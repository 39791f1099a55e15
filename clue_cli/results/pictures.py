"""The pictures of a scan: mask and heatmap, the results; previews for the page; and panels.

Previews are for looking at: the image, the heatmap in colour, the outline of the mask, a thumbnail. Panels are maps of
classical methods beside the network's: aids for an examiner, no part of a verdict. A panel that cannot be made costs
the panel and not the image: its record says why there is none. All are encoded in memory: they are made where the
network runs, and the results folder may be elsewhere.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from clue_cli.evidence.item import Photo

HEATMAP_SCALE = 65535
"""A heatmap pixel of this value means probability 1."""

_COMPRESS_LEVEL = 1
_ROWS = 256
_DIFFERENCE_TO_ROW_ABOVE = 2  # the number of the PNG filter

BAND_BYTES = 4 << 20
"""Full-size pixels are shrunk in bands of about this many bytes, so that no second copy of a large image exists."""

OUTLINE_SIDE = 512
"""Outlines of smaller images are drawn enlarged up to about this side, or two pixels would cover what they enclose."""

LINE = (0, 229, 255)
CASING = (0, 33, 41)
"""A light line in a dark casing is visible on any picture; cyan does not occur in the colours of the heatmap."""

Method = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

PANELS = {"error_level_analysis": ".ela.png", "jpeg_ghosts": ".ghosts.png", "noise_inconsistency": ".noise.png"}
"""The methods, by the names of their fields in the record, and how their files end."""

PANEL_MEGAPIXELS = 64.0
"""Larger images get no panels: the methods need several copies of an image in memory."""

PANEL_BYTES_PER_PIXEL = 64
"""What a method may need beside the image: signed and float copies of three channels."""


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """An H×W mask as PNG with one 8-bit channel: 255 where it is set, 0 elsewhere.

    Raises:
        ValueError: not H×W of bool.
    """
    _check(mask, np.bool_)
    return _png(mask.shape, 8, lambda rows: np.multiply(mask[rows], np.uint8(255), dtype=np.uint8))


def encode_heatmap(heatmap: NDArray[np.float32]) -> bytes:
    """H×W probabilities in [0, 1] as PNG with one 16-bit channel: value / 65535 = probability.

    Needs the file above the heatmap itself, which has at most 2 bytes per pixel.

    Raises:
        ValueError: not H×W of float32, or with values that are no probabilities.
    """
    _check(heatmap, np.float32)
    # NaN makes both comparisons false.
    if not (float(heatmap.min()) >= 0 and float(heatmap.max()) <= 1):
        raise ValueError("a heatmap holds probabilities from 0 to 1")
    return _png(heatmap.shape, 16, lambda rows: np.rint(heatmap[rows] * np.float32(HEATMAP_SCALE)).astype(">u2"))


def _check(pixels: NDArray[np.generic], dtype: type[np.generic]) -> None:
    if pixels.ndim != 2 or pixels.dtype != dtype or not pixels.size:
        raise ValueError(f"expected H×W of {dtype.__name__}, got {pixels.dtype} of shape {pixels.shape}")


def _png(shape: tuple[int, ...], bits: int, levels: Callable[[slice], NDArray[Any]]) -> bytes:
    """A PNG of one channel, from the levels of some rows at a time, as they are stored (big-endian).

    Pillow tries five filters on each row, and deflate looks for what repeats. On maps, whose low bits are noise, that
    gains nothing: 5.4 ms for a heatmap of 384×256, and 2.2 with one filter and runs alone, for files about as large.
    """
    height, width = shape
    deflate = zlib.compressobj(_COMPRESS_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    above = np.zeros((1, width * bits // 8), np.uint8)
    for top in range(0, height, _ROWS):
        rows = np.ascontiguousarray(levels(slice(top, top + _ROWS))).view(np.uint8)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = _DIFFERENCE_TO_ROW_ABOVE
        np.subtract(rows[:1], above, out=filtered[:1, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1:]
        _chunk(file, b"IDAT", deflate.compress(filtered.data))
    _chunk(file, b"IDAT", deflate.flush())
    _chunk(file, b"IEND", b"")
    return file.getvalue()


def _chunk(file: io.BytesIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        file.write(struct.pack(">I", len(data)) + kind)
        file.write(data)
        file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def inferno() -> NDArray[np.uint8]:
    """The perceptually uniform colour map inferno as 256×3 uint8: nearly black for 0, yellow for 255.

    Matplotlib's map (CC0), as the polynomial of degree 6 that Matt Zucker fitted to it (CC0).
    """
    coefficients = np.array(
        [
            [0.0002189403691192265, 0.001651004631001012, -0.01948089843709184],
            [0.1065134194856116, 0.5639564367884091, 3.932712388889277],
            [11.60249308247187, -3.972853965665698, -15.9423941062914],
            [-41.70399613139459, 17.43639888205313, 44.35414519872813],
            [77.162935699427, -33.40235894210092, -81.80730925738993],
            [-71.31942824499214, 32.62606426397723, 73.20951985803202],
            [25.13112622243135, -12.24266895238567, -23.07032500287172],
        ]
    )
    powers = np.linspace(0, 1, 256)[:, None] ** np.arange(7)  # 256×7
    colours: NDArray[np.uint8] = np.rint(np.clip(powers @ coefficients, 0, 1) * 255).astype(np.uint8)
    return colours


def opacity() -> NDArray[np.uint8]:
    """How opaque the overlay is at each of the 256 heat levels: not at all up to 0.05, nearly wholly from 0.6."""
    alpha: NDArray[np.uint8] = np.rint(np.interp(np.linspace(0, 1, 256), [0.05, 0.6], [0, 235])).astype(np.uint8)
    return alpha


_HEAT_PALETTE = inferno().tobytes()
_HEAT_ALPHA = opacity().tobytes()
_OUTLINE_PALETTE = bytes((0, 0, 0, *LINE, *CASING))
_OUTLINE_ALPHA = bytes((0, 255, 200))


def encode_previews(
    pixels: NDArray[np.uint8],
    heatmap: NDArray[np.float32],
    mask: NDArray[np.bool_],
    max_side: int = 1600,
    thumb_side: int = 160,
) -> dict[str, bytes]:
    """The four pictures of one image: `preview` and `thumbnail` (JPEG), `heat_overlay` and `outline` (PNG).

    Heat is averaged when it is shrunk; the mask is not: a shrunk pixel is marked if any pixel under it is, so that
    the smallest region stays visible.

    Args:
        pixels: H×W×3 uint8 RGB, as displayed.
        heatmap: H×W float32 in [0, 1].
        mask: H×W bool.
        max_side: longest side of the preview and of the heat overlay in pixels; nothing is enlarged.
        thumb_side: longest side of the thumbnail in pixels.

    Raises:
        ValueError: the shapes differ, or the heatmap is not within [0, 1] (NaN is not).
    """
    height, width = mask.shape
    if pixels.shape != (height, width, 3) or heatmap.shape != (height, width):
        raise ValueError(f"shapes differ: pixels {pixels.shape}, heatmap {heatmap.shape}, mask {mask.shape}")
    size = _fit(width, height, max_side)
    factors = _factors(width, height, size, max_side)
    preview = _resize(_reduce(pixels, *factors), size)
    heat = _resize(_reduce(heatmap, *factors), size)
    marked = _shrink_mask(_reduce_mask(mask, *factors), size)
    enlarged = max(1, OUTLINE_SIDE // max(size))
    line = _outline(marked.repeat(enlarged, 0).repeat(enlarged, 1), thickness=max(2, round(max(size) / 400)))
    return {
        "preview": _encoded(preview, "JPEG", quality=88),
        "heat_overlay": _palette_png(_levels(heat), _HEAT_PALETTE, _HEAT_ALPHA),
        "outline": _palette_png(line, _OUTLINE_PALETTE, _OUTLINE_ALPHA),
        "thumbnail": _encoded(_thumbnail(preview, marked, thumb_side), "JPEG", quality=82),
    }


def encode_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """A small picture, H×W×3 RGB, as PNG."""
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)), "PNG")


def hatched(pixels: NDArray[np.uint8], boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """A copy of a picture with slanting lines over boxes (left, top, width, height) that were not examined.

    Without boxes the picture itself. The lines are wide enough to be seen when the picture is shrunk.
    """
    if not boxes:
        return pixels
    shown, wide = pixels.copy(), max(4, max(pixels.shape[:2]) // 80)
    for left, top, width, height in boxes:
        slope = np.add.outer(np.arange(top, top + height), np.arange(left, left + width)) // wide % 2
        shown[top : top + height, left : left + width] = np.where(slope, 190, 110)[..., None]
    return shown


def encode_panel(values: NDArray[np.float32], max_side: int = 1600) -> bytes:
    """The map of a classical method as an opaque PNG in the colours of the heatmap, shrunk like a preview.

    Args:
        values: H×W float32 in [0, 1].
        max_side: longest side in pixels; nothing is enlarged.

    Raises:
        ValueError: the map is not within [0, 1] (NaN is not).
    """
    return _palette_png(_small_levels(values, max_side), _HEAT_PALETTE)


def encode_overlay(heatmap: NDArray[np.float32], max_side: int = 1600) -> bytes:
    """A heatmap in colour, transparent where it is low, as `encode_previews` makes the model's.

    Arguments and errors as of `encode_panel`.
    """
    return _palette_png(_small_levels(heatmap, max_side), _HEAT_PALETTE, _HEAT_ALPHA)


def _small_levels(values: NDArray[np.float32], max_side: int) -> NDArray[np.uint8]:
    height, width = values.shape
    size = _fit(width, height, max_side)
    return _levels(_resize(_reduce(values, *_factors(width, height, size, max_side)), size))


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) shrunk so that the longer is at most `side`; neither shrinks below 1/25 of that.

    So a strip is still to be seen; the page stretches pictures to their shape anyway.
    """
    scale = min(1.0, side / max(width, height))
    return (
        max(round(width * scale), min(width, side // 25)),
        max(round(height * scale), min(height, side // 25)),
    )


def _factors(width: int, height: int, size: tuple[int, int], side: int) -> tuple[int, int]:
    """By how much the pixels of columns and rows are averaged before they are resized to `size`."""
    factor = max(1, max(width, height) // side)
    return min(factor, round(width / size[0])), min(factor, round(height / size[1]))


def _reduce(array: NDArray[np.uint8] | NDArray[np.float32], across: int, down: int) -> Image.Image:
    """The mean of each across×down block; blocks at the right and bottom may be smaller."""
    if across == down == 1:
        return Image.fromarray(array)
    height = array.shape[0]
    rows = down * max(1, BAND_BYTES // (array[0].nbytes * down))
    out: Image.Image | None = None
    for top in range(0, height, rows):
        band = Image.fromarray(array[top : top + rows]).reduce((across, down))
        if out is None:
            out = Image.new(band.mode, (band.width, math.ceil(height / down)))
        out.paste(band, (0, top // down))
    assert out is not None  # an image has at least one row
    return out


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _reduce_mask(mask: NDArray[np.bool_], across: int, down: int) -> NDArray[np.bool_]:
    """Whether any pixel of each across×down block is marked."""
    if across == down == 1:
        return mask
    rows = mask[::down].copy()
    for row in range(1, down):
        part = mask[row::down]
        rows[: len(part)] |= part
    blocks: NDArray[np.bool_] = rows[:, ::across].copy()
    for column in range(1, across):
        part = rows[:, column::across]
        blocks[:, : part.shape[1]] |= part
    return blocks


def _shrink_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at `size` (width, height); marked if any pixel below is."""
    if (mask.shape[1], mask.shape[0]) == size or not mask.any():
        return mask if mask.any() else np.zeros((size[1], size[0]), np.bool_)
    width, height = size
    return _any_of(_any_of(mask, height, 0), width, 1)


def _any_of(mask: NDArray[np.bool_], count: int, axis: int) -> NDArray[np.bool_]:
    """Whether any of the rows (axis 0) or columns is marked that become one of `count`."""
    bounds = np.arange(count + 1) * mask.shape[axis] // count
    first, last = bounds[:-1], bounds[1:] - 1
    found: NDArray[np.bool_] = mask.take(first, axis)
    for step in range(1, int((last - first).max()) + 1):
        found |= mask.take(np.minimum(first + step, last), axis)
    return found


def _levels(heat: Image.Image) -> NDArray[np.uint8]:
    """Heat in [0, 1] as levels 0 to 255."""
    values = np.asarray(heat)
    low, high = float(values.min()), float(values.max())
    # Bicubic resizing may overshoot a little; NaN fails both comparisons.
    if not (low >= -0.5 and high <= 1.5):
        raise ValueError(f"the heatmap must be within [0, 1], it has values from {low} to {high}")
    levels: NDArray[np.uint8] = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels


def _outline(mask: NDArray[np.bool_], thickness: int) -> NDArray[np.uint8]:
    """0 elsewhere, 1 on the line along the edge of the mask, 2 on the casing outside of it.

    Where the mask reaches the border of the image the line runs along the border, inside.
    """
    line = np.zeros(mask.shape, np.uint8)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return line
    outside = (thickness + 1) // 2
    inside = max(1, thickness - outside)
    around = outside + max(1, thickness // 2)
    near = tuple(slice(max(0, int(of[0]) - around), int(of[-1]) + around + 1) for of in (rows, columns))
    mask = mask[near]
    # A square grown by a radius; beyond the border of the image nothing is marked.
    core = minimum_filter(mask, 2 * inside + 1, mode="constant")
    reach = maximum_filter(mask, 2 * outside + 1, mode="constant")
    casing = maximum_filter(reach, 2 * max(1, thickness // 2) + 1, mode="constant")
    line[near] = np.where(reach & ~core, np.uint8(1), np.where(casing & ~reach, np.uint8(2), np.uint8(0)))
    return line


def _thumbnail(preview: Image.Image, mask: NDArray[np.bool_], side: int) -> Image.Image:
    """The preview at most `side` large, with the outline of the mask drawn on it if anything is marked."""
    size = _fit(preview.width, preview.height, side)
    small = np.asarray(preview.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    line = _outline(_shrink_mask(mask, size), thickness=2)
    colours = np.array([(0, 0, 0), LINE, CASING], np.uint8)
    return Image.fromarray(np.where(line[..., None] > 0, colours[line], small))


def _palette_png(indices: NDArray[np.uint8], palette: bytes, alpha: bytes | None = None) -> bytes:
    """A palette PNG; `alpha` is the opacity of its entries (tRNS)."""
    image = Image.fromarray(indices).copy()
    image.putpalette(palette)  # turns the mode from L to P, the indices stay
    return _encoded(image, "PNG", compress_level=1, **({} if alpha is None else {"transparency": alpha}))


def encode_panels(photo: Photo) -> tuple[dict[str, bytes], list[str]]:
    """The maps of the classical methods, by name, and why others could not be made, in words."""
    made: dict[str, bytes] = {}
    missing = []
    for panel, found in panels(photo):
        if isinstance(found, str):
            missing.append(f"No panel of {panel.replace('_', ' ')}: {found}.")
        else:
            made[panel] = encode_panel(found)
    return made, missing


def panels(photo: Photo) -> Iterator[tuple[str, NDArray[np.float32] | str]]:
    """Each method's name with its map, H×W float32 in [0, 1] as displayed, or with why there is none.

    The methods see the image as stored, like the network: some look at the 8×8 grid of a JPEG. Where an image was not
    examined, its maps are 0.
    """
    pixels = photo.examined
    height, width = pixels.shape[:2]
    if height * width > PANEL_MEGAPIXELS * 1e6:
        yield from ((name, f"larger than {PANEL_MEGAPIXELS:g} megapixels") for name in PANELS)
        return
    for name, method in _methods().items():
        try:
            found = method(pixels)
            broken = found.shape != (height, width) or not (float(found.min()) >= 0 and float(found.max()) <= 1)
            yield name, "the method gave no map" if broken else photo.in_full(photo.displayed(found))
        except MemoryError:
            yield name, "out of memory"
        except (ValueError, ArithmeticError, OSError) as error:  # pictures of one pixel's width, and the like
            yield name, f"the method failed: {error}"


def _methods() -> dict[str, Method]:
    from model.evaluation.classical import error_level_analysis, jpeg_ghosts, noise_inconsistency

    return {
        "error_level_analysis": error_level_analysis,
        "jpeg_ghosts": jpeg_ghosts,
        "noise_inconsistency": noise_inconsistency,
    }
