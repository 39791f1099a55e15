"""Where a picture repeats itself: the evidence of copy-move, computed once per image and handed to the early view.

A region that was moved within a picture matches another place of it at one offset, shared by all of the region
(Fridrich, Soukal and Lukáš 2003). Natural texture repeats too, but each patch at an offset of its own. So every cell
looks for its best match elsewhere by low-frequency DCT coefficients; the match is refined to the pixel; neighbours
that agree on an offset vote for it; and the strongest offsets are held against every cell. What comes out is not a
decision but maps for the network, which knows the other half: which of two equal places is the foreign one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.affine_match import CELL, NEAR, TEXTURED, TRANSFORM_MAPS, affine_match

REPEATS = 2
CHANNELS = 6 + TRANSFORM_MAPS + REPEATS
"""Maps per cell: texture; own match; agreement of the neighbours; match at a shared offset; its votes; their share;
those of `affine_match`; and REPEATS that tell a copy from a pattern: how many places resemble the cell about as well
as the best one does, and whether that one lies straight above, below or beside it. A screen repeats its rows many
times, on its own axes; who copies a region does it once or twice, to anywhere."""
LARGEST, EVERY_CELL = 1_048_576, 262_144
"""Pixels. Larger pictures than the first are averaged down by a whole factor, so that the search costs the same for
all. What it takes grows with the square of the pixels: in pictures larger than the second only every fourth cell looks
for its match in the whole picture, the others where that cell found it. A copy is many cells at one offset."""

_BLOCK, _KEY = 16, 4  # pixels: the block that is compared around a cell, and how densely blocks are tried
_ORDER = 6  # frequencies with u + v below this describe a block
_RESEMBLING = 0.5  # likeness above which a match is looked at
_ALIKE = 0.35  # difference over variance
_OFFSETS = 3
_REACH = 2  # pixels a match is refined by, each way: half of _KEY
_AT_ONCE, _MANY = 262_144, 128  # likenesses that are computed at a time; of at most so many cells in large pictures
_CELLS = 1024  # cells that are compared at a time
_EQUAL = 0.98  # likeness from which a place counts as one more repetition

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def _basis() -> Tensor:
    n = np.arange(_BLOCK)
    rows = np.cos((2 * n[None] + 1) * n[:, None] * np.pi / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    rows[0] /= np.sqrt(2)
    pairs = [(v, u) for v in range(_ORDER) for u in range(_ORDER) if 0 < u + v < _ORDER]
    return torch.tensor(np.stack([np.outer(rows[v], rows[u]) for v, u in pairs]), dtype=torch.float32)[:, None]


_BASIS = _basis()


@contextmanager
def one_thread() -> Iterator[None]:
    """These are hundreds of small operations: a second thread costs more time of a core than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def self_match(pixels: NDArray[np.uint8]) -> Floats:
    """Maps of self-similarity.

    Args:
        pixels: H×W×3 uint8.

    Returns:
        CHANNELS×⌈H/8⌉×⌈W/8⌉ float32, about 0 to 1, the logarithm of a scale about -1 to 1; all zero where the
            picture is too small to hold two blocks.
    """
    height, width = pixels.shape[:2]
    out = np.zeros((CHANNELS, -(-height // CELL), -(-width // CELL)), np.float32)
    factor = reduction(height, width)
    h, w = height // factor // CELL, width // factor // CELL
    if min(h, w) < 4:
        return out
    y = np.ascontiguousarray(luma(pixels, factor)[: h * CELL, : w * CELL])
    with one_thread():
        own = _maps(y)
        maps = np.concatenate([own[:-REPEATS], affine_match(y), own[-REPEATS:]])
    maps = maps.repeat(factor, 1).repeat(factor, 2)[:, : out.shape[1], : out.shape[2]]
    out[:, : maps.shape[1], : maps.shape[2]] = maps
    return out


def reduction(height: int, width: int) -> int:
    """The whole factor by which a picture is averaged down for the search."""
    factor = 1
    while (height // factor) * (width // factor) > LARGEST:
        factor += 1
    return factor


def luma(pixels: NDArray[np.uint8], factor: int) -> Floats:
    """Luma, averaged over factor × factor pixels, strip by strip so that a large picture is never held as floats.

    The same for any strides of the pixels: the kernels behind a product of matrices are chosen by them.
    """
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    if factor == 1:
        return np.asarray(pixels.astype(np.float32, order="C") @ weights)
    out = np.empty((height, width), np.float32)
    for row in range(height):
        strip = pixels[row * factor : (row + 1) * factor, : width * factor].astype(np.float32, order="C") @ weights
        parts = strip.reshape(factor, width, factor)
        total = parts[..., 0].copy()
        for column in range(1, factor):
            total += parts[..., column]
        out[row] = total.sum(0) / np.float32(factor**2)
    return out


def _maps(y: Floats) -> Floats:
    h, w = y.shape[0] // CELL, y.shape[1] // CELL
    blocks = _Blocks(y)
    textured = blocks.variance > TEXTURED
    offsets, likeness, repeats = _best_elsewhere(y, textured, every=1 if y.size <= EVERY_CELL else 2)
    own = np.full((h, w), 1.0, np.float32)
    index = np.flatnonzero(textured & (likeness > _RESEMBLING))
    if index.size:
        found, refined = blocks.refine(index, offsets.reshape(-1, 2)[index])
        own.ravel()[index] = found
        offsets.reshape(-1, 2)[index] = refined
    alike = own < _ALIKE
    agreement = _agreement(offsets, alike)
    votes = np.where(alike & (agreement >= 2), 1 - own, 0).astype(np.float32)
    shared, strength = _shared(blocks, offsets, votes)
    total = max(float(votes.sum()), 1.0)
    straight = alike & (np.abs(offsets).min(2) <= 1)
    return np.stack(
        [
            np.tanh(np.log1p(blocks.variance) / 5),
            1 - np.minimum(own, 1),
            agreement / 24,
            1 - np.minimum(shared, 1),
            np.log1p(strength) / 5,
            np.minimum(strength / total, 1),
            np.log1p(repeats) / 5,
            straight,
        ]
    ).astype(np.float32)


class _Blocks:
    """The block around each cell, sampled at every second pixel, to be compared with the picture at an offset."""

    def __init__(self, y: Floats) -> None:
        self.height, self.width = y.shape
        self.h, self.w = self.height // CELL, self.width // CELL
        self.pad = (_BLOCK - CELL) // 2 + _REACH
        padded = np.pad(y, self.pad, mode="reflect")
        side = _BLOCK + 2 * _REACH
        self.windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))  # [i, j]: around cell pixel i, j
        inner = self.windows[::CELL, ::CELL, _REACH:-_REACH:2, _REACH:-_REACH:2].reshape(self.h * self.w, -1)
        self.samples = inner - inner.mean(1, keepdims=True)  # cells×64
        self.variance = (self.samples**2).mean(1).reshape(self.h, self.w)
        self.planes = self.samples.T.reshape(_BLOCK // 2, _BLOCK // 2, self.h, self.w)  # each sample of all cells
        grid = np.mgrid[: self.h, : self.w].reshape(2, -1).T * CELL
        self.corners: Ints = grid.astype(np.int64)  # cells×2

    def refine(self, index: Ints, offsets: Ints) -> tuple[Floats, Ints]:
        """Least difference over variance within ±_REACH pixels of each cell's offset, and the offset that has it."""
        at = self.corners[index] + offsets
        at = np.clip(at, 0, [self.height - CELL, self.width - CELL])
        best, chosen = np.empty(index.size, np.float32), np.empty((index.size, 2), np.int64)
        side = 2 * _REACH + 1
        for start in range(0, index.size, _CELLS):
            some = slice(start, start + _CELLS)
            there = self.windows[at[some, 0], at[some, 1]]  # n×20×20
            mine = self.samples[index[some]].reshape(-1, _BLOCK // 2, _BLOCK // 2)
            difference = np.empty_like(mine)
            flat = difference.reshape(len(mine), -1)
            errors = np.empty((side**2, len(mine)), np.float32)
            for number, error in enumerate(errors):
                dy, dx = divmod(number, side)
                np.subtract(mine, there[:, dy : dy + _BLOCK : 2, dx : dx + _BLOCK : 2], out=difference)
                squares = np.einsum("ij,ij->i", flat, flat) / flat.shape[1]
                np.subtract(squares, (flat.sum(1) / flat.shape[1]) ** 2, out=error)
            errors /= self.variance.ravel()[index[some]] + 10
            best[some] = errors.min(0)
            chosen[some] = np.stack(np.divmod(errors.argmin(0), side), 1) - _REACH
        return best, at - self.corners[index] + chosen

    def at_offset(self, dy: int, dx: int) -> Floats:
        """Difference over variance of every cell with the place at one offset; 1.5 where that is outside."""
        out = np.full((self.h, self.w), 1.5, np.float32)
        # The cells whose place lies inside are a rectangle.
        rows, columns = (
            slice(max(0, -(offset // CELL)), min(count, (length - CELL - offset) // CELL + 1))
            for offset, count, length in ((dy, self.h, self.height), (dx, self.w, self.width))
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return out
        top, left = rows.start * CELL + dy, columns.start * CELL + dx
        there = self.windows[top::CELL, left::CELL, _REACH:-_REACH:2, _REACH:-_REACH:2].transpose(2, 3, 0, 1)
        each = max(1, _CELLS // (columns.stop - columns.start))
        for row in range(rows.start, rows.stop, each):
            some = slice(row, min(row + each, rows.stop))
            mine = self.planes[:, :, some, columns]
            begin = row - rows.start
            difference = mine - there[:, :, begin : begin + mine.shape[2], : mine.shape[3]]
            difference -= _mean(difference)
            error = _mean(difference**2)
            out[some, columns] = error / (self.variance[some, columns] + 10)
        return out


def _mean(values: Floats) -> Floats:
    """Over the first two axes, 8×8, in the order in which NumPy adds the 64 values of a row: the same bits."""
    total = values.sum(0)
    while len(total) > 1:
        total = total[::2] + total[1::2]
    return np.asarray(total[0] / np.float32(values.shape[0] * values.shape[1]))


def _best_elsewhere(y: Floats, textured: NDArray[np.bool_], every: int) -> tuple[Ints, Floats, Floats]:
    """Offset (dy, dx) in pixels of each textured cell's most similar block, h×w×2, the similarity, h×w, and how many
    blocks are about as similar, h×w.

    Only every `every`-th row and column is searched; the cells between have what the one before them has.
    """
    looking = np.zeros_like(textured)
    looking[::every, ::every] = textured[::every, ::every]
    with torch.autocast("cpu", enabled=False):
        offsets, likeness, repeats = _search(y, looking)
    h, w = textured.shape
    before = np.ix_(np.arange(h) // every * every, np.arange(w) // every * every)
    return offsets[before], likeness[before], repeats[before]


def _search(y: Floats, textured: NDArray[np.bool_]) -> tuple[Ints, Floats, Floats]:
    h, w = textured.shape
    margin = (_BLOCK - CELL) // 2
    padded = F.pad(torch.from_numpy(y)[None, None], (margin, margin, margin, margin), mode="reflect")
    coefficients = F.conv2d(padded, _BASIS, stride=_KEY)[0]  # f×keys
    coefficients /= torch.sqrt((coefficients**2).sum(0) + 4.0 * _BLOCK**2)  # flat blocks are like nothing
    step = CELL // _KEY
    cells = coefficients[:, ::step, ::step].permute(1, 2, 0).numpy()
    # No product with a shorter one exceeds _RESEMBLING: none is longer than 1.
    long = ((coefficients**2).sum(0) > 0.99 * _RESEMBLING**2).numpy()
    key_row, key_column = np.nonzero(long)
    keys = coefficients.flatten(1).index_select(1, torch.from_numpy(np.flatnonzero(long)))  # f×keys, row by row
    reach = NEAR // _KEY
    number = np.where(long, np.cumsum(long, dtype=np.int32).reshape(long.shape) - 1, np.int32(-1))
    number = np.pad(number, reach, constant_values=-1)
    near = np.lib.stride_tricks.sliding_window_view(number, (2 * reach + 1, 2 * reach + 1))[::step, ::step]
    offsets, likeness = np.zeros((h, w, 2), np.int64), np.zeros((h, w), np.float32)
    repeats = np.zeros((h, w), np.float32)
    which = np.flatnonzero(textured & long[::step, ::step])
    if not which.size or not len(key_row):
        return offsets, likeness, repeats
    # What is made of some cells and keys stays in the cache: of all keys, or, if they are too many, of many cells.
    many = _AT_ONCE // len(key_row)
    many = many if many >= 32 else _MANY
    each = _AT_ONCE // many
    memory = np.empty(_AT_ONCE + many, np.float32)
    for first in range(0, which.size, many):
        row, column = np.divmod(which[first : first + many], w)
        n = len(row)
        mine, numbers = torch.from_numpy(cells[row, column]), np.arange(n)
        best, found, count = np.zeros(n, np.float32), np.zeros(n, np.int64), np.zeros(n, np.float32)
        close = near[row, column].reshape(n, -1)  # numbers of keys, -1 for none
        for start in range(0, len(key_row), each):
            stop = min(start + each, len(key_row))
            width = stop - start + 1  # one more, which stands for the keys that are not among these
            similar = memory[: n * width].reshape(n, -1)
            torch.mm(mine, keys[:, start:stop], out=torch.from_numpy(similar[:, :-1]))
            similar[:, -1] = -2
            place = np.minimum(np.maximum(close - np.int32(start), -1), width - 1)  # before the first: the row above's
            similar.ravel()[place + numbers[:, None] * width] = -2
            at = similar.argmax(1)
            value = similar[numbers, at]
            better = value > best
            best[better], found[better] = value[better], at[better] + start
            often = np.flatnonzero(value >= _EQUAL)
            count[often] += (similar[often] >= _EQUAL).view(np.int8).sum(1, dtype=np.int32)
        likeness[row, column], repeats[row, column] = best, count
        offsets[row, column] = np.stack([key_row[found], key_column[found]], 1) * _KEY
        offsets[row, column] -= np.stack([row, column], 1) * CELL
    return offsets, likeness, repeats


def _agreement(offsets: Ints, alike: NDArray[np.bool_]) -> Floats:
    """How many of the 24 neighbours of each cell match well at the same offset, give or take a pixel."""
    h, w = alike.shape
    planes = np.ascontiguousarray(np.moveaxis(offsets, 2, 0).astype(np.int32))
    around = np.pad(planes, ((0, 0), (2, 2), (2, 2)))
    well = np.pad(alike, 2)
    out = np.zeros((h, w), np.float32)
    for dy in range(5):
        for dx in range(5):
            if (dy, dx) != (2, 2):
                apart = np.abs(around[:, dy : dy + h, dx : dx + w] - planes) <= 1
                out += apart[0] & apart[1] & well[dy : dy + h, dx : dx + w]
    return out * alike


def _shared(blocks: _Blocks, offsets: Ints, votes: Floats) -> tuple[Floats, Floats]:
    """Every cell against the offsets with the most votes: least difference over variance, and that offset's votes."""
    h, w = votes.shape
    shared, strength = np.full((h, w), 1.5, np.float32), np.zeros((h, w), np.float32)
    voting = np.flatnonzero(votes.ravel())
    chosen, weight = offsets.reshape(-1, 2)[voting], votes.ravel()[voting].copy()
    for _ in range(_OFFSETS):
        if weight.sum() < 1.5:
            break
        # A cell and the place it matches vote for opposite offsets: the same evidence.
        values, inverse = np.unique(chosen, axis=0, return_inverse=True)
        counts = np.bincount(inverse.ravel(), weight)
        closeness = [(np.minimum(np.abs(values - v).max(1), np.abs(values + v).max(1)) <= 1) @ counts for v in values]
        top = int(np.argmax(closeness))
        value, support = values[top], float(closeness[top])
        if support < 1.5:
            break
        for dy, dx in (value, -value):
            error = blocks.at_offset(int(dy), int(dx))
            better = (error < shared) & (support >= 0.3 * strength)
            shared, strength = np.where(better, error, shared), np.where(better, np.float32(support), strength)
        far = np.minimum(np.abs(chosen - value).max(1), np.abs(chosen + value).max(1)) > 3
        chosen, weight = chosen[far], weight[far]
    return shared, strength
