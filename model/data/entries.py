"""Images, their masks, and the photos they were made from: the parts that every source consists of.

Pairs are matched by stem, never by order; whatever has no partner is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a source.

    Attributes:
        image: the file.
        mask: its mask; None: authentic.
        photos: the photos it was made from, as far as its name or list tells; they decide its side.
    """

    image: Path
    mask: Path | None
    photos: tuple[str, ...]

    @property
    def group(self) -> str:
        """The source photos in one word."""
        return "+".join(self.photos)


@dataclass(slots=True)
class Entries:
    """The images of a source, and what is wrong with it, in words."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def match_by_key(
    images: Sequence[Path],
    masks: Sequence[Path],
    image_key: Callable[[Path], str],
    mask_key: Callable[[Path], str | None],
    problems: list[str],
) -> Iterator[tuple[Path, Path]]:
    """Images and masks of the same key. Reported: no partner, and a key that more than one file has."""
    by_key: dict[str, Path] = {}
    for mask in masks:
        key = mask_key(mask)
        if key is None:
            problems.append(f"{mask}: not named like a mask")
        elif key in by_key:
            problems.append(f"{mask}: the same name as {by_key[key].name}, which is used")
        else:
            by_key[key] = mask
    taken: dict[str, Path] = {}
    for image in images:
        key = image_key(image)
        if key in taken:
            problems.append(f"{image}: the same name as {taken[key].name}, which is used")
        elif key not in by_key:
            problems.append(f"{image}: no mask")
        else:
            taken[key] = image
            yield image, by_key[key]
    problems.extend(f"{mask}: no image" for key, mask in by_key.items() if key not in taken)
