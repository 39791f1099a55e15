"""Which mask belongs to which image: decided by names and, where several share one, by folders; never by order."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

NAMED = 3
"""How many file names to list before truncating."""

Item = TypeVar("Item")


class Index(Generic[Item]):
    """Items by name, found by the names that each could have.

    Attributes:
        by_name: the items of each name, in the order they were given.
    """

    def __init__(self, items: Iterable[tuple[str, Item]]) -> None:
        self.by_name: dict[str, list[Item]] = {}
        self._found: set[str] = set()
        for name, item in items:
            self.by_name.setdefault(name, []).append(item)

    def find(self, names: Iterable[str], near: Callable[[Item], bool] = lambda item: False) -> list[Item]:
        """The items of the first name that any has. Of several, those that are near, if any are."""
        for name in names:
            if hits := self.by_name.get(name):
                self._found.add(name)
                return (len(hits) > 1 and [item for item in hits if near(item)]) or hits
        return []

    def unused(self) -> list[Item]:
        """The items whose names were not asked for."""
        return [item for name, items in self.by_name.items() if name not in self._found for item in items]


def match_by_key(
    images: Sequence[Path],
    masks: Sequence[Path],
    image_key: Callable[[Path], str],
    mask_key: Callable[[Path], str | None],
    problems: list[str],
) -> Iterator[tuple[Path, Path]]:
    """Images and masks of the same key. Reported: no partner, and a key that more than one file has."""
    named = [(mask_key(mask), mask) for mask in masks]
    index = Index((key, mask) for key, mask in named if key is not None)
    for key, mask in named:
        if key is None:
            problems.append(f"{mask}: not named like a mask")
        elif mask is not index.by_name[key][0]:
            problems.append(f"{mask}: the same name as {index.by_name[key][0].name}, which is used")
    taken: dict[str, Path] = {}
    for image in images:
        key = image_key(image)
        found = index.find([key])
        if key in taken:
            problems.append(f"{image}: the same name as {taken[key].name}, which is used")
        elif not found:
            problems.append(f"{image}: no mask")
        else:
            taken[key] = image
            yield image, found[0]
    unused = set(index.unused())
    problems.extend(f"{found[0]}: no image" for found in index.by_name.values() if found[0] in unused)


class Place(NamedTuple):
    """A file: its stem, and its folder below those that it was looked for in."""

    stem: str
    folders: Collection[Path]


class Leftovers(NamedTuple):
    """Object masks that belong to no photo, and those that belong to several, by name."""

    nobodys: list[str]
    shared: list[str]

    def words(self, count: int, what: str, naming: str, placing: str) -> list[str]:
        """What is reported of them, as `2 of 9 masks belong to no photo; <naming>: a.png, b.png`."""
        kinds = ((self.nobodys, f"no photo; {naming}"), (self.shared, f"several photos of one name; {placing}"))
        return [
            f"{len(some)} of {count} {what} belong to {words}: {first_names(some)}" for some, words in kinds if some
        ]


class PhotoIndex:
    """Photos by stem, to find the photo of an object mask."""

    def __init__(self, photos: Sequence[Place]) -> None:
        self._photos = photos
        self._index = Index((photo.stem, number) for number, photo in enumerate(photos))

    def find(self, mask: Place, names: Iterable[str]) -> list[int]:
        """Numbers of the photos that have the first of these names; of several, those in the mask's folder."""
        return self._index.find(names, lambda number: not set(self._photos[number].folders).isdisjoint(mask.folders))


def leading_names(stem: str) -> Iterator[str]:
    """The stem, and what is left of it before each underscore, longest first."""
    yield stem
    while "_" in stem:
        stem = stem.rpartition("_")[0]
        yield stem


def inner_names(stem: str, most: int = 16) -> list[str]:
    """The stem, and its parts between underscores, longest first; of the first `most` parts."""
    parts = stem.split("_")[:most]
    found = {"_".join(parts[a:b]) for a in range(len(parts)) for b in range(a + 1, len(parts) + 1)} - {""}
    return [stem, *sorted(found, key=lambda name: (-len(name), name))]


def without_masks(
    photos: Sequence[Path], roots: Sequence[Path], mask_folders: Sequence[tuple[Path, Callable[[Path], bool]]]
) -> list[Path]:
    """The photos without the masks among them.

    Args:
        photos: found below `roots`.
        mask_folders: each with what tells a mask by its name. What is below such a folder inside a root is no photo;
            where the two are one, neither is what has the name of a mask.
    """
    real_roots = {real(root) for root in roots}
    tests: dict[Path, list[Callable[[Path], bool]]] = {}
    for folder, is_mask in mask_folders:
        home = real(folder)
        if any(home.is_relative_to(root) for root in real_roots):
            tests.setdefault(home, []).append(is_mask)
    if not tests:
        return list(photos)

    def is_photo(path: Path) -> bool:
        here = real(path.parent) / path.name
        inmost = next((place for place in (here, *here.parents) if place in tests or place in real_roots), None)
        if inmost not in tests:
            return True
        return inmost in real_roots and not any(is_mask(path) for is_mask in tests[inmost])

    return [path for path in photos if is_photo(path)]


def without_photos(masks: Sequence[Path], folder: Path, photos: Sequence[Path], roots: Sequence[Path]) -> list[Path]:
    """The masks, found below `folder`, without the photos among them, found below `roots`."""
    home, real_roots = real(folder), [real(root) for root in roots]
    if not any(home.is_relative_to(root) or root.is_relative_to(home) for root in real_roots):
        return list(masks)
    taken = {real(photo.parent) / photo.name for photo in photos}
    return [mask for mask in masks if real(mask.parent) / mask.name not in taken]


def real(path: Path) -> Path:
    """The path without links; unlike `Path.resolve`, it survives a link loop."""
    return Path(os.path.realpath(path))


def first_names(names: Sequence[str]) -> str:
    """The first `NAMED` of some names, in words."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
