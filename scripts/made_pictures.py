"""Pictures that no training of `mini` saw: untouched ones of every kind, and forgeries made of them.

For `finish_mini.py`, which fits the operating point, the score and the thresholds on some, and `measure_mini.py`, which
measures on others. All come from the same photos, so intervals are over photos, cameras and templates: a picture's
`source`. Two halves of the sources never share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mini_samples import LARGE_SIDE, Photographed, camera_model, cameras, photos, plain
from numpy.typing import NDArray

from model.data.forge import Forgery, forge, forge_native
from model.data.history import jpeg
from model.data.source_photos import SourcePhotos

Pixels = NDArray[np.uint8]
KINDS = ("splice", "copy_move", "removal", "local_edit")
KIND_SHARES = (0.45, 0.25, 0.15, 0.15)
SIZES = ((256, 384), (384, 256), (320, 320), (480, 640), (768, 1024), (1072, 1600))
SMALL_SIZE, SMALL = (768, 1024), 0.01
SMALL_SEED = 91
NATIVE = (768, 1024)
"""Largest piece of a photo that is cut out as its camera wrote it."""
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
    mask: NDArray[np.bool_]
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
        return hashlib.sha256(self.source.encode()).digest()[31] % 2


class HeldOut:
    """What no training saw.

    Args:
        data: holds photos/.
        screens: what make_screens.py wrote; None: there are none.
    """

    def __init__(self, data: Path, screens: Path | None) -> None:
        self.photos = photos(data, validation=True)
        self.large = of_side(self.photos, LARGE_SIDE)
        self.huge = photos(data, validation=True, folders=("scenes",))
        self.cameras = cameras(data, validation=True)
        self.screens = plain(screens / "test") if screens else None
        self.pages = plain(screens / "pages" / "test") if screens else None

    def untouched(self, part: int) -> Iterator[Made]:
        """Cameras' files, web photos, the same compressed once more; of screens, drawings and pages every second one.

        Args:
            part: 0 or 1: which of the screens.
        """
        for number, path in enumerate(self.cameras.paths):
            yield untouched(self.cameras.photo(number), "camera", camera_model(path))
        for number, path in enumerate(self.photos.paths):
            yield untouched(self.photos.photo(number), "web", path.name)
        for number, path in enumerate(self.photos.paths):
            rng = np.random.default_rng([5, number])
            again = jpeg(np.ascontiguousarray(self.photos.photo(number)), rng, float(rng.uniform(60, 95)))
            yield untouched(again, "recompressed", path.name)
        for bank in (self.screens, self.pages):
            for number, path in enumerate(bank.paths if bank else ()):
                if number % 2 == part:
                    yield untouched(bank.photo(number), "screen", template(path))  # type: ignore[union-attr]

    def native(self, seed: int, count: int) -> Iterator[Made]:
        """Pieces of cameras' photos, untouched and forged in turn, at their own resolution."""
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            number = index // 2 % len(self.cameras.paths)
            source = camera_model(self.cameras.paths[number])
            if index % 2 == 0:
                piece = on_grid(self.cameras.photo(number), NATIVE, rng)
                yield Made(piece, np.zeros(piece.shape[:2], bool), "native", "authentic", source)
                continue
            kind = NATIVE_KINDS[int(rng.integers(len(NATIVE_KINDS)))]
            made = forge_native(self._same_half(self.cameras, number), rng, *NATIVE, kind, number=0)
            yield Made(made.pixels, made.mask, "native", made.kind, source)

    def web(self, seed: int, count: int) -> Iterator[Made]:
        """Forged and authentic pictures of SIZES from web photos, with equal histories."""
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            half, size = index // 2 % 2, SIZES[index // 4 % len(SIZES)]
            bank = self._half(half, size)
            kind = str(rng.choice(KINDS, p=KIND_SHARES)) if index % 2 else "authentic"
            made = forge(bank, rng, *size, kind)
            yield Made(made.pixels, made.mask, "web", made.kind, bank.paths[made.photos[0]].name)

    def copy_moves(self, seed: int, count: int) -> Iterator[Made]:
        """Copy-moves of 512² and more, saved once as PNG or JPEG."""
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            bank = self.large if index % 2 else self.cameras
            number = int(rng.choice([i for i in range(len(bank.paths)) if min(bank.size(i)) >= 512]))
            made = forge_native(bank, rng, *NATIVE, "copy_move", number=number)
            yield Made(made.pixels, made.mask, "copy-moves", made.kind, bank.paths[number].name)

    def splices(self, seed: int, count: int) -> Iterator[Made]:
        """Two to four pieces in pictures of 384×256."""
        for index in range(count):
            made = forge(self.photos, np.random.default_rng([seed, index]), 256, 384, "splices", largest=0.2)
            yield Made(made.pixels, made.mask, "splices", made.kind, self.photos.paths[made.photos[0]].name)

    def documents(self, seed: int, count: int) -> Iterator[Made]:
        """Pages with some of their words changed."""
        if self.pages is None:
            return
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            number = int(rng.integers(len(self.pages.paths)))
            made = forge_native(Photographed(self.pages, rng, number), rng, *NATIVE, "document", number=number)
            yield Made(made.pixels, made.mask, "documents", made.kind, template(self.pages.paths[number]))

    def small(self, count: int) -> Iterator[Made]:
        """Forgeries of SMALL_SIZE with regions under SMALL of the area."""
        for index in range(count):
            rng = np.random.default_rng([SMALL_SEED, index])
            while True:
                made: Forgery = forge(self.huge, rng, *SMALL_SIZE, str(rng.choice(KINDS, p=KIND_SHARES)))
                if 0 < made.mask.mean() < SMALL:
                    source = self.huge.paths[made.photos[0]].name
                    yield Made(made.pixels, made.mask, "small regions", made.kind, source)
                    break

    def _half(self, half: int, size: tuple[int, int]) -> SourcePhotos:
        """The web photos of one half that have about as many pixels as a sample or more; small ones may come of any."""
        pixels = size[0] * size[1]
        kept = [
            number
            for number, path in enumerate(self.photos.paths)
            if untouched(self.photos.photo(0), "", path.name).half == half
            and (pixels <= 400_000 or np.prod(self.photos.size(number)) >= 0.8 * pixels)
        ]
        return self.photos.part(kept)

    def _same_half(self, bank: SourcePhotos, number: int) -> SourcePhotos:
        """That photo first, and after it those of its half."""
        pixels = bank.photo(number)
        halves = [untouched(pixels, "", camera_model(path)).half for path in bank.paths]
        return bank.part([number, *(i for i, half in enumerate(halves) if half == halves[number] and i != number)])


def untouched(pixels: Pixels, group: str, source: str) -> Made:
    """A picture as it is."""
    return Made(pixels, np.zeros(pixels.shape[:2], bool), group, "authentic", source)


def template(path: Path) -> str:
    """What a screen or a page was drawn by, from its name."""
    return path.stem.split("_")[0]


def of_side(bank: SourcePhotos, side: int) -> SourcePhotos:
    """The photos with one side as long."""
    return bank.part([i for i in range(len(bank.paths)) if max(bank.size(i)) >= side])


def on_grid(photo: Pixels, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """A piece cut on the grid of 8×8 blocks."""
    top, left = (int(rng.integers(max(0, a - b) // 8 + 1)) * 8 for a, b in zip(photo.shape[:2], size, strict=True))
    return np.ascontiguousarray(photo[top : top + size[0], left : left + size[1]])


def chained(parts: Sequence[Iterator[Made]]) -> Iterator[Made]:
    """One after the other."""
    for part in parts:
        yield from part
