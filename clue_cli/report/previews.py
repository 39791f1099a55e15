"""The small pictures that the page shows: the image, the heatmap in colour, the outline of the mask, a thumbnail.

They are for looking at. The mask and the 16-bit heatmap, at full size, are the results.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from model.whole_file import whole_file

BAND_BYTES = 4 << 20
"""Full-size pixels are shrunk in bands of about this many bytes, so that no second copy of a large image exists."""

OUTLINE_SIDE = 512
"""Outlines of smaller images are drawn enlarged up to about this side, or two pixels would cover what they enclose."""

LINE = (0, 229, 255)
CASING = (0, 33, 41)
"""A light line in a dark casing is visible on any picture; cyan does not occur in the colours of the heatmap."""


class PreviewFiles(NamedTuple):
    """Names of the written files, relative to the folder they were written to."""

    preview: str
    heat_overlay: str
    outline: str
    thumbnail: str


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


def write_previews(
    pixels: NDArray[np.uint8],
    heatmap: NDArray[np.float32],
    mask: NDArray[np.bool_],
    folder: Path,
    stem: str,
    max_side: int = 1600,
    thumb_side: int = 160,
    parts: Path | None = None,
) -> PreviewFiles:
    """Write the four pictures of one image into `folder`, each whole or not at all.

    Heat is averaged when it is shrunk; the mask is not: a shrunk pixel is marked if any pixel under it is, so that
    the smallest region stays visible.

    Args:
        pixels: H×W×3 uint8 RGB, as displayed.
        heatmap: H×W float32 in [0, 1].
        mask: H×W bool.
        folder: an existing folder.
        stem: the files are `<stem>.preview.jpg`, `<stem>.heat.png`, `<stem>.outline.png` and `<stem>.thumb.jpg`.
        max_side: longest side of the preview and of the heat overlay in pixels; nothing is enlarged.
        thumb_side: longest side of the thumbnail in pixels.
        parts: an existing folder to write in until a file is whole; None: `folder`.

    Raises:
        ValueError: the shapes differ, or the heatmap is not within [0, 1] (NaN is not).
        OSError: a file cannot be written.
    """
    height, width = mask.shape
    if pixels.shape != (height, width, 3) or heatmap.shape != (height, width):
        raise ValueError(f"shapes differ: pixels {pixels.shape}, heatmap {heatmap.shape}, mask {mask.shape}")
    size = _fit(width, height, max_side)
    factor = max(1, max(width, height) // max_side)
    preview = _resize(_reduce(pixels, factor), size)
    heat = _resize(_reduce(heatmap, factor), size)
    marked = _shrink_mask(_reduce_mask(mask, factor), size)

    files = PreviewFiles(f"{stem}.preview.jpg", f"{stem}.heat.png", f"{stem}.outline.png", f"{stem}.thumb.jpg")
    _save_jpeg(preview, folder / files.preview, parts, quality=88)
    _save_palette(_levels(heat), _HEAT_PALETTE, _HEAT_ALPHA, folder / files.heat_overlay, parts)
    enlarged = max(1, OUTLINE_SIDE // max(size))
    line = _outline(marked.repeat(enlarged, 0).repeat(enlarged, 1), thickness=max(2, round(max(size) / 400)))
    _save_palette(line, _OUTLINE_PALETTE, _OUTLINE_ALPHA, folder / files.outline, parts)
    _save_jpeg(_thumbnail(preview, marked, thumb_side), folder / files.thumbnail, parts, quality=82)
    return files


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


def write_panel(to: BinaryIO, values: NDArray[np.float32], max_side: int = 1600) -> None:
    """Write the map of a classical method as an opaque PNG in the colours of the heatmap, shrunk like a preview.

    Args:
        to: where to.
        values: H×W float32 in [0, 1].
        max_side: longest side in pixels; nothing is enlarged.

    Raises:
        ValueError: the map is not within [0, 1] (NaN is not).
        OSError: writing failed.
    """
    height, width = values.shape
    small = _resize(_reduce(values, max(1, max(width, height) // max_side)), _fit(width, height, max_side))
    image = Image.fromarray(_levels(small)).copy()
    image.putpalette(_HEAT_PALETTE)
    image.save(to, "PNG", compress_level=1)


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) shrunk so that the longer is at most `side`; neither is below 1."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _reduce(array: NDArray[np.uint8] | NDArray[np.float32], factor: int) -> Image.Image:
    """The mean of each factor×factor block; blocks at the right and bottom may be smaller."""
    if factor == 1:
        return Image.fromarray(array)
    height = array.shape[0]
    rows = factor * max(1, BAND_BYTES // (array[0].nbytes * factor))
    out: Image.Image | None = None
    for top in range(0, height, rows):
        band = Image.fromarray(array[top : top + rows]).reduce(factor)
        if out is None:
            out = Image.new(band.mode, (band.width, math.ceil(height / factor)))
        out.paste(band, (0, top // factor))
    assert out is not None  # an image has at least one row
    return out


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _reduce_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Whether any pixel of each factor×factor block is marked."""
    if factor == 1:
        return mask
    height, width = mask.shape
    rows = np.logical_or.reduceat(mask, np.arange(0, height, factor), axis=0)
    blocks: NDArray[np.bool_] = np.logical_or.reduceat(rows, np.arange(0, width, factor), axis=1)
    return blocks


def _shrink_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at `size` (width, height); marked if any pixel below is."""
    if (mask.shape[1], mask.shape[0]) == size or not mask.any():
        return mask if mask.any() else np.zeros((size[1], size[0]), np.bool_)
    width, height = size
    rows = np.logical_or.reduceat(mask, np.arange(height) * mask.shape[0] // height, axis=0)
    small: NDArray[np.bool_] = np.logical_or.reduceat(rows, np.arange(width) * mask.shape[1] // width, axis=1)
    return small


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
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    outside = (thickness + 1) // 2
    inside = max(1, thickness - outside)
    # A square grown by a radius; beyond the border of the image nothing is marked.
    core = minimum_filter(mask, 2 * inside + 1, mode="constant")
    reach = maximum_filter(mask, 2 * outside + 1, mode="constant")
    casing = maximum_filter(reach, 2 * max(1, thickness // 2) + 1, mode="constant")
    return np.where(reach & ~core, 1, np.where(casing & ~reach, 2, 0)).astype(np.uint8)


def _thumbnail(preview: Image.Image, mask: NDArray[np.bool_], side: int) -> Image.Image:
    """The preview at most `side` large, with the outline of the mask drawn on it if anything is marked."""
    size = _fit(preview.width, preview.height, side)
    small = np.asarray(preview.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    line = _outline(_shrink_mask(mask, size), thickness=2)
    colours = np.array([(0, 0, 0), LINE, CASING], np.uint8)
    return Image.fromarray(np.where(line[..., None] > 0, colours[line], small))


def _save_jpeg(image: Image.Image, path: Path, parts: Path | None, quality: int) -> None:
    with whole_file(path, sync=False, parts=parts) as stream:
        image.save(stream, "JPEG", quality=quality)


def _save_palette(indices: NDArray[np.uint8], palette: bytes, alpha: bytes, path: Path, parts: Path | None) -> None:
    """A palette PNG whose entries carry their own opacity (tRNS)."""
    image = Image.fromarray(indices).copy()
    image.putpalette(palette)  # turns the mode from L to P, the indices stay
    with whole_file(path, sync=False, parts=parts) as stream:
        image.save(stream, "PNG", transparency=alpha, compress_level=1)
