"""Masks as polygons and as runs, in the terms of COCO. Both hold every marked pixel and no other.

A polygon runs along the edges of the pixels, so that its vertices are whole numbers from 0 to the width or height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ring = NDArray[np.int64]
"""Vertices of a closed polygon, n×2, (x, y); the last is joined to the first. Edges are horizontal or vertical."""


@dataclass(frozen=True, slots=True)
class Part:
    """One connected group of marked pixels (8-connected).

    Attributes:
        x, y, width, height: the smallest rectangle around it, pixels.
        area: its pixels.
        inside: which pixels of the rectangle belong to it, height×width.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    inside: Mask

    def polygons(self) -> list[Ring]:
        """Its outer contours: one for each 4-connected group of pixels.

        A hole is cut out by a cut of no width: the contour goes along a vertical line into the hole, around it and
        back on the same line. So the even-odd and the non-zero rule both leave the hole out.
        """
        rings, holes = _contours(self.inside)
        joined = _with_holes(self.inside, rings, holes) if holes else rings
        return [ring + np.array([self.x, self.y]) for ring in joined]

    def counts(self, height: int, width: int) -> list[int]:
        """Its run lengths in a picture of this size, uncompressed, as of COCO: by columns, unmarked pixels first."""
        padded = np.zeros((self.width, self.height + 2), np.int8)
        padded[:, 1:-1] = self.inside.T
        steps = np.diff(padded, axis=1)
        columns, starts = np.nonzero(steps == 1)
        ends = np.nonzero(steps == -1)[1]
        first = (columns + self.x) * height + self.y + starts
        last = (columns + self.x) * height + self.y + ends
        new = np.concatenate([[True], first[1:] != last[:-1]])  # a run may go on at the top of the next column
        bounds = np.empty(2 * int(new.sum()), np.int64)
        bounds[::2] = first[new]
        bounds[1::2] = last[np.concatenate([new[1:], [True]])]
        counts: list[int] = np.diff(bounds, prepend=0).tolist()
        rest = height * width - int(bounds[-1])
        return [*counts, rest] if rest else counts


def parts(mask: Mask) -> Iterator[Part]:
    """The connected groups of marked pixels of a mask, from the top."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), np.bool_))
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[rows, columns] == number
        height, width = inside.shape
        yield Part(columns.start, rows.start, width, height, int(np.count_nonzero(inside)), inside)


def _contours(inside: Mask) -> tuple[list[Ring], set[int]]:
    """All contours along the edges of pixels, and which of them are around holes: these run the other way around. Each
    begins at the leftmost of its topmost vertices.

    In a row of the grid between the pixels, the first vertex is joined to the second, the third to the fourth and so
    on, and so in a column: a contour goes along rows and columns by turns.
    """
    padded = np.pad(inside, 1)
    above, below = padded[:-1], padded[1:]
    left_above, right_above, left_below, right_below = above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]
    # A vertex is where the pixels on the left change otherwise than those on the right, or both do, and crosswise.
    crossed = (left_above == right_below) & (right_above == left_below) & (left_above != right_above)
    y, x = np.nonzero((left_above ^ left_below ^ right_above ^ right_below) | crossed)
    twice = crossed[y, x]  # two contours meet there, or one meets itself: a vertex of each
    y, x, both = (np.repeat(values, 1 + twice) for values in (y, x, twice))
    second = np.zeros(len(y), np.bool_)
    second[1:] = both[1:] & (y[1:] == y[:-1]) & (x[1:] == x[:-1])  # the one on the right
    lower = both & (second == left_above[y, x])  # goes on downwards
    order = np.lexsort((lower, y, x))
    joined = np.empty(len(y), np.int64)
    joined[order] = order[np.arange(len(y)) ^ 1]
    down: list[int] = joined.tolist()
    met = bytearray(len(down))
    rings: list[Ring] = []
    holes: set[int] = set()
    vertices = np.stack([x, y], axis=1)
    marked = right_below[y, x].tolist()
    for start in range(0, len(down), 2):
        if met[start]:
            continue
        at, found = start, list[int]()
        while not met[at]:
            other = at ^ 1  # the other end of a horizontal edge
            met[at] = met[other] = 1
            found += at, other
            at = down[other]
        if not marked[start]:
            holes.add(len(rings))
            found[1:] = found[:0:-1]
        rings.append(vertices[found])
    return rings, holes


def _with_holes(inside: Mask, rings: list[Ring], holes: set[int]) -> list[Ring]:
    """The outer contours, each with cuts to the holes in it."""
    lookup = _HorizontalEdges(rings, inside.shape[1])
    cuts: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    """By contour and number of its edge: x and y of where a cut begins, and the hole it leads to."""
    for hole in holes:
        x, y = rings[hole][0].tolist()  # above it the pixels are marked
        above = _first_marked(inside, x, y)
        cuts.setdefault(lookup.at(x, above), []).append((x, above, hole))
    return [_stitched(rings, cuts, place) for place in range(len(rings)) if place not in holes]


def _first_marked(inside: Mask, x: int, y: int) -> int:
    """The first row of the marked pixels of a column that end above row y."""
    end, step = y, 64
    while end:
        start = max(0, end - step)
        unmarked = np.flatnonzero(~inside[start:end, x])
        if unmarked.size:
            return start + int(unmarked[-1]) + 1
        end, step = start, step * 2
    return 0


class _HorizontalEdges:
    """Which contour, and which of its edges, lies at the top of a pixel."""

    def __init__(self, rings: list[Ring], width: int) -> None:
        self._width = width + 1
        keys, owners, numbers = [], [], []
        for place, ring in enumerate(rings):
            following = np.roll(ring, -1, axis=0)
            edges = np.flatnonzero(ring[:, 1] == following[:, 1])
            keys.append(ring[edges, 1] * self._width + np.minimum(ring[edges, 0], following[edges, 0]))
            owners.append(np.full(edges.size, place))
            numbers.append(edges)
        joined = np.concatenate(keys)
        order = np.argsort(joined)
        self._keys, self._owners = joined[order], np.concatenate(owners)[order]
        self._numbers = np.concatenate(numbers)[order]

    def at(self, x: int, y: int) -> tuple[int, int]:
        place = int(np.searchsorted(self._keys, y * self._width + x, side="right")) - 1
        return int(self._owners[place]), int(self._numbers[place])


def _stitched(rings: list[Ring], cuts: dict[tuple[int, int], list[tuple[int, int, int]]], outer: int) -> Ring:
    """A contour with the holes that its cuts lead to, those of these holes, and so on."""
    found: list[tuple[int, int]] = []

    def walk(place: int) -> Iterator[tuple[int, int] | int]:
        """Vertices of one contour, and the numbers of the holes that are to be walked in between."""
        ring = rings[place].tolist()
        for edge, (x, y) in enumerate(ring):
            yield x, y
            forward = ring[(edge + 1) % len(ring)][0] > x
            for at, level, hole in sorted(cuts.get((place, edge), ()), reverse=not forward):
                yield at, level
                yield hole
                yield at, level
        yield tuple(ring[0])  # a hole is left where it was entered

    stack = [walk(outer)]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
        elif isinstance(step, int):
            stack.append(walk(step))
        elif not found or found[-1] != step:
            found.append(step)
    while len(found) > 1 and found[-1] == found[0]:
        found.pop()
    return np.array(found, np.int64)
