"""Shards: one of n parts of the evidence, which n runs on any machines examine without talking to each other.

A file belongs to the shard that the SHA-256 of its locator names, so that a run need not open, let alone hash, what
belongs to others, and a repeated run takes the same files. Composed and decomposed characters are the same there: one
disk shows either, by the system that it is mounted on. With a single PATH the name of PATH itself does not count:
two machines may have mounted the same disk under different names. An archive belongs to one shard with all that is in
it. The members of one larger than `LARGEST_WHOLE`, and of one that is the single PATH, are divided: every shard reads
all of it, so that limits and damage show as they do in a run of everything.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Self

from clue_cli.evidence.locator import MEMBER

LARGEST_WHOLE = 1 << 30
"""Bytes of the largest archive that is not divided."""

MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number`, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that a text such as `2/8` names.

        Raises:
            ValueError: it names none.
        """
        number, slash, count = text.partition("/")
        if not (slash and all(part.isascii() and part.isdecimal() and len(part) < 7 for part in (number, count))):
            raise ValueError("expected NUMBER/COUNT, such as 2/8")
        if not 1 <= int(number) <= int(count) <= MOST_SHARDS:
            raise ValueError(f"expected a number from 1 to COUNT, and at most {MOST_SHARDS:,} shards")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, locator: str, *, divided: bool = False) -> bool:
        """Whether what stands at a locator belongs to this shard.

        Args:
            divided: whether it is in an archive whose members are divided.
        """
        key = locator if divided else locator.partition(MEMBER)[0]
        return _number(key)[0] % self.count == self.number - 1


class Listing:
    """Which files a walk listed, of all shards: equal for runs that saw the same names and sizes, in any order.

    Attributes:
        count: how many.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, locator: str, size: int) -> None:
        """Note a file of the evidence and its bytes."""
        self.count += 1
        self._sum += _number(f"{locator}\0{size}")[1]

    @property
    def digest(self) -> str:
        """A sum of hashes, hex: against accidents, not against somebody who chooses the names."""
        return f"{self._sum % (1 << 128):032x}"


LISTING = ("listed_files", "listing_digest")
"""The settings of a shard's `run.json` that say which files were listed."""


def _number(text: str) -> tuple[int, int]:
    """Two numbers of 64 and of 128 bits that stand for a text."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:24], "big")
