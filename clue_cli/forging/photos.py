"""The photos to forge from: found and listed first, decoded when one is needed, a few kept."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.evidence.formats import claimed_type, is_picture
from clue_cli.evidence.item import Item, Photo, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.walk import WalkOptions, check_paths, open_file, walk
from model.data.object_masks import NAMED
from model.data.photo_bank import Cutout
from model.data.photos_to_forge import LONGEST
from model.images.masks import from_grey
from model.images.pixels import OVER_WHITE

SMALLEST_SIDE, LARGEST_SIDE = 64, 30_000
"""Pixels; smaller photos hold no edit worth finding, and OpenCV moves no larger ones."""
KEPT_PIXELS = 64_000_000
"""So many pixels of decoded photos are kept at most, and always the last photo."""
_PARTS = 16  # a mask's name is taken apart at underscores into so many parts at most


class PhotoFailure(Exception):
    """A photo or a mask that cannot be used; args are its locator and the reason, both printable."""


@dataclass(frozen=True, slots=True)
class Found:
    """Files below the given paths whose names claim a picture.

    Attributes:
        items: (locator, path, bytes), in the order of the walk.
        failures: (locator, reason) of what could not be reached.
    """

    items: tuple[tuple[str, Path, int], ...]
    failures: tuple[tuple[str, str], ...]

    def digest(self) -> str:
        """Which files these are, by locator and size: SHA-256, hex."""
        lines = (f"{locator}\0{size}\n" for locator, _, size in self.items)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def find(paths: Sequence[Path], *, hidden: bool, exclude: Path | None) -> Found:
    """List the pictures below the paths; archives are not opened.

    Args:
        hidden: also hidden files and folders.
        exclude: the folder that is written to.

    Raises:
        NothingToScanError: a path does not exist, or there is no picture.
    """
    check_paths(paths)
    items, failures = [], []
    for event in walk(paths, WalkOptions(hidden=hidden, archive_depth=0, exclude=exclude)):
        match event:
            case Item(locator=locator, path=Path() as path, size=size) if is_picture(claimed_type(locator)):
                items.append((locator, path, size or 0))
            case Unreadable(locator=locator, message=message) if is_picture(claimed_type(locator)):
                failures.append((locator, message))
    if not items:
        shown = ", ".join(str(path) for path in paths)
        raise NothingToScanError(
            f"There is no picture to forge from in {shown}.",
            "Pictures are told by their names here (.jpg, .png, …); archives are not opened.",
        )
    return Found(tuple(items), tuple(failures))


def apart(photos: Found, paths: Sequence[Path], masks: Found, folder: Path) -> tuple[Found, Found]:
    """The photos without the masks among them, and the masks without the photos among them.

    Args:
        photos: below `paths`.
        masks: below `folder`.

    Raises:
        UsageError: both are looked for in one folder, and nothing tells which is which.
    """
    home, roots = _real(folder), [_real(path) for path in paths]
    if home in roots:
        raise UsageError(f"{folder} is given for the photos and for the masks.", "Put the masks in a folder below it.")
    if not any(home.is_relative_to(root) or root.is_relative_to(home) for root in roots):
        return photos, masks
    inner = [root for root in roots if root.is_relative_to(home)]

    def is_mask(path: Path) -> bool:
        return path.is_relative_to(home) and not any(path.is_relative_to(root) for root in inner)

    items = tuple(item for item in photos.items if not is_mask(_real(item[1])))
    taken = {_real(path) for _, path, _ in items}
    others = tuple(item for item in masks.items if _real(item[1]) not in taken)
    return Found(items, photos.failures), Found(others, masks.failures)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve, it survives a link loop


@dataclass(frozen=True, slots=True)
class Matched:
    """Masks of objects.

    Attributes:
        cutouts: those that belong to a photo.
        problems: those that belong to none or to several, counted, in words.
    """

    cutouts: tuple[Cutout, ...]
    problems: tuple[str, ...] = ()


def match_masks(photos: Found, masks: Found) -> Matched:
    """The masks that belong to a photo: whose name is the photo's, alone or between underscores.

    `cat.png`, `cat_2.png` and `train_cat_7.png` belong to `cat.jpg`, the longest such name counts. Where several
    photos have one name, only masks in a folder of the same path below theirs belong to one of them.
    """
    by_stem: dict[str, list[int]] = {}
    for number, (locator, _, _) in enumerate(photos.items):
        by_stem.setdefault(Path(locator).stem, []).append(number)
    cutouts: list[Cutout] = []
    nobodys: list[str] = []
    shared: list[str] = []
    for locator, path, _ in masks.items:
        named = next((by_stem[name] for name in _names(Path(locator).stem) if name in by_stem), [])
        numbers = named
        if len(named) > 1:
            numbers = [n for n in named if _folder(photos.items[n][0]) == _folder(locator)]
        if len(numbers) == 1:
            cutouts.append(Cutout(numbers[0], path))
        else:
            (shared if named else nobodys).append(locator)
    problems = (
        (nobodys, "no photo; a mask is named after its photo, as in cat_2.png for cat.jpg"),
        (shared, "several photos of one name; such a mask lies in a folder of the same path as its photo's"),
    )
    count = len(masks.items)
    told = (f"{len(some)} of {count} masks belong to {what}: {_some(some)}" for some, what in problems if some)
    return Matched(tuple(cutouts), tuple(told))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _names(stem: str) -> list[str]:
    """The stem and its parts between underscores, longest first."""
    parts = stem.split("_")[:_PARTS]
    found = {"_".join(parts[a:b]) for a in range(len(parts)) for b in range(a + 1, len(parts) + 1)} - {""}
    return [stem, *sorted(found, key=lambda name: (-len(name), name))]


def _folder(locator: str) -> tuple[str, ...]:
    """The folders below the path that was given."""
    return Path(locator).parts[1:-1]


class PhotoFolder:
    """A `PhotoSource` that decodes on demand, in a process of its own, within limits.

    Args:
        found: the photos.
        cutouts: object masks of them.
        pool: decodes; one worker is enough.
        enlarged: photos are enlarged to a size, the longer side with the shorter one; so long ones cannot be used.
    """

    def __init__(self, found: Found, cutouts: Sequence[Cutout], pool: DecodePool, *, enlarged: bool = False) -> None:
        self._items, self._enlarged = found.items, enlarged
        self._paths = [path for _, path, _ in found.items]
        self._cutouts, self._pool = list(cutouts), pool
        self._kept: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._failed: dict[Path, PhotoFailure] = {}

    @property
    def paths(self) -> Sequence[Path]:
        """The photos."""
        return self._paths

    @property
    def cutouts(self) -> Sequence[Cutout]:
        """Object masks."""
        return self._cutouts

    def locator(self, index: int) -> str:
        """The printable name of a photo."""
        return self._items[index][0]

    def photo(self, index: int) -> NDArray[np.uint8]:
        """Photo number `index`, as displayed, H×W×3 uint8, read-only.

        Raises:
            PhotoFailure: it cannot be decoded, or is too small or too large.
        """
        locator, path, _ = self._items[index]
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        if path in self._failed:
            raise self._failed[path]
        try:
            pixels = self._fitting(locator, path)
        except PhotoFailure as failure:  # once is enough: a file can cost a decoder its life, or a minute
            self._failed[path] = failure.with_traceback(None)
            raise
        pixels.flags.writeable = False
        self._kept[path] = pixels
        while len(self._kept) > 1 and sum(p.size // 3 for p in self._kept.values()) > KEPT_PIXELS:
            self._kept.popitem(last=False)
        return pixels

    def object_mask(self, cutout: Cutout) -> NDArray[np.bool_]:
        """The cut-out's mask, H×W bool, the size of its photo.

        Raises:
            PhotoFailure: it cannot be decoded, has another shape than its photo, is transparent, or marks nothing.
        """
        from PIL import Image

        height, width = self.photo(cutout.photo).shape[:2]
        locator = f"{self.locator(cutout.photo)}, mask {cutout.path.name.encode('unicode_escape').decode()}"
        decoded = self._decoded(locator, cutout.path)
        if OVER_WHITE in decoded.decoding:
            raise PhotoFailure(locator, "The mask is transparent in places; expected white on black.")
        grey = decoded.displayed(decoded.pixels).max(axis=2)
        if abs(grey.shape[0] * width / (grey.shape[1] * height) - 1) > 0.02:
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
        for result in self._pool.decode(locator, *read):  # to the end, or the decoder is started anew
            if isinstance(result, Photo):
                photo = photo or result
            elif photo is None:
                reason = result.message
        if photo is None:
            raise PhotoFailure(locator, reason)
        return photo
