"""The other place of a picture that a marked region matches, as a copy matches its source.

The network marks what is foreign to its surroundings. If that was copied within the picture, its source is there as
well, for anybody to look at. A moved or mirrored region is held against every other place
at once, by correlations (the sum of squared differences over the region, for all offsets, is three of them); what was
turned or scaled has the transforms that the picture's keypoints agree on (`model.affine_match`). Which of two places
is the copy, and that it is one and not a pattern that repeats, is not decided here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from model.affine_match import CELL, NEAR, TEXTURED, Windows, inverse, seen_through, transforms_of
from model.device import ran_out_of_memory
from model.self_match import luma, one_thread, reduction

AGREEING, LIKE = 0.5, 0.6
"""A place is named where at least this share of a region's textured cells is at least so like it, 1 being equal."""
FEWEST_CELLS = 12
"""Textured cells that a region must have: what a few cells resemble is everywhere."""

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class MatchingPlace:
    """What a region matches.

    Attributes:
        x, y, width, height: the box of what the region's matching cells match, pixels of the picture.
        likeness: share of the region's textured 8×8 cells that match it, 0 to 1.
        scale: the region's size over this place's.
        turned: degrees by which the region is turned against it, -180 to 180.
        mirrored: whether it is, left to right, before it is turned.
    """

    x: int
    y: int
    width: int
    height: int
    likeness: float
    scale: float
    turned: float
    mirrored: bool


def matching_places(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], boxes: list[Box]) -> list[MatchingPlace | None]:
    """Of each region, the place outside it that it matches.

    Args:
        pixels: H×W×3 uint8.
        mask: H×W bool, what is marked.
        boxes: rows and columns of each region.

    Returns:
        None for a region that matches no other place.

    Raises:
        MemoryError: there is not enough for the search.
    """
    height, width = pixels.shape[:2]
    factor = reduction(height, width)
    rows, columns = (side // factor // CELL * CELL for side in (height, width))
    if min(rows, columns) < 4 * CELL:
        return [None] * len(boxes)
    y = np.ascontiguousarray(luma(pixels, factor)[:rows, :columns])
    try:
        with one_thread(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            places = _Places(y)
            return [places.of(mask, box, factor) for box in boxes]
    except RuntimeError as error:  # what torch raises on a CPU
        if ran_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise


class _Places:
    """A picture, and what it takes to hold a region of it against all others."""

    def __init__(self, y: NDArray[np.float32]) -> None:
        self.height, self.width = y.shape
        self.picture = torch.from_numpy(y)
        self.windows = Windows(self.picture, 2 * CELL)
        self.textured = (self.windows.variance > TEXTURED).numpy()
        self.centred = y.astype(np.float64) - float(y.mean(dtype=np.float64))
        spectra = [fft.rfft2(self.centred), fft.rfft2(self.centred**2)]
        # Of the picture mirrored left to right: the same numbers, conjugated and shifted.
        shift = np.exp(2j * np.pi * np.arange(spectra[0].shape[1]) / self.width)
        opposite = -np.arange(self.height)
        self.spectra = [spectra, [spectrum[opposite].conj() * shift for spectrum in spectra]]

    @functools.cached_property
    def affine(self) -> list[Tensor]:
        """The transforms that the picture's keypoints agree on, there and back."""
        return [way for matrix, _, _ in transforms_of(self.picture) for way in (matrix, inverse(matrix))]

    def of(self, mask: NDArray[np.bool_], box: Box, factor: int) -> MatchingPlace | None:
        """See `matching_places`; `mask` and `box` at full size."""
        marked = np.zeros((self.height, self.width), bool)
        part = mask[box][::factor, ::factor]
        top, left = box[0].start // factor, box[1].start // factor
        part = part[: max(0, self.height - top), : max(0, self.width - left)]  # some lie beyond the last whole cell
        marked[top : top + part.shape[0], left : left + part.shape[1]] = part
        cells = marked.reshape(self.height // CELL, CELL, -1, CELL).mean((1, 3)) > 0.5
        cells &= self.textured
        if cells.sum() < FEWEST_CELLS:
            return None
        best, chosen, equal = 0.0, None, cells
        for matrix in self._candidates(marked):
            there, moved = seen_through(self.picture, matrix)
            like = ((self.windows.likeness(there) >= LIKE) & (moved > NEAR)).numpy() & cells
            like &= ~self._led_to(matrix, marked)
            share = float(like.sum() / cells.sum())
            if share > best:
                best, chosen, equal = share, matrix, like
        if chosen is None or best < AGREEING:
            return None
        return self._described(chosen, equal, best, factor)

    def _led_to(self, matrix: Tensor, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which cells are led to a place inside the region: along a straight edge everything matches itself."""
        rows, columns = np.mgrid[: self.height // CELL, : self.width // CELL].reshape(2, -1) * CELL + CELL // 2
        places = matrix.numpy() @ np.stack([columns, rows, np.ones(len(rows))])
        x, y = (places.round().astype(np.int64).T.clip(0, [self.width - 1, self.height - 1])).T
        return np.asarray(marked[y, x].reshape(self.height // CELL, -1))

    def _candidates(self, marked: NDArray[np.bool_]) -> Iterator[Tensor]:
        """2×3 matrices from the region to another place: the best move, the best mirrored one, those of keypoints."""
        # The heatmap reaches beyond what was copied: the inner half of the region decides.
        depth = ndimage.distance_transform_edt(np.pad(marked, 1))[1:-1, 1:-1]
        core = marked & (depth >= np.median(depth[marked]))
        weight = core.astype(np.float64)
        first, second = fft.rfft2(weight).conj(), fft.rfft2(weight * self.centred).conj()
        size = (self.height, self.width)
        own, count = self.centred[core], float(core.sum())
        rows, columns = np.flatnonzero(core.any(1)), np.flatnonzero(core.any(0))
        top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
        for flipped, (spectrum, squares) in enumerate(self.spectra):
            mean = fft.irfft2(first * spectrum, size)
            error = (own**2).sum() + fft.irfft2(first * squares - 2 * second * spectrum, size)
            error -= (own.sum() - mean) ** 2 / count
            inside = np.full(size, np.inf)
            down, across = self.height - 1 - bottom, self.width - 1 - right
            for rows_to in (slice(0, down + 1), slice(self.height - top, self.height)):
                for columns_to in (slice(0, across + 1), slice(self.width - left, self.width)):
                    inside[rows_to, columns_to] = error[rows_to, columns_to]
            if not flipped:
                near = np.r_[: NEAR + 1, -NEAR:0]
                inside[np.ix_(near, near)] = np.inf
            dy, dx = (int(v) for v in np.unravel_index(int(inside.argmin()), size))
            if not np.isfinite(inside[dy, dx]):
                continue
            dy, dx = dy - self.height * (dy > down), dx - self.width * (dx > across)
            along = [-1.0, 0.0, self.width - 1.0 - dx] if flipped else [1.0, 0.0, float(dx)]
            yield torch.tensor([along, [0.0, 1.0, float(dy)]])
        yield from self.affine

    def _described(self, matrix: Tensor, equal: NDArray[np.bool_], likeness: float, factor: int) -> MatchingPlace:
        cells = np.argwhere(equal)
        corners = np.concatenate([cells + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))]) * CELL
        places = matrix.numpy() @ np.stack([corners[:, 1], corners[:, 0], np.ones(len(corners))])
        x, y = places.min(1).clip(0)
        right, bottom = np.minimum(places.max(1), [self.width, self.height])
        linear = matrix[:, :2].double().numpy()
        mirrored = bool(np.linalg.det(linear) < 0)
        back = np.linalg.inv(linear @ np.diag([-1.0, 1.0]) if mirrored else linear)
        return MatchingPlace(
            x=int(x * factor),
            y=int(y * factor),
            width=max(1, round((right - x) * factor)),
            height=max(1, round((bottom - y) * factor)),
            likeness=likeness,
            scale=float(math.sqrt(abs(np.linalg.det(back)))),
            turned=math.degrees(math.atan2(back[1, 0] - back[0, 1], back[0, 0] + back[1, 1])),
            mirrored=mirrored,
        )
