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
        self.centred = y - y.mean(dtype=np.float64).astype(np.float32)
        self.size = [fft.next_fast_len(side, real=True) for side in y.shape]

    @functools.cached_property
    def spectra(self) -> list[NDArray[np.complex64]]:
        """Of the picture and of its squares."""
        return [self._spectrum(self.centred), self._spectrum(self.centred**2)]

    @functools.cached_property
    def affine(self) -> list[Tensor]:
        """The transforms that the picture's keypoints agree on, there and back."""
        return [way for matrix, _, _ in transforms_of(self.picture) for way in (matrix, inverse(matrix))]

    def of(self, mask: NDArray[np.bool_], box: Box, factor: int) -> MatchingPlace | None:
        """See `matching_places`; `mask` and `box` at full size."""
        part = mask[box][::factor, ::factor]
        top, left = box[0].start // factor, box[1].start // factor
        part = part[: max(0, self.height - top), : max(0, self.width - left)]  # some lie beyond the last whole cell
        if not part.any():
            return None
        marked = np.zeros((self.height, self.width), bool)
        marked[top : top + part.shape[0], left : left + part.shape[1]] = part
        # The region's cells with one more on each side, as their windows reach beyond them.
        first = np.maximum(np.array([top, left]) // CELL - 1, 0)
        past = -(-np.add((top, left), part.shape) // CELL) + 1
        around = slice(first[0] * CELL, past[0] * CELL), slice(first[1] * CELL, past[1] * CELL)
        windows = Windows(self.picture[around], 2 * CELL)
        cells = (windows.variance > TEXTURED).numpy()
        cells &= marked[around].reshape(cells.shape[0], CELL, -1, CELL).mean((1, 3)) > 0.5
        if cells.sum() < FEWEST_CELLS:
            return None
        at = np.argwhere(cells) + first
        best, chosen, equal = 0.0, None, at
        for matrix in self._candidates(part, top, left):
            there, moved = seen_through(self.picture, matrix, around)
            like = ((windows.likeness(there) >= LIKE) & (moved > NEAR)).numpy()[cells]
            like &= ~self._led_to(matrix, at, marked)
            share = float(like.mean())
            if share > best:
                best, chosen, equal = share, matrix, at[like]
        if chosen is None or best < AGREEING:
            return None
        return self._described(chosen, equal, best, factor)

    def _led_to(self, matrix: Tensor, cells: NDArray[np.int64], marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which cells are led to a place inside the region: along a straight edge everything matches itself."""
        rows, columns = cells.T * CELL + CELL // 2
        places = matrix.numpy() @ np.stack([columns, rows, np.ones(len(rows))])
        x, y = (places.round().astype(np.int64).T.clip(0, [self.width - 1, self.height - 1])).T
        return np.asarray(marked[y, x])

    def _spectrum(self, part: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Of a picture that is zero but for the part in its corner."""
        return np.asarray(fft.fft(fft.rfft(part, self.size[1]), self.size[0], axis=0))

    def _candidates(self, marked: NDArray[np.bool_], top: int, left: int) -> Iterator[Tensor]:
        """2×3 matrices from the region to another place: the best move, the best mirrored one, those of keypoints."""
        # The heatmap reaches beyond what was copied: the inner half of the region decides.
        depth = ndimage.distance_transform_edt(np.pad(marked, 1))[1:-1, 1:-1]
        core = marked & (depth >= np.median(depth[marked]))
        rows, columns = np.flatnonzero(core.any(1)), np.flatnonzero(core.any(0))
        core = core[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left, (height, width) = top + rows[0], left + columns[0], core.shape
        weight = core.astype(np.float32)
        own = weight * self.centred[top : top + height, left : left + width]
        down, across = self.height - height + 1, self.width - width + 1  # where its corner may be
        spectrum, squares = self.spectra
        for mirrored in (False, True):
            first, second = (self._spectrum(part[:, ::-1] if mirrored else part).conj() for part in (weight, own))
            mean, error = (
                fft.irfft(fft.ifft(product, axis=0)[:down], self.size[1])[:, :across]
                for product in (first * spectrum, first * squares - 2 * second * spectrum)
            )
            error -= (own.sum() - mean) ** 2 / weight.sum()
            if not mirrored:
                error[max(0, top - NEAR) : top + NEAR + 1, max(0, left - NEAR) : left + NEAR + 1] = np.inf
            y, x = (int(v) for v in np.unravel_index(int(error.argmin()), error.shape))
            if np.isfinite(error[y, x]):
                along = [-1.0, 0.0, float(x + width - 1 + left)] if mirrored else [1.0, 0.0, float(x - left)]
                yield torch.tensor([along, [0.0, 1.0, float(y - top)]])
        yield from self.affine

    def _described(self, matrix: Tensor, cells: NDArray[np.int64], likeness: float, factor: int) -> MatchingPlace:
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
