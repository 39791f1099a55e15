"""The source photos of `clue forge`: found and listed first, decoded in a process of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.evidence.formats import claimed_type, is_picture
from clue_cli.evidence.item import Item, Photo, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.walk import WalkOptions, check_paths, open_file, walk
from model.data.source_photos import LONGEST, Cutout, Size, proportions_differ
from model.images.folders import is_forge_output
from model.images.masks import from_grey
from model.images.pairing import Leftovers, PhotoIndex, Place, inner_names, real, without_masks, without_photos
from model.images.pixels import OVER_WHITE

SMALLEST_SIDE, LARGEST_SIDE = 64, 30_000
"""Pixels; smaller photos hold no edit worth finding, and OpenCV moves no larger ones."""


class PhotoFailure(Exception):
    """A photo or a mask that cannot be used; args are its locator and the reason, both printable."""


@dataclass(frozen=True, slots=True)
class Found:
    """Files below the given paths whose names claim a picture.

    Attributes:
        items: (locator, path, bytes), in the order of the walk.
        failures: (locator, reason) of what could not be reached.
        left_out: folders that `clue forge` wrote: what is in them is not listed.
    """

    items: tuple[tuple[str, Path, int], ...]
    failures: tuple[tuple[str, str], ...]
    left_out: tuple[Path, ...] = ()

    def digest(self) -> str:
        """Which files these are, by locator and size: SHA-256, hex."""
        lines = (f"{locator}\0{size}\n" for locator, _, size in self.items)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def find(paths: Sequence[Path], *, hidden: bool, exclude: Path | None) -> Found:
    """List the pictures below the paths; archives are not opened, and the output of `clue forge` is left out.

    Args:
        hidden: also hidden files and folders.
        exclude: the folder that is written to.

    Raises:
        NothingToScanError: a path does not exist, or there is no picture.
    """
    check_paths(paths)
    items, failures = [], []
    left_out: dict[Path, None] = {}

    @cache
    def output(folder: Path) -> Path | None:
        """The folder, or the outermost one that it is in below the paths, that `clue forge` wrote."""
        above = None if folder in paths or folder == folder.parent else output(folder.parent)
        return above or (folder if is_forge_output(folder) else None)

    for event in walk(paths, WalkOptions(hidden=hidden, archive_depth=0, exclude=exclude)):
        match event:
            case Item(locator=locator, path=Path() as path, size=size) if is_picture(claimed_type(locator)):
                made = None if path in paths else output(path.parent)
                if made is None:
                    items.append((locator, path, size or 0))
                else:
                    left_out[made] = None
            case Unreadable(locator=locator, message=message) if is_picture(claimed_type(locator)):
                failures.append((locator, message))
    if not items:
        shown = ", ".join(str(path) for path in paths)
        made_here = f", only what `clue forge` wrote ({', '.join(map(str, left_out))})" if left_out else ""
        raise NothingToScanError(
            f"There is no picture to forge from in {shown}{made_here}.",
            "Pictures are recognized by their names here (.jpg, .png, …); archives are not opened.",
        )
    return Found(tuple(items), tuple(failures), tuple(left_out))


def apart(photos: Found, paths: Sequence[Path], masks: Found, folder: Path) -> tuple[Found, Found]:
    """The photos without the masks among them, and the masks without the photos among them.

    Args:
        photos: below `paths`.
        masks: below `folder`.

    Raises:
        UsageError: both are looked for in one folder, where nothing distinguishes them.
    """
    if real(folder) in map(real, paths):
        raise UsageError(f"{folder} is given for the photos and for the masks.", "Put the masks in a folder below it.")
    listed = [path for _, path, _ in photos.items]
    kept = set(without_masks(listed, paths, [(folder, lambda path: True)]))
    items = tuple(item for item in photos.items if item[1] in kept)
    own = set(without_photos([path for _, path, _ in masks.items], folder, [path for _, path, _ in items], paths))
    others = tuple(item for item in masks.items if item[1] in own)
    return replace(photos, items=items), replace(masks, items=others)


def match_masks(photos: Found, masks: Found) -> tuple[tuple[Cutout, ...], list[str]]:
    """The masks that belong to a photo: whose name is the photo's, alone or between underscores.

    Also returns those that belong to none or to several, counted, in words.

    `cat.png`, `cat_2.png` and `train_cat_7.png` belong to `cat.jpg`, the longest such name counts. Where several
    photos have one name, only masks in a folder of the same path below theirs belong to one of them.
    """
    index = PhotoIndex([_place(locator) for locator, _, _ in photos.items])
    cutouts: list[Cutout] = []
    left = Leftovers([], [])
    for locator, path, _ in masks.items:
        owners = index.find(_place(locator), inner_names(Path(locator).stem))
        if len(owners) == 1:
            cutouts.append(Cutout(owners[0], path))
        else:
            (left.shared if owners else left.nobodys).append(locator)
    naming = "a mask is named after its photo, as in cat_2.png for cat.jpg"
    placing = "such a mask lies in a folder of the same path as its photo's"
    return tuple(cutouts), left.words(len(masks.items), "masks", naming, placing)


def _place(locator: str) -> Place:
    path = Path(locator)
    return Place(path.stem, [Path(*path.parts[1:-1])])


class SandboxReader:
    """Decodes photos, as displayed, in a process of its own, within limits; what failed once is not tried again.

    Args:
        photos: what may be asked for.
        pool: decodes; one worker is enough.
        enlarged: photos are enlarged to a size, the longer side with the shorter one; so long ones cannot be used.
    """

    def __init__(self, photos: Found, pool: DecodePool, *, enlarged: bool = False) -> None:
        self._locators = {path: locator for locator, path, _ in reversed(photos.items)}
        self._pool, self._enlarged = pool, enlarged
        self._failed: dict[Path, PhotoFailure] = {}

    def photo(self, path: Path, size: Size | None = None) -> NDArray[np.uint8]:
        """All pixels, H×W×3 uint8.

        Raises:
            PhotoFailure: it cannot be decoded, or is too small or too large.
        """
        if path in self._failed:
            raise self._failed[path]
        try:
            return self._fitting(self._locators[path], path)
        except PhotoFailure as failure:  # once is enough: a file can cost a decoder its life, or a minute
            self._failed[path] = failure.with_traceback(None)
            raise

    def object_mask(self, path: Path, photo: Path, size: Size) -> NDArray[np.bool_]:
        """A mask of an object in a photo, H×W bool, the size of the photo.

        Raises:
            PhotoFailure: it cannot be decoded, has another shape than its photo, is transparent, or marks nothing.
        """
        from PIL import Image

        height, width = size
        locator = f"{self._locators[photo]}, mask {path.name.encode('unicode_escape').decode()}"
        decoded = self._decoded(locator, path)
        if OVER_WHITE in decoded.decoding:
            raise PhotoFailure(locator, "The mask is transparent in places; expected white on black.")
        grey = decoded.displayed(decoded.pixels).max(axis=2)
        if proportions_differ((grey.shape[0], grey.shape[1]), size):
            raise PhotoFailure(locator, f"The mask is {grey.shape[1]}×{grey.shape[0]}, the photo {width}×{height}.")
        try:
            mask = from_grey(grey, strict=True)
        except ValueError as error:
            raise PhotoFailure(locator, f"{str(error).capitalize()}.") from error
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        if not mask.any():
            raise PhotoFailure(locator, "The mask marks nothing.")
        return mask

    def _fitting(self, locator: str, path: Path) -> NDArray[np.uint8]:
        decoded = self._decoded(locator, path)
        pixels = np.ascontiguousarray(decoded.displayed(decoded.pixels))
        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise PhotoFailure(
                locator, f"{width}×{height} pixels; at least {SMALLEST_SIDE}×{SMALLEST_SIDE} are needed."
            )
        if max(height, width) > LARGEST_SIDE:
            raise PhotoFailure(locator, f"{width}×{height} pixels; a side may have {LARGEST_SIDE}.")
        if self._enlarged and max(height, width) > LONGEST * min(height, width):
            raise PhotoFailure(
                locator, f"{width}×{height} pixels; with --size, one side may be {LONGEST} times the other."
            )
        return pixels

    def _decoded(self, locator: str, path: Path) -> Photo:
        read = read_item(Item(locator, None, path, partial(open_file, path)))
        if not isinstance(read, tuple):
            raise PhotoFailure(locator, read.message if isinstance(read, Unreadable) else "It is not a picture.")
        photo, reason = None, "It holds no picture."
        for result in self._pool.decode(locator, *read):  # to the end, or the decoder is started again
            if isinstance(result, Photo):
                photo = photo or result
            elif photo is None:
                reason = result.message
        if photo is None:
            raise PhotoFailure(locator, reason)
        return photo
