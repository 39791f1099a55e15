"""What every edit works with: the host, where other photos come from, and the tools the user has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.history import Pixels
from model.data.shapes import LARGEST, SMALLEST, Mask, bounding_box, drawn_shape, region_area, superpixel_shape
from model.data.source_photos import Cutout

Inpainter = Callable[[Pixels, Mask, int], Pixels]
"""(H×W×3 uint8, H×W bool that is True where to paint, seed) → H×W×3 uint8."""
Autoencoder = Callable[[Pixels], Pixels]
"""H×W×3 uint8 → the same through an encoder and its decoder."""

FEATHER = 12
"""Pixels around a region that blending may change."""
SUPERPIXELS = 0.12
"""Share of the regions whose outline follows the picture's edges."""


class PhotoSource(Protocol):
    """Authentic photos by number, and outlines of objects in them; `SourcePhotos` is one."""

    @property
    def paths(self) -> Sequence[Path]:
        """The photos."""

    @property
    def cutouts(self) -> Sequence[Cutout]:
        """Object masks."""

    def photo(self, index: int) -> Pixels:
        """Photo number `index`, H×W×3 uint8, read-only."""

    def object_mask(self, cutout: Cutout) -> NDArray[np.bool_]:
        """The cut-out's mask, H×W bool, the size of its photo."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Models that the user has; without them the stand-ins of this package are used.

    Attributes:
        inpainter: paints half of the removals.
        autoencoder: makes the local re-syntheses.
    """

    inpainter: Inpainter | None = None
    autoencoder: Autoencoder | None = None


@dataclass(slots=True)
class Scene:
    """A host about to be edited.

    Attributes:
        photos: where donors come from.
        rng: every choice is drawn from it.
        host: H×W×3 uint8; edits leave it as it is.
        steps: what was done, in words; edits add to it.
        used: numbers of the photos in the picture, the host's first; edits add to it.
        own_objects: outlines of objects in the host itself, H×W bool, where there are any.
        smallest, largest: share of the picture that the smallest and the largest region cover.
        plain: only what the textbook has: drawn shapes and objects, nothing retouched.
        tools: models that the user has.
    """

    photos: PhotoSource
    rng: np.random.Generator
    host: Pixels
    steps: list[str]
    used: list[int]
    own_objects: Sequence[Cutout] = ()
    smallest: float = SMALLEST
    largest: float = LARGEST
    plain: bool = False
    tools: Tools = field(default_factory=Tools)

    def area(self) -> float:
        """Share of the picture for a new region."""
        return region_area(self.rng, self.smallest, self.largest)

    def shape(self, area: float) -> Mask:
        """A region of about `area` of the host, drawn by hand or made of superpixels, H×W bool."""
        if not self.plain and self.rng.random() < SUPERPIXELS:
            return superpixel_shape(self.rng, self.host, area)
        return drawn_shape(self.rng, self.host.shape[0], self.host.shape[1], area)

    def own_object(self) -> Mask | None:
        """The outline of an object in the host, two times out of three if there is one."""
        if not self.own_objects or self.rng.random() > 0.67:
            return None
        mask = self.photos.object_mask(self.own_objects[int(self.rng.integers(len(self.own_objects)))])
        return mask if self.smallest / 2 < mask.mean() < 0.5 else None

    def nothing(self) -> tuple[Pixels, Mask]:
        """The host unchanged, for an edit that cannot be done."""
        return self.host, np.zeros(self.host.shape[:2], bool)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of a picture, in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing a picture or a mask."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def empty(self) -> bool:
        """Whether no pixel is in it."""
        return self.top >= self.bottom or self.left >= self.right

    def within(self, height: int, width: int) -> Window:
        """The part of it that lies in a picture of that size."""
        return Window(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))


def around(mask: Mask, margin: int) -> Window:
    """The surroundings of a non-empty mask: its bounding box and so many pixels more, within the picture."""
    top, left, bottom, right = bounding_box(mask)
    return Window(top - margin, left - margin, bottom + margin, right + margin).within(*mask.shape)
