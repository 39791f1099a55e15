"""What is known of a public set: how it lies on disk, its counts, its source, its terms, its known damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.datasets.layouts import Layout, Manipulation, three_folders

NOT_CONFIRMED = "layout not confirmed"
PHOTOHOLMES = "as PhotoHolmes reads it"


@dataclass(frozen=True, slots=True)
class PublishedLayout:
    """One way a set lies on disk: its tree in words, where that is known from, and the function that reads it."""

    name: str
    tree: str
    source: str
    read: Layout

    def describe(self) -> str:
        """A line for a person."""
        return f"{self.name} ({self.source}): {self.tree}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is known of a set.

    Attributes:
        folders: names its folder can have, best first; `.`: the root itself is tried.
        counts: (forged, authentic) of its known editions, the one that papers measure first.
        obtained: where it comes from.
        terms: on what terms.
        layouts: how it is laid out, in the order in which it is tried.
        damage: what is known to be broken in the published files; goes into the result.
        photos: names of the photos that an image was made from, known from its path: images that share one are never
            split between training and validation.
        training: made to train on: measured on only where it is asked for by its own name.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    obtained: str
    terms: str
    layouts: tuple[PublishedLayout, ...]
    damage: tuple[str, ...] = ()
    photos: Callable[[Path], tuple[str, ...]] = lambda image: (image.stem,)
    training: bool = False

    @property
    def expected(self) -> str:
        """The expected counts in words."""
        if not self.counts:
            return "counts not confirmed"
        return "expected " + ", or ".join(
            f"{forged} forged and {authentic} authentic" for forged, authentic in self.counts
        )


def always(kind: str) -> Manipulation:
    """A set of which all forged images are of one kind."""
    return lambda stem: kind


def common(manipulation: Manipulation = lambda stem: "", source: str = "IMDL-BenCo") -> PublishedLayout:
    """The layout that many sets are passed on in."""
    tree = "Tp/ forged, Gt/ masks of the same stem (also with _gt, _mask), white = forged, Au/ authentic"
    return PublishedLayout("Tp/Gt/Au", tree, source, three_folders(manipulation=manipulation, alone=True))
