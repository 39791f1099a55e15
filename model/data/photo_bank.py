"""Photos and object cut-outs to make forgeries from, split by photo so that nothing held out is ever trained on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.object_masks import find_photos, match_masks
from model.data.recent_photos import RecentPhotos
from model.images.masks import Mask, read_mask
from model.images.pixels import DamagedFileError, picture_size, read_pixels

Pixels = NDArray[np.uint8]
LARGEST_MASK = 178.0
"""Millions of pixels: Pillow refuses more."""
STRETCHED = 0.02
"""By so much the proportions of an object mask may differ from those of its photo."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object mask that belongs to one photo of the bank."""

    photo: int
    path: Path


@dataclass(slots=True)
class PhotoBank:
    """Authentic photos: decoded once into one file that all workers map into memory, or each when it is drawn.

    Attributes:
        paths: the photos.
        cutouts: object masks, white = object, of the proportions of their photo.
        cache: folder of the file that the photos are decoded into.
        left_out: photos that could not be read while the bank was prepared, and why.
        unmatched: object masks that belong to no photo, or to several, and what else of the folders is not read, in
            words.
        sizes: height and width of each photo, once they are known.
    """

    paths: list[Path]
    cutouts: list[Cutout]
    cache: Path
    left_out: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    _offsets: list[int] = field(default_factory=list)
    _pixels: Pixels | None = None
    _recent: RecentPhotos | None = None

    @property
    def prepared(self) -> bool:
        """Whether photos can be drawn."""
        return bool(self._offsets) or self._recent is not None

    def prepare(self) -> None:
        """Decode every photo into the cache; photos that cannot be read are left out of the bank and listed.

        A bank that is prepared, or a part of one, stays as it is.

        Raises:
            ValueError: no photo could be read.
        """
        if self.prepared:
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        offsets: list[int] = []
        with (self.cache / "pixels.bin").open("wb") as file:
            for pixels in self._each():
                offsets.append(file.tell())
                file.write(np.ascontiguousarray(pixels).data)
        if not offsets:
            raise ValueError("no photo could be read")
        self._offsets = offsets

    def prepare_on_demand(self, recent: RecentPhotos | None = None, *, decode: bool = False) -> None:
        """Leave the photos where they are, to be decoded when they are drawn; disk and memory hold no more for more.

        Args:
            recent: decodes them and keeps the last ones.
            decode: decode each once, so that the same ones are left out as by `prepare`, and the same samples drawn;
                otherwise the headers alone are read, and only those that are not known (`sizes`).

        Raises:
            ValueError: no photo could be read.
        """
        if self.prepared:
            return
        if decode:
            for _ in self._each():
                pass
        elif not self.sizes:
            sizes = self._sizes(self.left_out)
            self.sizes = [size for size in sizes if size is not None]
            self._keep([number for number, size in enumerate(sizes) if size is not None])
        if not self.paths:
            raise ValueError("no photo could be read")
        self._recent = recent or RecentPhotos()

    def decoded_bytes(self) -> int:
        """How much room `prepare` takes, as the headers say."""
        return sum(3 * size[0] * size[1] for size in self.sizes or self._sizes([]) if size is not None)

    def part(self, kept: Sequence[int]) -> PhotoBank:
        """The bank of some of the photos, by number, and their cut-outs; what is decoded stays decoded."""
        bank = PhotoBank(list(self.paths), list(self.cutouts), self.cache, unmatched=list(self.unmatched))
        bank._keep(kept)
        bank.sizes = [self.sizes[i] for i in kept] if self.sizes else []
        bank._offsets = [self._offsets[i] for i in kept] if self._offsets else []
        bank._recent = self._recent
        return bank

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of photo number `index` of a bank that is prepared."""
        return self.sizes[index]

    def photo(self, index: int) -> Pixels:
        """Photo number `index`, H×W×3 uint8, read-only.

        Raises:
            DamagedFileError: it is decoded on demand, and damaged.
        """
        if self._recent is not None:
            return self._recent.photo(self.paths[index], self.sizes[index])
        if self._pixels is None:
            self._pixels = np.memmap(self.cache / "pixels.bin", dtype=np.uint8, mode="r")
        height, width = self.sizes[index]
        start = self._offsets[index]
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def _each(self) -> Iterator[Pixels]:
        """The pixels of each photo, one after the other; afterwards the bank holds those that could be read."""
        kept: list[int] = []
        self.sizes = []
        for index, path in enumerate(self.paths):
            try:
                pixels = read_pixels(path, math.inf)
            except DamagedFileError as error:
                self.left_out.append(str(error))
                continue
            kept.append(index)
            self.sizes.append((pixels.shape[0], pixels.shape[1]))
            yield pixels
        self._keep(kept)

    def _sizes(self, problems: list[str]) -> list[tuple[int, int] | None]:
        """The sizes that the headers say; None: not readable, which is added to the problems."""
        sizes: list[tuple[int, int] | None] = []
        for path in self.paths:
            try:
                sizes.append(picture_size(path, math.inf))
            except DamagedFileError as error:
                problems.append(str(error))
                sizes.append(None)
        return sizes

    def _keep(self, kept: Sequence[int]) -> None:
        """Leave out all photos but these, by number, and their cut-outs."""
        number = {old: new for new, old in enumerate(kept)}
        self.paths = [self.paths[i] for i in kept]
        self.cutouts = [Cutout(number[c.photo], c.path) for c in self.cutouts if c.photo in number]

    def object_mask(self, cutout: Cutout) -> Mask:
        """The cut-out's mask, H×W bool, the size of its photo; white is what it is in the masks of `pairs`.

        Raises:
            DamagedFileError: it cannot be read, has other proportions than its photo, or marks nothing.
        """
        height, width = self.sizes[cutout.photo]
        check_proportions(cutout.path, picture_size(cutout.path, LARGEST_MASK), (height, width))
        mask = read_mask(cutout.path, max_megapixels=LARGEST_MASK, strict=True, size=(height, width), fit=True)
        if not mask.any():
            raise DamagedFileError(f"{cutout.path}: the mask marks nothing")
        return mask


def check_proportions(mask: Path, found: tuple[int, int], photo: tuple[int, int]) -> None:
    """Compare the height and width of an object mask with those of its photo.

    Raises:
        DamagedFileError: one is not the other, scaled.
    """
    if abs(found[0] * photo[1] / (found[1] * photo[0]) - 1) > STRETCHED:
        raise DamagedFileError(f"{mask}: the mask has {found[1]}×{found[0]} pixels, its photo {photo[1]}×{photo[0]}")


def held_out(path: Path, share: float) -> bool:
    """Whether a photo belongs to the held-out share: decided by its name alone, so that it never changes sides."""
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < share


def bank_of(
    photos: Sequence[Path], mask_folders: Sequence[tuple[Path, str]], cache: Path, *, share: float, validation: bool
) -> PhotoBank:
    """The training or the validation side of a bank.

    Args:
        photos: folders of authentic photos.
        mask_folders: (folder, prefix): masks named `<prefix><photo stem>[_anything].png`, as `match_masks` has it.
        share: share of the photos that is held out for validation.
        validation: which side is wanted.
    """
    problems: list[str] = []
    found = find_photos(photos, mask_folders, problems)
    matched = match_masks(found, photos, mask_folders)
    problems = list(dict.fromkeys([*problems, *matched.problems]))
    side = [number for number, path in enumerate(found) if held_out(path, share) == validation]
    cutouts = [Cutout(number, mask) for number, mask in matched.masks]
    return PhotoBank(found, cutouts, cache, unmatched=problems).part(side)
