"""From a heatmap and its picture to a score of the whole image, and to the kind of picture it is.

A heatmap alone says the same of a lamp that is burnt out as of a region that was pasted: neither has the noise of its
surroundings. And a screen or a drawing, which repeats itself exactly and has no noise at all, cannot be compared with
photographs. So a few statistics of the pixels stand beside those of the heatmap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

OF_PICTURE = ("flat", "colours", "contrast", "noise", "blocks", "clipped", "clipped evidence", "quiet evidence")
"""Share of flat 8×8 cells; bits of the colours, of 12; share of the other cells whose brightness spans a third of the
scale; logarithm of the noise of quiet cells; how much stronger steps are at the borders of cells than inside, as a
logarithm; share of cells with burnt-out, black or fully saturated pixels; the same share among the strongest cells of
the heatmap; and how much quieter those are than the picture, as a logarithm."""

OF_HEATMAP = ("strongest 8", "strongest 24", "strongest 96", "strongest block", "log marked", "mean", "log cells")
"""Of the 8×8 cells of a heatmap: mean of the 8, 24 and 96 strongest, of the strongest 3×3 block, and of all (as
log-odds); the logarithms of one and how many are above one half, and of how many there are."""
FEATURES = (*OF_HEATMAP, *OF_PICTURE, "strongest 8 by noise")
"""Those, what kind of picture it is (`OF_PICTURE`), and a product: in a noisy picture strength says more."""

CELL = 8
STRONGEST = 24
SAMPLED = 1_200_000
"""Pixels: larger pictures are sampled, every n-th row of cells."""
AT_A_TIME = 32_768
"""Pixels that are examined at a time: what is computed of them fits into the caches."""
FLAT = 2.0
"""Grey levels that a flat cell spans at most."""
CONTRAST = 85.0
BURNT, BLACK = 252, 3
"""A channel at or beyond these says nothing more."""

SCREEN = "screen or drawing"
SMALL = "small photograph"
PHOTO = "photograph"
SMALL_PIXELS = 200_000
"""Photographs below this are a kind of their own: with so little around it, an untouched place may look as if it did
not belong there, and more untouched ones score high than of larger ones."""

Floats = NDArray[np.float32]


def image_score(heatmap: NDArray[np.float32], cells: int) -> float:
    """Raw image-level score, 0 to 1: the mean of the strongest `cells` 8×8 cells of the heatmap.

    A fixed number of cells, not a share of the picture: a small edit in a large photo weighs as much as in a small
    one. A single bright pixel does not: the cell's mean counts.
    """
    if min(heatmap.shape) < 8:
        return float(heatmap.mean())
    flat = _cells(heatmap).ravel()
    return float(np.clip(_strongest(flat, cells).mean(), 0.0, 1.0))


def image_features(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`FEATURES`: how strong, how large and how compact what a heatmap marks is, and of what kind the picture is.

    Strongest cells alone grow by chance with the number of cells; so the number is one of the features.

    Args:
        heatmap: H×W.
        pixels: H×W×3 uint8.
    """
    if min(heatmap.shape) < 8:  # not one cell: one is made of it, and nothing is known of the picture
        heatmap = np.full((8, 8), heatmap.mean(), np.float32)
        pixels = np.full((8, 8, 3), 127, np.uint8)
    cells = _cells(heatmap)
    flat = cells.ravel()
    strongest = [_logit(float(_strongest(flat, count).mean())) for count in (8, 24, 96)]
    block = uniform_filter(cells, 3, mode="constant")
    marked = np.count_nonzero(flat > 0.5)
    return np.array(
        [
            *strongest,
            _logit(float(block.max())),
            math.log1p(marked),
            _logit(float(flat.mean(dtype=np.float64))),
            math.log(flat.size),
            *(found := picture_features(pixels, cells)),
            strongest[0] * found[OF_PICTURE.index("noise")],
        ]
    )


def _cells(heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the whole 8×8 cells; row by row of cells, so that a 100-megapixel heatmap is never copied."""
    rows, columns = heatmap.shape[0] // 8, heatmap.shape[1] // 8
    means = np.empty((rows, columns), np.float32)
    for row in range(rows):
        strip = heatmap[row * 8 : row * 8 + 8, : columns * 8].reshape(8, columns, 8)
        pairs = strip[..., ::2] + strip[..., 1::2]
        fours = pairs[..., ::2] + pairs[..., 1::2]
        means[row] = (fours[..., 0] + fours[..., 1]).sum(0) / 64
    return means


def _strongest(flat: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    count = min(count, flat.size)
    return np.asarray(np.partition(flat, flat.size - count)[flat.size - count :])


def _first(flat: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest values, largest first, of equal ones the first."""
    least = _strongest(flat, count).min()
    among = np.flatnonzero(~(flat < least))  # all of them if one is NaN
    return among[np.argsort(-flat[among], kind="stable")[:count]]


def _logit(p: float) -> float:
    clipped = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(clipped / (1 - clipped))


def kind_of(features: NDArray[np.float64]) -> str:
    """SCREEN, SMALL or PHOTO, by `FEATURES`."""
    if float(np.dot(_WEIGHTS, features[len(OF_HEATMAP) :][: len(_WEIGHTS)])) + _CONSTANT > 0:
        return SCREEN
    cells = features[OF_HEATMAP.index("log cells")]
    return SMALL if cells < math.log(SMALL_PIXELS / CELL**2) else PHOTO


def picture_features(pixels: NDArray[np.uint8], cells: Floats) -> list[float]:
    """`OF_PICTURE` of a picture.

    Args:
        pixels: H×W×3 uint8, at least one cell each way.
        cells: the heatmap, by whole 8×8 cells.
    """
    rows, columns = cells.shape
    step = max(1, math.ceil(rows * columns * CELL**2 / SAMPLED))
    examined = _examined(pixels, np.arange(0, rows, step), columns)
    span, quiet, clipped = examined.span.ravel(), examined.quiet.ravel(), examined.clipped.ravel()
    at, inside = (sum(values.tolist()) for values in (examined.at, examined.inside))
    share = examined.colours[examined.colours > 0] / examined.colours.sum()
    flat = span <= FLAT
    busy = ~flat & ~clipped
    typical = float(np.median(quiet[busy])) if busy.any() else 0.0
    calm = float(np.quantile(quiet[busy], 0.2)) if busy.any() else 0.0
    own = _examined_cells(pixels, *np.divmod(_first(cells.ravel(), STRONGEST), columns))
    return [
        float(flat.mean()),
        float(-(share * np.log2(share)).sum()),
        float((span[~flat] > CONTRAST).mean()) if not flat.all() else 0.0,
        math.log(calm + 0.25),
        math.log((at + 0.05) / (inside + 0.05)),
        float(clipped.mean()),
        float(np.mean(own.clipped)),
        math.log(typical + 0.25) - math.log(float(np.mean(own.quiet)) + 0.25),
    ]


_WEIGHTS = (5.5, -1.2, 2.2)
_CONSTANT = 1.3
"""Of flat, colours and contrast: a logistic regression on 361 photographs and 350 screens and pages, and 1.5 taken off
the constant, so that a photograph is rarely called a screen."""


@dataclass(frozen=True, slots=True)
class _Examined:
    """Of rows of cells: what each cell spans in grey levels, its noise, whether a pixel in four is clipped (rows ×
    columns); of each row the mean steps at the borders of cells and inside; and how often each of 4,096 colours
    occurs in all."""

    span: Floats
    quiet: Floats
    clipped: NDArray[np.bool_]
    at: Floats
    inside: Floats
    colours: NDArray[np.int64]


def _examined(pixels: NDArray[np.uint8], rows: NDArray[np.int64], columns: int) -> _Examined:
    """Some rows of cells, a few at a time."""
    strips = pixels[: len(pixels) // CELL * CELL, : columns * CELL]
    strips = strips.reshape(-1, CELL, columns * CELL, 3)
    few = max(1, AT_A_TIME // (columns * CELL**2))
    parts = [_part(strips[rows[first : first + few]]) for first in range(0, len(rows), few)]
    span, quiet, clipped, at, inside = (np.concatenate([part[place] for part in parts]) for place in range(5))
    return _Examined(span, quiet, clipped, at, inside, np.sum([part[5] for part in parts], 0))


def _examined_cells(pixels: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _Examined:
    """Single cells, each as a row of its own."""
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    cells = [pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] for row, column in pairs]
    return _Examined(*_part(np.stack(cells)))


def _part(strips: NDArray[np.uint8]) -> tuple[Floats, Floats, NDArray[np.bool_], Floats, Floats, NDArray[np.int64]]:
    """R×8×W×3 to the values of `_Examined`."""
    count, _, width, _ = strips.shape
    columns = width // CELL
    red, green, blue = (np.ascontiguousarray(strips[..., channel]) for channel in range(3))
    grey = 0.299 * red.astype(np.float32) + 0.587 * green.astype(np.float32) + 0.114 * blue.astype(np.float32)
    # Down the rows first: a reduction along the longest axis in memory is many times as fast.
    highest, lowest = grey.max(1).reshape(count, columns, CELL), grey.min(1).reshape(count, columns, CELL)
    second = np.abs(2 * grey[:, :, 1:-1] - grey[:, :, :-2] - grey[:, :, 2:]).mean(1)
    quiet = np.pad(second, ((0, 0), (1, 1))).reshape(count, columns, CELL)[:, :, 1:-1].mean(2)
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    out = ((most >= BURNT) | (least <= BLACK)).view(np.uint8).sum(1, dtype=np.uint8).reshape(count, columns, CELL)
    clipped = out.sum(2, dtype=np.uint8) > CELL**2 // 4
    steps = np.abs(np.diff(grey, axis=2)).mean(1)
    at = steps[:, CELL - 1 :: CELL].mean(1) if columns > 1 else np.zeros(count, np.float32)
    inside = steps[:, CELL // 2 - 1 :: CELL].mean(1)
    colours = (red & 0xF0).astype(np.uint16) << 4 | (green & 0xF0) | (blue >> 4)
    tally = np.bincount(colours.ravel(), minlength=4096)
    return highest.max(2) - lowest.min(2), quiet, clipped, at, inside, tally
