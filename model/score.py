"""From a heatmap and its picture to a score of the whole image, and to the kind of picture it is.

A heatmap alone says the same of a lamp that is burnt out as of a region that was pasted: neither has the noise of its
surroundings. And a screen or a drawing, which repeats itself exactly and has no noise at all, cannot be compared with
photographs. So a few statistics of the pixels stand beside those of the heatmap.
"""

from __future__ import annotations

import math

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
FLAT = 2.0
"""Grey levels that a flat cell spans at most."""
CONTRAST = 85.0
BURNT, BLACK = 252, 3
"""A channel at or beyond these says nothing more."""

SCREEN = "screen or drawing"
PHOTO = "photograph"

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
        strip = heatmap[row * 8 : row * 8 + 8, : columns * 8]
        means[row] = strip.reshape(8, columns, 8).mean((0, 2))
    return means


def _strongest(flat: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    count = min(count, flat.size)
    return np.asarray(np.partition(flat, flat.size - count)[flat.size - count :])


def _logit(p: float) -> float:
    clipped = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(clipped / (1 - clipped))


def kind_of(features: NDArray[np.float64]) -> str:
    """SCREEN or PHOTO, by `FEATURES`."""
    return SCREEN if float(np.dot(_WEIGHTS, features[len(OF_HEATMAP) :][: len(_WEIGHTS)])) + _CONSTANT > 0 else PHOTO


def picture_features(pixels: NDArray[np.uint8], cells: Floats) -> list[float]:
    """`OF_PICTURE` of a picture.

    Args:
        pixels: H×W×3 uint8, at least one cell each way.
        cells: the heatmap, by whole 8×8 cells.
    """
    rows, columns = cells.shape
    step = max(1, math.ceil(rows * columns * CELL**2 / SAMPLED))
    found = [_row(pixels, row, columns) for row in range(0, rows, step)]
    span, quiet, clipped = (np.concatenate([part[i] for part in found]) for i in range(3))
    at, inside = (sum(float(part[i]) for part in found) for i in (3, 4))
    counts = np.sum([part[5] for part in found], 0)
    share = counts[counts > 0] / counts.sum()
    flat = span <= FLAT
    busy = ~flat & ~clipped
    typical = float(np.median(quiet[busy])) if busy.any() else 0.0
    calm = float(np.quantile(quiet[busy], 0.2)) if busy.any() else 0.0
    order = np.argsort(-cells, axis=None, kind="stable")[:STRONGEST]
    strongest = [_row(pixels, int(i) // columns, columns) for i in order]
    own = [(part[1][int(i) % columns], part[2][int(i) % columns]) for part, i in zip(strongest, order, strict=True)]
    return [
        float(flat.mean()),
        float(-(share * np.log2(share)).sum()),
        float((span[~flat] > CONTRAST).mean()) if not flat.all() else 0.0,
        math.log(calm + 0.25),
        math.log((at + 0.05) / (inside + 0.05)),
        float(clipped.mean()),
        float(np.mean([c for _, c in own])),
        math.log(typical + 0.25) - math.log(float(np.mean([q for q, _ in own])) + 0.25),
    ]


_WEIGHTS = (5.5, -1.2, 2.2)
_CONSTANT = 1.3
"""Of flat, colours and contrast: a logistic regression on 361 photographs and 350 screens and pages, and 1.5 taken off
the constant, so that a photograph is rarely called a screen."""


def _row(
    pixels: NDArray[np.uint8], row: int, columns: int
) -> tuple[Floats, Floats, NDArray[np.bool_], float, float, NDArray[np.int64]]:
    """Of one row of cells: what each spans in grey levels, its noise, whether a pixel in four is clipped; mean steps
    at the borders of cells and inside; and how often each of 4,096 colours occurs."""
    strip = pixels[row * CELL : (row + 1) * CELL, : columns * CELL]
    red, green, blue = (np.ascontiguousarray(strip[..., channel]) for channel in range(3))
    grey = 0.299 * red.astype(np.float32) + 0.587 * green.astype(np.float32) + 0.114 * blue.astype(np.float32)
    # Down the rows first: a reduction along the longest axis in memory is many times as fast.
    span = grey.max(0).reshape(columns, CELL).max(1) - grey.min(0).reshape(columns, CELL).min(1)
    second = np.abs(2 * grey[:, 1:-1] - grey[:, :-2] - grey[:, 2:]).mean(0)
    quiet = np.pad(second, 1).reshape(columns, CELL)[:, 1:-1].mean(1)
    out = np.zeros(grey.shape, bool)
    for channel in (red, green, blue):
        out |= (channel >= BURNT) | (channel <= BLACK)
    clipped = out.mean(0).reshape(columns, CELL).mean(1) > 0.25
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    at = float(steps[CELL - 1 :: CELL].mean()) if columns > 1 else 0.0
    inside = float(steps[CELL // 2 - 1 :: CELL].mean())
    colours = (red >> 4).astype(np.int64) * 256 + (green >> 4).astype(np.int64) * 16 + (blue >> 4)
    return span, quiet, clipped, at, inside, np.bincount(colours.ravel(), minlength=4096)
