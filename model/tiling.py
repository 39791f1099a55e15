"""Cut an image into overlapping tiles, and blend tile heatmaps back into one.

Tiles start on multiples of 8 pixels, so that the network sees the 8×8 grid of a JPEG where the encoder put it; the
last tile of a row or column may reach over the border and is padded, not enlarged. Blending weights are products of
two one-dimensional ones that sum to one: besides the heatmap itself nothing of the image's size is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.presets.spec import TileSpec


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the image: pixels [top, top + height) × [left, left + width), all inside the image."""

    top: int
    left: int
    height: int
    width: int


def starts(length: int, spec: TileSpec) -> list[tuple[int, int]]:
    """(start, extent) of the tiles along one side of `length` pixels; one tile if it fits.

    As few tiles as `spec.size` and `spec.overlap` allow, all of one extent no larger than needed: equal shapes batch
    well, and no pixel is computed more often than the overlap asks for. Starts are multiples of `spec.multiple`.
    """
    if length <= spec.size:
        return [(0, length)]
    count = -(-(length - spec.overlap) // (spec.size - spec.overlap))
    extent = _up(-(-(length + (count - 1) * spec.overlap) // count), spec.multiple)
    last = _up(length - extent, spec.multiple)  # the first start from which a tile reaches the border
    positions = [*range(0, (count - 1) * (extent - spec.overlap), extent - spec.overlap), last]
    return [(start, min(extent, length - start)) for start in positions]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def tiles(height: int, width: int, spec: TileSpec) -> list[Tile]:
    """All tiles of an image, row by row."""
    columns = starts(width, spec)
    return [Tile(top, left, h, w) for top, h in starts(height, spec) for left, w in columns]


def padded(pixels: NDArray[np.uint8], tile: Tile, multiple: int) -> NDArray[np.uint8]:
    """The tile's pixels, mirrored outwards on the right and at the bottom up to a multiple: h×w×3 uint8."""
    part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    pad = ((0, -tile.height % multiple), (0, -tile.width % multiple), (0, 0))
    return np.ascontiguousarray(np.pad(part, pad, mode="symmetric") if pad[0][1] or pad[1][1] else part)


def weights(length: int, spec: TileSpec) -> list[NDArray[np.float32]]:
    """Blending weights along one side, one array per tile: falling towards inner edges, their sum 1 at every pixel."""
    segments = starts(length, spec)
    raw = []
    for start, extent in segments:
        position = np.arange(extent) + 0.5
        left = position if start > 0 else np.full(extent, np.inf)
        right = extent - position if start + extent < length else np.full(extent, np.inf)
        raw.append(np.minimum(np.minimum(left, right), spec.overlap))
    total = np.zeros(length)
    for (start, extent), weight in zip(segments, raw, strict=True):
        total[start : start + extent] += weight
    return [
        (weight / total[start : start + extent]).astype(np.float32)
        for (start, extent), weight in zip(segments, raw, strict=True)
    ]


class Blend:
    """Collects tile heatmaps, in any order, into one H×W float32 heatmap."""

    def __init__(self, height: int, width: int, spec: TileSpec) -> None:
        self.heatmap: NDArray[np.float32] = np.zeros((height, width), np.float32)
        self._rows = dict(zip(starts(height, spec), weights(height, spec), strict=True))
        self._columns = dict(zip(starts(width, spec), weights(width, spec), strict=True))

    def add(self, tile: Tile, probability: NDArray[np.float32]) -> None:
        """Add one tile's probabilities, at least tile.height×tile.width (padding is cut off)."""
        part = probability[: tile.height, : tile.width]
        target = self.heatmap[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        if target.shape == self.heatmap.shape:  # one tile: the untiled result, to the bit
            target[:] = part
            return
        rows, columns = self._rows[tile.top, tile.height], self._columns[tile.left, tile.width]
        target += part * rows[:, None] * columns[None, :]
