"""An exact index of 64-bit hashes by Hamming distance, after Manku, Jain and Das Sarma (2007).

The bits are dealt to six blocks. Two hashes that differ in at most `FARTHEST` bits are the same in two blocks at least,
so that a hash meets all its neighbours among those that share one of the 15 pairs of blocks with it. Which bit goes to
which block is drawn anew in each process: what is found does not depend on it, and nobody can make hashes that all
share a pair.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FARTHEST = 4
"""Largest distance, in bits, at which nothing is missed."""

_EDGES = (0, 11, 22, 33, 44, 54, 64)
_KEYS = tuple(combinations(pairwise(_EDGES), 2))
_AT_ONCE = 1 << 21
"""Candidates that are compared at once; about 40 bytes each."""
_NONE = np.uint64(2**64 - 1)

Hashes = NDArray[np.uint64]


class Pairs(NamedTuple):
    """Queries and the hashes that they are near to, in no order; each pair once.

    Attributes:
        query, found: numbers of the query and of the hash, int64.
        distance: bits in which they differ, uint8.
    """

    query: NDArray[np.int64]
    found: NDArray[np.int64]
    distance: NDArray[np.uint8]


class HammingIndex:
    """Distinct hashes that can be searched and added to; 128 bytes each.

    It is a few tables, each at least twice as large as the next: all hashes of a table are in it from the beginning,
    and what is added makes a new table, with which smaller ones are joined.

    Args:
        within: largest distance, 0 to FARTHEST.
        most: candidates with which a query is compared at most for each pair of blocks; None: all. Hashes that are
            made for it can have a million.

    Attributes:
        cut: whether a query had more.
    """

    def __init__(self, within: int, most: int | None = None) -> None:
        if not 0 <= within <= FARTHEST:
            raise ValueError(f"a distance of {within} is not from 0 to {FARTHEST}")
        self._within, self._most = within, most
        self.cut = False
        self._tables: list[_Table] = []
        self._count = 0

    def add(self, hashes: Hashes) -> None:
        """Add hashes; they are numbered in the order in which they come, from 0."""
        first, self._count = self._count, self._count + len(hashes)
        hashes = _dealt(hashes)
        while self._tables and len(self._tables[-1].hashes) < 2 * len(hashes):
            table = self._tables.pop()
            hashes, first = np.concatenate([table.hashes, hashes]), table.first
            del table  # before the larger one is made
        if len(hashes):
            self._tables.append(_Table(hashes, first))

    def pairs(self, queries: Hashes) -> Iterator[Pairs]:
        """The hashes within the distance of each query, piece by piece; memory is for about 4096 queries."""
        queries = _dealt(queries)
        for table in self._tables:
            for key in range(len(_KEYS)):
                starts, lengths = table.candidates(queries, key)
                if self._most is not None:
                    self.cut = self.cut or bool((lengths > self._most).any())
                    lengths = np.minimum(lengths, self._most)
                yield from table.pairs(queries, key, self._within, starts, lengths)

    def nearest(self, queries: Hashes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The nearest hash of each query, the first of those that are equally near, and its distance; -1: none is
        within the distance."""
        best = np.full(len(queries), _NONE)
        for query, found, distance in self.pairs(queries):
            np.minimum.at(best, query, distance.astype(np.uint64) << np.uint64(48) | found.astype(np.uint64))
        nothing = best == _NONE
        number = np.where(nothing, -1, (best & np.uint64(2**48 - 1)).astype(np.int64))
        return number, np.where(nothing, 0, best >> np.uint64(48)).astype(np.uint8)


class _Table:
    """Hashes, and for each pair of blocks the values there, sorted, and the numbers of their hashes."""

    def __init__(self, hashes: Hashes, first: int) -> None:
        self.hashes, self.first = hashes, first
        self._order: list[NDArray[np.uint32]] = []
        self._values: list[NDArray[np.uint32]] = []
        for key in range(len(_KEYS)):
            values = _value(hashes, key)
            order = np.argsort(values, kind="stable").astype(np.uint32)
            self._order.append(order)
            self._values.append(values[order])

    def candidates(self, queries: Hashes, key: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the hashes begin that share a pair of blocks with each query, and how many they are."""
        wanted, values = _value(queries, key), self._values[key]
        order = np.argsort(wanted)  # neighbouring places in memory are looked at one after the other
        starts, lengths = np.empty(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
        starts[order] = np.searchsorted(values, wanted[order])
        met = np.flatnonzero(values[np.minimum(starts, len(values) - 1)] == wanted)
        lengths[met] = np.searchsorted(values, wanted[met], side="right") - starts[met]
        return starts, lengths

    def pairs(
        self, queries: Hashes, key: int, within: int, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Iterator[Pairs]:
        """The pairs of these candidates that no earlier pair of blocks has found."""
        meeting = np.flatnonzero(lengths)
        ends = np.cumsum(lengths[meeting])
        begin = 0
        while begin < len(meeting):
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
            some = meeting[begin:end]
            yield self._compared(queries, key, within, some, starts[some], lengths[some])
            begin = end

    def _compared(
        self,
        queries: Hashes,
        key: int,
        within: int,
        numbers: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Pairs:
        query = np.repeat(numbers, lengths)
        place = np.arange(len(query)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        found = self._order[key][place]
        differing = self.hashes[found] ^ queries[query]
        distance = np.bitwise_count(differing)
        near = np.flatnonzero(distance <= within)
        for earlier in range(key):
            near = near[_value(differing[near], earlier) != 0]
        return Pairs(query[near], found[near].astype(np.int64) + self.first, distance[near])


_PLACES = list(range(64))
secrets.SystemRandom().shuffle(_PLACES)


def _dealt(hashes: Hashes) -> Hashes:
    """The hashes with their bits in another order, which leaves distances as they are."""
    dealt = np.zeros(len(hashes), np.uint64)
    for bit, place in enumerate(_PLACES):
        dealt |= (hashes >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)
    return dealt


def _value(hashes: Hashes, key: int) -> NDArray[np.uint32]:
    """What is in a pair of blocks."""
    value = np.zeros(len(hashes), np.uint64)
    for start, end in _KEYS[key]:
        width = np.uint64(end - start)
        value = value << width | hashes >> np.uint64(start) & (np.uint64(1) << width) - np.uint64(1)
    return value.astype(np.uint32)
