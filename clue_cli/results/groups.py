"""Pictures that are copies of each other: the same file, or pictures that look alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clue_cli.records import ImageRecord, Verdict
from clue_cli.results.hamming import HammingIndex, Hashes
from clue_cli.terminal import counted

if TYPE_CHECKING:
    from clue_cli.records import FailureRecord

NOT_A_PHOTOGRAPH = "screen_or_drawing"
"""Kind of the finding about a picture that is taken for a screen, a drawing or a page. Such pictures are compared by
their bytes alone: 64 bits of low frequencies tell layouts apart, and not what is written in them. By the same script,
of 106 pages on which three words in ten had changed places 90 % were within 4 bits of the page itself."""

NEAR = 4
"""Bits, of 64, in which the perceptual hashes of two pictures differ at most if they are near duplicates. By
`scripts/measure_copies.py` on 1064 photos: 99.9 % of copies that were only saved again or resized are within 4 bits,
95 % of those with 1 % cut off from each side and 64 % of those with 2 %. None of 565,516 pairs of different photos is
within 5, and of 41.8 million pairs of ninths of them 0.5 in a million within 4, 1.6 within 6."""

_BLOCK = 4096
"""Hashes that are searched together."""
KEY_BYTES = 36
"""Bytes by which exact duplicates are known: SHA-256 of the file, and the page."""
_MOST = 1 << 9
"""Candidates with which a picture is compared at most for each pair of blocks. Of the pictures of photographs that
were measured the densest would meet 360 among a million; hashes that were made for it, thousands."""
_VERDICTS = tuple(Verdict)
_NOT_ASKED = len(_VERDICTS)


class Kind(StrEnum):
    """How two pictures are copies of each other."""

    EXACT = "exact"
    """The same page of files with the same SHA-256."""
    NEAR = "near"
    """Other bytes, and perceptual hashes that differ in at most `NEAR` bits."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures that are copies of one of them.

    Attributes:
        number: from 1, in the order of the representatives.
        representative: index of the picture that the others are copies of: the first of them.
        size: pictures in it, the representative included; at least 2.
        kind: `exact` if all are the same file, else `near`.
        verdicts_differ: whether their verdicts on `localization`, or on `synthetic` where that was asked, are not all
            the same. They share their history: one of them is wrong, or an edit is in some and not in others.
    """

    number: int
    representative: int
    size: int
    kind: Kind
    verdicts_differ: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """What a picture is to the representative of its group.

    Attributes:
        group: number of the group.
        representative: index of the representative; the picture itself, if it is that one.
        kind: of the pair; that of the representative with itself is `exact`.
        distance: bits in which the perceptual hashes differ, 0 to `NEAR`; 0 for `exact`. 0 with `near`: other bytes
            with the same hash, such as a copy that was saved again.
        same_file: index of the first picture that is the same page of the same bytes; the picture itself, if there is
            no earlier one.
    """

    group: int
    representative: int
    kind: Kind
    distance: int
    same_file: int


class Groups:
    """Groups of copies among the pictures that are added.

    Every picture is in one group at most. Each member is within `NEAR` bits of the representative, which no other
    representative is: groups do not grow by chains in which the last has nothing to do with the first. In the order
    in which pictures are added, one joins the nearest representative, or becomes one. Pages of one file are no copies
    of each other by their file's hash. A record without a perceptual hash, or of what is taken for a screen, a drawing
    or a page, has exact duplicates only. Where too many hashes are alike in parts, near duplicates can be missed, and
    representatives be near to each other: see `incomplete`.

    Memory: about 50 bytes a picture while they are added, at most about 250 when the groups are asked for, which are
    found then, once, and 9 after that, when nothing can be added any more.

        groups = Groups()
        for record in reader.records():
            groups.add(record)
        groups.of(0)  # number of the group of the first image, or None
    """

    def __init__(self) -> None:
        self._keys = bytearray()
        self._hashes = array("Q")
        self._hashed = bytearray()
        self._verdicts, self._seconds = bytearray(), bytearray()
        self._images = 0
        self._found: _Found | None = None

    def add(self, record: ImageRecord | FailureRecord) -> None:
        """Add the picture of a record; its index is the number of images added before. A failure is passed over.

        Raises:
            RuntimeError: groups have been asked for already.
        """
        if not isinstance(record, ImageRecord):
            return
        if self._found is not None:
            raise RuntimeError("groups have been asked for already")
        self._images += 1
        self._keys += file_key(record)
        look = look_of(record)
        self._hashes.append(look or 0)
        self._hashed.append(look is not None)
        self._verdicts.append(_VERDICTS.index(record.verdict))
        self._seconds.append(_NOT_ASKED if record.synthetic is None else _VERDICTS.index(record.synthetic.verdict))

    @property
    def images(self) -> int:
        """How many pictures were added."""
        return self._images

    def of(self, index: int) -> int | None:
        """Number of the group of the index-th picture; None: it has no copy.

        Raises:
            IndexError: there is no such picture.
        """
        number = int(self._all.group[_checked(index, self.images)])
        return number or None

    def copy(self, index: int) -> Copy | None:
        """What the index-th picture is to the representative of its group; None: it has no copy. Raises IndexError."""
        number = self.of(index)
        if number is None:
            return None
        found = self._all
        first, same = int(found.representative[number - 1]), int(found.same_file[index])
        kind = Kind.EXACT if same == found.same_file[first] else Kind.NEAR
        return Copy(number, first, kind, int(found.distance[index]), same)

    def group(self, number: int) -> Group:
        """A group by its number, from 1. Raises IndexError."""
        place, found = _checked(number - 1, len(self)), self._all
        kind = Kind.EXACT if found.exact[place] else Kind.NEAR
        return Group(number, int(found.representative[place]), int(found.size[place]), kind, bool(found.differ[place]))

    def __len__(self) -> int:
        return len(self._all.representative)

    def __iter__(self) -> Iterator[Group]:
        return (self.group(number) for number in range(1, len(self) + 1))

    @property
    def differing(self) -> int:
        """In how many groups verdicts differ."""
        return int(np.count_nonzero(self._all.differ))

    def in_words(self) -> str:
        """E.g. `12 groups of copies (30 pictures); in 2 of them verdicts differ`; empty without a group. What can be
        missing is said in either case."""
        words = []
        if len(self):
            words.append(f"{counted(len(self), 'group')} of copies ({int(self._all.size.sum()):,} pictures)")
        if self.differing:
            words.append(f"in {f'{self.differing:,} of them' if len(self) > 1 else 'it'} verdicts differ")
        if self.incomplete:
            words.append("not all that look alike were found")
        return "; ".join(words)

    @property
    def incomplete(self) -> bool:
        """Whether some pictures were not compared with all that might look alike, since these were too many."""
        return self._all.cut

    @property
    def _all(self) -> _Found:
        if self._found is None:
            self._found = self._grouped()
            self._hashes, self._hashed = array("Q"), bytearray()
            self._verdicts, self._seconds = bytearray(), bytearray()
        return self._found

    def _grouped(self) -> _Found:
        same_file, first = same_values(np.frombuffer(self._keys, dtype=f"S{KEY_BYTES}"))
        self._keys = bytearray()  # most of the memory, before the search needs its own
        hashes, hashed = np.frombuffer(self._hashes, np.uint64), np.frombuffer(self._hashed, bool)
        unit = np.searchsorted(first, same_file)  # number of the file of each picture
        hash_of, known = _hash_of_units(hashes, hashed, unit, len(first))
        joined, far = np.arange(len(first)), np.zeros(len(first), np.uint8)
        joined[known], far[known], cut = _joined(np.flatnonzero(known), hash_of[known])
        representative = first[joined][unit]  # index of the representative of each picture
        sizes = np.bincount(representative, minlength=self.images)
        chosen = np.flatnonzero(sizes > 1)
        number = np.zeros(self.images, np.int32)
        number[chosen] = np.arange(1, len(chosen) + 1)
        group = number[representative] if self.images else number
        files = np.bincount(joined, minlength=len(first))  # how many different files are with each
        verdicts, seconds = np.frombuffer(self._verdicts, np.uint8), np.frombuffer(self._seconds, np.uint8)
        asked = seconds != _NOT_ASKED
        differ = _varies(group, verdicts, len(chosen)) | _varies(group[asked], seconds[asked], len(chosen))
        return _Found(
            group=group,
            same_file=same_file.astype(np.uint32),
            distance=far[unit],
            representative=chosen,
            size=sizes[chosen],
            exact=files[unit[chosen]] == 1,
            differ=differ,
            cut=cut,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """Of each picture: group (0: none), first picture with the same bytes, distance. Of each group: the rest, but for
    `cut`: whether near duplicates can be missing."""

    group: NDArray[np.int32]
    same_file: NDArray[np.uint32]
    distance: NDArray[np.uint8]
    representative: NDArray[np.int64]
    size: NDArray[np.int64]
    exact: NDArray[np.bool_]
    differ: NDArray[np.bool_]
    cut: bool


def look_of(record: ImageRecord) -> int | None:
    """The perceptual hash by which a picture is compared with others; None: it is compared by its bytes alone."""
    if record.perceptual_hash is None or any(finding.kind == NOT_A_PHOTOGRAPH for finding in record.findings):
        return None
    return int(record.perceptual_hash, 16)


def file_key(record: ImageRecord) -> bytes:
    """`KEY_BYTES` bytes, equal for the same page of files with the same SHA-256."""
    return bytes.fromhex(record.file.sha256) + record.page.to_bytes(4, "big")


def _checked(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise IndexError(index)
    return index


def same_values(values: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each value the index of the first that equals it; and these indices, ascending, each once."""
    order = np.argsort(values, kind="stable")
    new = np.ones(len(values), dtype=bool)
    for start in range(1, len(values), _BLOCK):  # the values in order at once would be a second copy of them
        some = values[order[start - 1 : start + _BLOCK]]
        new[start : start + _BLOCK] = some[1:] != some[:-1]
    firsts = order[new]  # stable: the first of equal ones comes first
    same = np.empty(len(values), np.int64)
    same[order] = np.repeat(firsts, np.diff(np.append(np.flatnonzero(new), len(values))))
    return same, np.sort(firsts)


def _hash_of_units(
    hashes: Hashes, hashed: NDArray[np.bool_], unit: NDArray[np.int64], count: int
) -> tuple[Hashes, NDArray[np.bool_]]:
    """The hash of each file: that of its first record that has one; and whether there is one."""
    hash_of, known = np.zeros(count, np.uint64), np.zeros(count, bool)
    having = np.flatnonzero(hashed)[::-1]  # backwards: the first is written last
    hash_of[unit[having]] = hashes[having]
    known[unit[having]] = True
    return hash_of, known


def _joined(units: NDArray[np.int64], hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.uint8], bool]:
    """For each unit the one whose group it joins, itself if it begins one, and the distance of their hashes; and
    whether not all were compared."""
    same, first = same_values(hashes)
    leader, far, cut = leaders(hashes[first], most=_MOST)
    of = np.searchsorted(first, same)
    return units[first[leader]][of], far[of], cut


def leaders(
    hashes: Hashes, within: int = NEAR, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.uint8], bool]:
    """For each of distinct hashes, in their order, the nearest earlier leader within the distance, the first of those
    that are equally near, or the hash itself, which is a leader then; the distance; and whether a hash was not compared
    with all, as of `HammingIndex`.

    Leaders are farther than `within` from each other, so that few are near to one hash, however the hashes were made.
    Many can share a pair of blocks with it all the same, which is what `most` is for.
    """
    leader, far = np.arange(len(hashes)), np.zeros(len(hashes), np.uint8)
    index, numbers = HammingIndex(within, most), np.empty(0, np.int64)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        nearest, distance = index.nearest(block)
        distance[nearest < 0] = within + 1
        own = np.arange(start, start + len(block))
        of = np.where(nearest < 0, own, numbers[nearest] if len(numbers) else own)
        new = []
        place = -1
        while (rest := np.flatnonzero(distance[place + 1 :] > within)).size:
            place += 1 + int(rest[0])
            new.append(start + place)
            distance[place] = 0
            bits = np.bitwise_count(block[place + 1 :] ^ block[place])
            nearer = bits < distance[place + 1 :]
            of[place + 1 :][nearer] = start + place
            distance[place + 1 :][nearer] = bits[nearer]
        leader[start : start + len(block)], far[start : start + len(block)] = of, distance
        if new:
            index.add(hashes[new])
            numbers = np.concatenate([numbers, np.array(new)])
    return leader, far, index.cut


def _varies(group: NDArray[np.int32], values: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Whether the pictures of each group have more than one value."""
    met = np.zeros(count + 1, np.uint8)
    np.bitwise_or.at(met, group, np.uint8(1) << values)
    return np.bitwise_count(met[1:]) > 1
