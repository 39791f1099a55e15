"""A mix looked through before a training: how much there is, how large, how much of it forged, what is damaged."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from model.data.datasets import Entry, list_entries, photos_to_forge, side_of
from model.data.mix import Forge, Masks, Mix, Source
from model.data.picture_files import DamagedFileError, check_mask_size, picture_size, read_mask
from model.data.yaml_reader import legible

AREA_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the histogram of forged area, shares of the picture. The first bin is for masks that mark nothing."""


@dataclass(slots=True)
class SourceDescription:
    """One source.

    Attributes:
        name, kind, weight: as in the mix.
        train, validation: number of images, or of photos to forge from.
        between_sides: images that are in neither side, being made from photos of both.
        authentic: images without a mask.
        cutouts: object masks of a `forge` source.
        sizes: smallest, median and largest width × height, as `[width, height]`.
        forged_area: number of masks in each bin of `AREA_EDGES`, of those that were decoded; bin 0: nothing.
        damaged: images that cannot be used, and why.
        problems: what else is left out, and why.
    """

    name: str
    kind: str
    weight: float
    train: int = 0
    validation: int = 0
    between_sides: int = 0
    authentic: int = 0
    cutouts: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    forged_area: list[int] = field(default_factory=lambda: [0] * len(AREA_EDGES))
    damaged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Description:
    """A whole mix."""

    path: str
    digest: str
    sources: list[SourceDescription]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {**asdict(self), "area_edges": list(AREA_EDGES)}

    def lines(self, most: int = 20) -> list[str]:
        """Everything in words, one printable line each; of each source at most `most` damaged files and problems."""
        return [legible(line) for source in self.sources for line in _lines(source, most)]


def describe(mix: Mix, most: int = 2000) -> Description:
    """Look through a mix.

    Args:
        mix: the mix.
        most: so many masks a source are decoded, spread evenly over it. 0: all of them. The headers of all images
            and masks are read.

    Raises:
        MixError: a list file or a named set that cannot be read.
    """
    return Description(str(mix.path), mix.digest, [_describe(mix, source, most) for source in mix.sources])


def _describe(mix: Mix, source: Source, most: int) -> SourceDescription:
    told = SourceDescription(source.name, source.kind, source.weight)
    if isinstance(source.data, Forge):
        photos: list[Path] = []
        for side in ("train", "validation"):
            bank = photos_to_forge(source.data, side, mix.validation, Path())
            setattr(told, side, len(bank.paths))
            told.cutouts += len(bank.cutouts)
            photos += bank.paths
        told.authentic = len(photos)
        entries = [Entry(path, None, (path.stem,)) for path in sorted(photos)]
        if not entries:
            told.problems.append("no photo to forge from")
    else:
        found = list_entries(source)
        entries, told.problems = found.entries, found.problems
        sides = Counter(side_of(entry, mix.validation) for entry in entries)
        told.train, told.validation, told.between_sides = sides["train"], sides["validation"], sides[None]
        told.authentic = sum(entry.mask is None for entry in entries)
    _look_at(entries, getattr(source.data, "reading", Masks()), mix.max_megapixels, told, most)
    return told


def _look_at(entries: list[Entry], reading: Masks, limit: float, told: SourceDescription, most: int) -> None:
    step = max(1, math.ceil(sum(entry.mask is not None for entry in entries) / most)) if most else 1
    sizes: list[tuple[int, int]] = []
    masks = 0
    for entry in entries:
        try:
            size = picture_size(entry.image, limit)
            if entry.mask is not None:
                masks += 1
                if masks % step == 0:
                    mask = read_mask(entry.mask, limit, inverted=reading.inverted, size=size, fit=reading.fit)
                    told.forged_area[int(np.searchsorted(AREA_EDGES, mask.mean(), "left"))] += 1
                elif not reading.fit and entry.mask.suffix != ".npz":  # arrays have no header to look at
                    check_mask_size(entry.mask, picture_size(entry.mask, limit), size)
            sizes.append(size)
        except DamagedFileError as error:
            told.damaged.append(str(error))
    sizes.sort(key=lambda size: size[0] * size[1])
    if sizes:
        told.sizes = [[w, h] for h, w in (sizes[0], sizes[len(sizes) // 2], sizes[-1])]


def _lines(told: SourceDescription, most: int) -> list[str]:
    what = "photos to forge from" if told.kind == "forge" else "images"
    lines = [f"{told.name} ({told.kind}, weight {told.weight:g}): {told.train + told.validation} {what}"]
    lines.append(f"  train {told.train}, validation {told.validation}")
    if told.between_sides:
        lines[-1] += f", left out {told.between_sides} that were made from photos of both sides"
    if told.kind == "forge":
        lines.append(f"  object masks {told.cutouts}")
    else:
        lines.append(f"  authentic {told.authentic}")
    if told.sizes:
        lines.append("  sizes " + ", ".join(f"{n} {w}×{h}" for n, (w, h) in zip(_NAMES, told.sizes, strict=True)))
    if any(told.forged_area):
        lines.append(f"  forged area, of {sum(told.forged_area)} masks:")
        bins = ["nothing", *(f"{a:.1%} to {b:.1%}" for a, b in pairwise(AREA_EDGES))]
        longest = max(told.forged_area)
        for name, count in zip(bins, told.forged_area, strict=True):
            lines.append(f"    {name:>14} {count:7} {'█' * round(30 * count / longest)}".rstrip())
    lines += _some("damaged", told.damaged, most)
    return lines + _some("left out", told.problems, most)


_NAMES = ("smallest", "median", "largest")


def _some(title: str, told: list[str], most: int) -> list[str]:
    if not told:
        return []
    more = [f"    and {len(told) - most} more"] if len(told) > most else []
    return [f"  {title}: {len(told)}", *(f"    {line}" for line in told[:most]), *more]
