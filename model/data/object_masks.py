"""Which object mask belongs to which photo: told by names and, where photos share one, by folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.picture_folders import find_pictures

MASK_SUFFIX = ".png"
NAMED = 3
"""So many masks are named where there may be thousands."""


@dataclass(slots=True)
class Matched:
    """The masks of a bank.

    Attributes:
        masks: (number of the photo, mask), in the order of the folders and sorted within each.
        problems: masks that belong to no photo or to several, counted for each folder, and what of the folders is not
            read, in words. Names are as on disk.
    """

    masks: list[tuple[int, Path]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_photos(
    folders: Sequence[Path], mask_folders: Sequence[tuple[Path, str]] = (), problems: list[str] | None = None
) -> list[Path]:
    """All pictures below the folders, sorted, each once, without the masks that lie among them.

    Args:
        folders: of photos.
        mask_folders: (folder, prefix) of masks. What is below such a folder inside a photo folder is no photo; where
            the two are one, neither is what has the name of a mask.
        problems: what of the folders is not read is added to them, in words.
    """
    told = [] if problems is None else problems
    found = sorted({path for folder in folders for path in find_pictures(folder, told)})
    roots = {folder.resolve() for folder in folders}
    names: dict[Path, list[str]] = {}
    for folder, prefix in mask_folders:
        if any(folder.resolve().is_relative_to(root) for root in roots):
            names.setdefault(folder.resolve(), []).append(prefix)
    if not names:
        return found

    def is_photo(path: Path) -> bool:
        real = path.parent.resolve()
        inmost = next((f for f in (real, *real.parents) if f in names or f in roots), None)
        if inmost not in names:
            return True
        return inmost in roots and not any(_has_name(path, prefix) for prefix in names[inmost])

    return [path for path in found if is_photo(path)]


def match_masks(photos: Sequence[Path], folders: Sequence[Path], mask_folders: Sequence[tuple[Path, str]]) -> Matched:
    """Find the masks of photos.

    A mask is named `<prefix><photo stem>[_anything].png`; the longest stem counts. Where several photos have that
    stem, it belongs to the one whose path below its folder is the mask's below its own.

    Args:
        photos: the photos, numbered.
        folders: where they were found.
        mask_folders: (folder, prefix).
    """
    by_stem: dict[str, dict[Path, int]] = {}
    for number, photo in enumerate(photos):
        by_stem.setdefault(photo.stem, {})[photo] = number
    matched, used, shared = Matched(), set[Path](), set[Path]()
    listed = {folder: _pictures(folder, photos, folders, matched.problems) for folder, _ in mask_folders}
    for folder, prefix in mask_folders:
        for mask in listed[folder]:
            if not _has_name(mask, prefix):
                continue
            stem = next((s for s in _stems(mask.stem.removeprefix(prefix)) if s in by_stem), "")
            own = by_stem.get(stem, {})
            if len(own) > 1:
                below = mask.parent.relative_to(folder)
                own = {photo: number for photo, number in own.items() if below in _below(photo, folders)}
                shared |= {mask} if len(own) != 1 else set()
            if len(own) == 1:
                matched.masks.append((next(iter(own.values())), mask))
                used.add(mask)
    for folder, masks in listed.items():
        prefixes = dict.fromkeys(prefix for other, prefix in mask_folders if other == folder)
        expected = " or ".join(f"{prefix}<photo stem>[_anything]{MASK_SUFFIX}" for prefix in prefixes)
        nobodys = [mask for mask in masks if mask not in used and mask not in shared]
        several = [mask for mask in masks if mask not in used and mask in shared]
        for some, what in (
            (nobodys, f"belong to no photo; expected {expected}"),
            (several, "belong to several photos of one name; expected a folder of the same path as the photo's"),
        ):
            if some:
                names = ", ".join(str(mask.relative_to(folder)) for mask in some[:NAMED])
                names += ", …" if len(some) > NAMED else ""
                matched.problems.append(f"{folder}: {len(some)} of {len(masks)} object masks {what}: {names}")
    return matched


def _pictures(folder: Path, photos: Sequence[Path], folders: Sequence[Path], problems: list[str]) -> list[Path]:
    """All pictures below a folder of masks, sorted, without the photos among them."""
    found = find_pictures(folder, problems)
    root = folder.resolve()
    if not any(f.resolve().is_relative_to(root) or root.is_relative_to(f.resolve()) for f in folders):
        return found
    taken = {photo.parent.resolve() / photo.name for photo in photos}
    return [path for path in found if path.parent.resolve() / path.name not in taken]


def _has_name(path: Path, prefix: str) -> bool:
    return path.suffix.lower() == MASK_SUFFIX and path.stem.startswith(prefix)


def _stems(name: str) -> Iterator[str]:
    """The name, and what is left of it before each underscore, longest first."""
    yield name
    while "_" in name:
        name = name.rpartition("_")[0]
        yield name


def _below(photo: Path, folders: Sequence[Path]) -> set[Path]:
    """The photo's folder as seen from those it was found in."""
    return {photo.parent.relative_to(folder) for folder in folders if photo.is_relative_to(folder)}
