"""Pictures from photos of one side: untouched ones of every kind, and forgeries made of them.

On some the operating point, the score and the thresholds of a model are fitted; on others it is measured. All come from
the same photos, so intervals are over photos, cameras and templates: a picture's `source`. Two halves of the sources
never share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.data.forge import EDIT_ERRORS, Forgery, forge, forge_native
from model.data.history import jpeg
from model.data.materials import Materials, Photographed
from model.data.source_photos import SourcePhotos
from model.images.masks import Mask
from model.images.pixels import Pixels

KINDS = ("splice", "copy_move", "removal", "local_edit")
KIND_SHARES = (0.45, 0.25, 0.15, 0.15)
SIZES = ((256, 384), (384, 256), (320, 320), (480, 640), (768, 1024), (1072, 1600))
SMALL_SIZE, SMALL = (768, 1024), 0.01
SMALL_SEED = 91
NATIVE = (768, 1024)
"""Largest piece of a photo that is cut out as its camera wrote it."""
COPIED = 512
"""Least pixels of the shorter side of photos for copy-moves."""
NATIVE_KINDS = ("splice", "splices", "copy_move", "removal", "local_edit")


@dataclass(frozen=True, slots=True)
class Made:
    """One picture.

    Attributes:
        pixels: H×W×3 uint8; mask: H×W bool, True where forged.
        group: what set it belongs to, e.g. `camera`.
        kind: `authentic`, or what was done.
        source: the photo, the camera or the template that it comes from.
    """

    pixels: Pixels
    mask: Mask
    group: str
    kind: str
    source: str

    @property
    def forged(self) -> bool:
        """Whether anything in it is."""
        return self.kind != "authentic"

    @property
    def half(self) -> int:
        """0 or 1, from the source alone."""
        return half_of(self.source)


@dataclass(frozen=True, slots=True)
class Slot:
    """A picture to be made, in any order and any number of times.

    Attributes:
        name: unique among the slots of one seed, such as `native/0003`.
        group: see `Made`.
        forged: whether it shall be forged; where no edit succeeds the picture is authentic.
        make: makes it; the same each time. None: its photos do not allow it.
    """

    name: str
    group: str
    forged: bool
    make: Callable[[], Made | None]


class MadePictures:
    """Makes pictures of the materials of one side.

    Args:
        materials: what pictures are made of.

    Attributes:
        problem: why there can be no pictures: they can.
    """

    def __init__(self, materials: Materials) -> None:
        self.materials, self.problem = materials, ""
        self.web_photos, self.large, self.cameras = materials.photos, materials.large, materials.cameras
        self.screens, self.pages = materials.screens, materials.pages

    @property
    def photos(self) -> int:
        """How many photos, screens and pages there are."""
        banks = (self.web_photos, self.cameras, self.screens, self.pages)
        return sum(len(bank.paths) for bank in banks if bank is not None)

    def made(self, seed: int, counts: Mapping[str, int], part: int) -> Iterator[Made]:
        """The pictures of `slots` that can be made."""
        for slot in self.slots(seed, counts, part):
            made = slot.make()
            if made is not None:
                yield made

    def slots(self, seed: int, counts: Mapping[str, int], part: int) -> Iterator[Slot]:
        """Untouched pictures (`untouched`), then so many of each group, by the names of the methods that make one."""
        yield from self.untouched(part)
        needed = {"native": self.cameras, "documents": self.pages}
        for method, count in counts.items():
            group = method.replace("_", "-")
            for index in range(count if needed.get(method, self) is not None else 0):
                forged = method not in ("native", "web") or index % 2 == 1
                yield Slot(f"{group}/{index:04}", group, forged, partial(self._attempt, method, seed, index))

    def most(self, counts: Mapping[str, int]) -> int:
        """How many pictures `made` makes, at most."""
        screens = sum(-(-len(bank.paths) // 2) for bank in (self.screens, self.pages) if bank)
        cameras = len(self.cameras.paths) if self.cameras else 0
        return cameras + 2 * len(self.web_photos.paths) + screens + sum(counts.values())

    def untouched(self, part: int) -> Iterator[Slot]:
        """Cameras' files, web photos, the same compressed once more; of screens, drawings and pages every second one.

        Args:
            part: 0 or 1: which of the screens.
        """
        for group, role, bank in (
            ("camera", "cameras", self.cameras),
            ("web", "", self.web_photos),
            ("recompressed", "", self.web_photos),
            ("screen", "screens", self.screens),
            ("screen", "pages", self.pages),
        ):
            for number, path in enumerate(bank.paths if bank else ()):
                if group != "screen" or number % 2 == part:
                    make = partial(_untouched, bank, number, group, self._name(role, path) if role else path.name)
                    yield Slot(f"untouched/{role or group}-{number:04}", group, False, make)

    def _attempt(self, method: str, seed: int, index: int) -> Made | None:
        made: Made | None = None
        with suppress(*EDIT_ERRORS):  # a damaged or odd photo
            made = getattr(self, method)(np.random.default_rng([seed, index]), index)
        return made

    def native(self, rng: np.random.Generator, index: int) -> Made:
        """A piece of a camera's photo, untouched and forged in turn, at its own resolution."""
        assert self.cameras is not None
        number = index // 2 % len(self.cameras.paths)
        source = self._name("cameras", self.cameras.paths[number])
        if index % 2 == 0:
            return untouched(on_grid(self.cameras.photo(number), NATIVE, rng), "native", source)
        kind = NATIVE_KINDS[int(rng.integers(len(NATIVE_KINDS)))]
        made = forge_native(self._same_half(self.cameras, number), rng, *NATIVE, kind, number=0)
        return Made(made.pixels, made.mask, "native", made.kind, source)

    def web(self, rng: np.random.Generator, index: int) -> Made:
        """A forged or authentic picture of SIZES from web photos, with equal histories."""
        half, size = index // 2 % 2, SIZES[index // 4 % len(SIZES)]
        bank = self._half(half, size)
        kind = str(rng.choice(KINDS, p=KIND_SHARES)) if index % 2 else "authentic"
        made = forge(bank, rng, *size, kind)
        return Made(made.pixels, made.mask, "web", made.kind, bank.paths[made.photos[0]].name)

    def copy_moves(self, rng: np.random.Generator, index: int) -> Made | None:
        """A copy-move of 512² and more, saved once as PNG or JPEG."""
        bank = self.large if index % 2 or self.cameras is None else self.cameras
        able = [i for i in range(len(bank.paths)) if min(bank.size(i)) >= COPIED]
        if not able:
            return None
        number = int(rng.choice(able))
        made = forge_native(bank, rng, *NATIVE, "copy_move", number=number)
        return Made(made.pixels, made.mask, "copy-moves", made.kind, bank.paths[number].name)

    def splices(self, rng: np.random.Generator, index: int) -> Made:
        """Two to four pieces in a picture of 384×256."""
        made = forge(self.web_photos, rng, 256, 384, "splices", largest=0.2)
        return Made(made.pixels, made.mask, "splices", made.kind, self.web_photos.paths[made.photos[0]].name)

    def documents(self, rng: np.random.Generator, index: int) -> Made:
        """A page with some of its words changed."""
        assert self.pages is not None
        number = int(rng.integers(len(self.pages.paths)))
        made = forge_native(Photographed(self.pages, rng, number), rng, *NATIVE, "document", number=number)
        return Made(made.pixels, made.mask, "documents", made.kind, self._name("pages", self.pages.paths[number]))

    def _name(self, role: str, path: Path) -> str:
        return self.materials.names[role](path)

    def _half(self, half: int, size: tuple[int, int]) -> SourcePhotos:
        """The web photos of one half that have about as many pixels as a sample or more; small ones may come of any."""
        pixels, bank = size[0] * size[1], self.web_photos
        kept = [
            number
            for number, path in enumerate(bank.paths)
            if half_of(path.name) == half and (pixels <= 400_000 or np.prod(bank.size(number)) >= 0.8 * pixels)
        ]
        return bank.part(kept)

    def _same_half(self, bank: SourcePhotos, number: int) -> SourcePhotos:
        """That photo first, and after it those of its half."""
        halves = [half_of(self._name("cameras", path)) for path in bank.paths]
        return bank.part([number, *(i for i, half in enumerate(halves) if half == halves[number] and i != number)])


def small_regions(huge: SourcePhotos, count: int) -> Iterator[Slot]:
    """Forgeries of SMALL_SIZE with regions under SMALL of the area, from large photos."""
    for index in range(count):
        yield Slot(f"small regions/{index:04}", "small regions", True, partial(_small_region, huge, index))


def _small_region(huge: SourcePhotos, index: int) -> Made:
    rng = np.random.default_rng([SMALL_SEED, index])
    while True:
        made: Forgery = forge(huge, rng, *SMALL_SIZE, str(rng.choice(KINDS, p=KIND_SHARES)))
        if 0 < made.mask.mean() < SMALL:
            return Made(made.pixels, made.mask, "small regions", made.kind, huge.paths[made.photos[0]].name)


def _untouched(bank: SourcePhotos | None, number: int, group: str, source: str) -> Made:
    """A photo as it is, or compressed once more."""
    assert bank is not None
    pixels = bank.photo(number)
    if group == "recompressed":
        rng = np.random.default_rng([5, number])
        pixels = jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 95)))
    return untouched(pixels, group, source)


def untouched(pixels: Pixels, group: str, source: str) -> Made:
    """A picture as it is."""
    return Made(pixels, np.zeros(pixels.shape[:2], bool), group, "authentic", source)


def half_of(source: str) -> int:
    """0 or 1, from the name of a source alone."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).digest()[31] % 2


def on_grid(photo: Pixels, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """A piece cut on the grid of 8×8 blocks."""
    top, left = (int(rng.integers(max(0, a - b) // 8 + 1)) * 8 for a, b in zip(photo.shape[:2], size, strict=True))
    return np.ascontiguousarray(photo[top : top + size[0], left : left + size[1]])
