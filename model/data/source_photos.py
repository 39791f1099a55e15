"""Source photos: the authentic photos, with masks of objects in them, that forgeries are made from.

They are listed first and decoded when they are drawn; the last ones are kept.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from model.data.mix import Forge, Split, Validation, photo_name, split_of_photo
from model.images.folders import find_pictures
from model.images.masks import Mask, read_mask
from model.images.pairing import Leftovers, PhotoIndex, Place, leading_names, without_masks, without_photos
from model.images.pixels import DamagedFileError, Pixels, opened, picture_size, rgb, stored_size

KEPT_BYTES = 128_000_000
"""How many bytes of decoded photos each process keeps, besides the last photo."""
SMALLEST_SIDE, LONGEST = 32, 16
"""Of a source photo: pixels of the shorter side, and how many times it goes into the longer one. A crop needs the
shorter side enlarged to its own, and the longer one with it."""
LARGEST_MASK = 178.0
"""Millions of pixels: Pillow refuses more."""
STRETCHED = 0.02
"""By how much the proportions of an object mask may differ from those of its photo."""
MASK_SUFFIX = ".png"

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """The mask of an object, and the number of the photo it belongs to."""

    photo: int
    path: Path


class PhotoReader(Protocol):
    """Decodes photos and the masks of objects in them."""

    def photo(self, path: Path, size: Size | None) -> Pixels:
        """All pixels, H×W×3 uint8. `size`: as when it was listed, where that is known."""

    def object_mask(self, path: Path, photo: Path, size: Size) -> Mask:
        """A mask of an object in a photo of a size, H×W bool."""


class SourcePhotos:
    """Source photos by number. What is pickled keeps no decoded photo, so that each worker begins with its own.

    Args:
        paths: the photos.
        cutouts: object masks, white = object, of the proportions of their photo.
        sizes: height and width of each photo; empty: not known before they are decoded.
        reader: decodes them; by default in this process.
        problems: object masks that belong to no photo, or to several, and what else of the folders is not read.
        kept_bytes: how many bytes of decoded photos are kept, besides the last photo.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        cutouts: Sequence[Cutout] = (),
        *,
        sizes: Sequence[Size] = (),
        reader: PhotoReader | None = None,
        problems: Sequence[str] = (),
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.paths, self.cutouts, self.sizes = list(paths), list(cutouts), list(sizes)
        self.problems = list(problems)
        self._recent = _Recent(reader or FileReader(), kept_bytes)

    def part(self, kept: Sequence[int], sizes: Sequence[Size] | None = None) -> SourcePhotos:
        """Some of the photos, by number, and their cut-outs; what is decoded is shared.

        Args:
            sizes: theirs, if they were not known.
        """
        number = {old: new for new, old in enumerate(kept)}
        if sizes is None:
            sizes = [self.sizes[i] for i in kept] if self.sizes else []
        cutouts = [Cutout(number[c.photo], c.path) for c in self.cutouts if c.photo in number]
        part = SourcePhotos([self.paths[i] for i in kept], cutouts, sizes=sizes, problems=self.problems)
        part._recent = self._recent
        return part

    def checked(self, check: Callable[[Path], Size], problems: list[str] | None = None) -> SourcePhotos:
        """Those that pass, with their sizes.

        Args:
            check: the height and width of a photo; raises DamagedFileError where it cannot be used.
            problems: what is wrong with the others is added.
        """
        sizes: dict[int, Size] = {}
        for number, path in enumerate(self.paths):
            try:
                sizes[number] = check(path)
            except DamagedFileError as error:
                if problems is not None:
                    problems.append(str(error))
        return self.part(list(sizes), list(sizes.values()))

    def size(self, index: int) -> Size:
        """Height and width of photo number `index`."""
        if self.sizes:
            return self.sizes[index]
        height, width = self.photo(index).shape[:2]
        return height, width

    def photo(self, index: int) -> Pixels:
        """Photo number `index`, H×W×3 uint8, read-only.

        Raises:
            DamagedFileError: it cannot be decoded; of another reader, its own error.
        """
        return self._recent.photo(self.paths[index], self.sizes[index] if self.sizes else None)

    def object_mask(self, cutout: Cutout) -> Mask:
        """The cut-out's mask, H×W bool, the size of its photo.

        Raises:
            DamagedFileError: it cannot be read, has other proportions than its photo, or marks nothing; of another
                reader, its own error.
        """
        return self._recent.reader.object_mask(cutout.path, self.paths[cutout.photo], self.size(cutout.photo))


class _Recent:
    """Decodes photos and keeps the last ones."""

    def __init__(self, reader: PhotoReader, most: int) -> None:
        self.reader, self.most, self.kept_bytes = reader, most, 0
        self._kept: OrderedDict[Path, Pixels] = OrderedDict()

    def __reduce__(self) -> tuple[type[_Recent], tuple[PhotoReader, int]]:
        return type(self), (self.reader, self.most)

    def photo(self, path: Path, size: Size | None) -> Pixels:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        pixels = self.reader.photo(path, size)
        pixels.flags.writeable = False
        self._kept[path] = pixels
        self.kept_bytes += pixels.nbytes
        while len(self._kept) > 1 and self.kept_bytes > self.most:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels


class FileReader:
    """Decodes in this process, as stored. Raises DamagedFileError."""

    def photo(self, path: Path, size: Size | None) -> Pixels:
        """All pixels; its size is compared before anything is decoded, and after."""
        with opened(path, math.inf) as image:
            found = stored_size(image)
            fits = size is None or found == size
            pixels = rgb(image) if fits else np.empty((0, 0, 3), np.uint8)
        if size is not None and pixels.shape[:2] != size:
            raise DamagedFileError(
                f"{path}: {found[1]}×{found[0]} pixels, not {size[1]}×{size[0]} as when it was listed"
            )
        return pixels

    def object_mask(self, path: Path, photo: Path, size: Size) -> Mask:
        """White is what it is in other masks; the mask is scaled to its photo."""
        check_proportions(path, picture_size(path, LARGEST_MASK), size)
        mask = read_mask(path, max_megapixels=LARGEST_MASK, strict=True, size=size, fit=True)
        if not mask.any():
            raise DamagedFileError(f"{path}: the mask marks nothing")
        return mask


def proportions_differ(found: Size, photo: Size) -> bool:
    """Whether an object mask is not its photo, scaled."""
    return abs(found[0] * photo[1] / (found[1] * photo[0]) - 1) > STRETCHED


def check_proportions(mask: Path, found: Size, photo: Size) -> None:
    """Compare the height and width of an object mask with those of its photo.

    Raises:
        DamagedFileError: one is not the other, scaled.
    """
    if proportions_differ(found, photo):
        raise DamagedFileError(f"{mask}: the mask has {found[1]}×{found[0]} pixels, its photo {photo[1]}×{photo[0]}")


def checked_size(path: Path, max_megapixels: float, read: Callable[[Path, float], Size] = picture_size) -> Size:
    """The height and width of a photo that forgeries can be made from, from its header.

    Args:
        max_megapixels: the limit on its size.
        read: reads the size within the limit.

    Raises:
        DamagedFileError: not readable, too large, too small or too long.
    """
    size = read(path, max_megapixels)
    shorter, longer = sorted(size)
    if shorter < SMALLEST_SIDE or longer > LONGEST * shorter:
        raise DamagedFileError(
            f"{path}: {size[1]}×{size[0]} pixels; to forge from, a photo needs {SMALLEST_SIDE} on each side, "
            f"and one side at most {LONGEST} times the other"
        )
    return size


def find_source_photos(folders: Sequence[Path], mask_folders: Sequence[tuple[Path, str]] = ()) -> SourcePhotos:
    """All pictures below the folders, sorted, each once, with their cut-outs; sizes are not known yet.

    A mask is named `<prefix><photo stem>[_anything].png`; the longest stem counts. Where several photos have that
    stem, it belongs to the one whose path below its folder is the mask's below its own. Masks among the photos are no
    photos, and the output of `clue forge` is left out.

    Args:
        folders: of photos.
        mask_folders: (folder, prefix) of masks.
    """
    problems: list[str] = []
    found = sorted({path for folder in folders for path in find_pictures(folder, problems, forged=False)})
    photos = without_masks(found, folders, [(home, partial(_is_mask, prefix=prefix)) for home, prefix in mask_folders])
    index = PhotoIndex([Place(photo.stem, _below(photo, folders)) for photo in photos])
    listed = {
        home: without_photos(find_pictures(home, problems), home, photos, folders)
        for home in dict.fromkeys(home for home, _ in mask_folders)
    }
    cutouts: list[Cutout] = []
    used, shared = set[Path](), set[Path]()
    for home, prefix in mask_folders:
        for mask in listed[home]:
            if _is_mask(mask, prefix):
                stem = mask.stem.removeprefix(prefix)
                owners = index.find(Place(stem, [mask.parent.relative_to(home)]), leading_names(stem))
                if len(owners) == 1:
                    cutouts.append(Cutout(owners[0], mask))
                    used.add(mask)
                elif owners:
                    shared.add(mask)
    for home, masks in listed.items():
        prefixes = dict.fromkeys(prefix for other, prefix in mask_folders if other == home)
        expected = " or ".join(f"{prefix}<photo stem>[_anything]{MASK_SUFFIX}" for prefix in prefixes)
        left = [mask for mask in masks if mask not in used]
        names = {mask: str(mask.relative_to(home)) for mask in left}
        leftovers = Leftovers(
            [names[mask] for mask in left if mask not in shared], [names[mask] for mask in left if mask in shared]
        )
        words = leftovers.words(
            len(masks), "object masks", f"expected {expected}", "expected a folder of the same path as the photo's"
        )
        problems += [f"{home}: {line}" for line in words]
    return SourcePhotos(photos, cutouts, problems=list(dict.fromkeys(problems)))


def of_split(
    photos: SourcePhotos, split: Split, validation: Validation, pattern: re.Pattern[str] | None = None
) -> SourcePhotos:
    """The photos of one side of the split. `pattern` finds the name in a stem that decides (`photo_name`)."""
    names = [photo_name(pattern, path.stem) for path in photos.paths]
    return photos.part([i for i, name in enumerate(names) if split_of_photo(name, validation) == split])


def photos_of(data: Forge) -> SourcePhotos:
    """All photos of a `forge` source."""
    return find_source_photos(data.photos, [(masks.folder, masks.prefix) for masks in data.masks])


def _is_mask(path: Path, prefix: str) -> bool:
    return path.suffix.lower() == MASK_SUFFIX and path.stem.startswith(prefix)


def _below(photo: Path, folders: Sequence[Path]) -> list[Path]:
    """The photo's folder as seen from those it was found in."""
    return [photo.parent.relative_to(folder) for folder in folders if photo.is_relative_to(folder)]
