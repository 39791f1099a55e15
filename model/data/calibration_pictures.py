"""Pictures that the score and its confidence are fitted on: from photos that are on no other side.

Forged and authentic ones are as many, have the same sizes, and half of the photos fit what the other half measures. A
size is used only where both kinds have photos for it that need not be enlarged: or the score would learn which source
has the larger pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from model.data.forge import EDIT_ERRORS, KINDS, forge
from model.data.mix import Forge, Mix, Shape, Source, photo_name, place, split_of
from model.data.source_photos import SourcePhotos, checked_size, of_split, photos_of
from model.data.sources import AS_IT_IS, cut, list_images, sample_mask
from model.datasets.sample import Sample
from model.images.pixels import DamagedFileError, Pixels, picture_size

SHAPES = tuple(Shape(*size) for size in ((256, 384), (384, 256), (320, 320), (480, 640), (768, 1024), (1072, 1600)))
"""Sizes beside those of the mix: a score of larger pictures is larger by chance, so it has to meet some."""
LARGEST_SCALE = 1.1
"""A picture serves for a size if it need not be enlarged by more."""
FORGED_SHARES = (0.45, 0.25, 0.15, 0.15)
"""Of KINDS but the authentic one, in forgeries made for this."""
FEWEST_PHOTOS = 6
"""Of each kind, in each half: with fewer there is no calibration."""
MOST_FILES = 400
"""Files of a source that are looked at, in each half."""
TRIES = 16


class Label(NamedTuple):
    """What is known of a picture: half 0 fits, half 1 measures."""

    half: int
    forged: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    sample: Sample
    size: tuple[int, int]
    forged: bool


@dataclass(slots=True)
class _Files:
    """Images of a source, in one half."""

    source: Source
    limit: float
    candidates: list[_Candidate]

    def photos(self, forged: bool, shape: Shape) -> set[str]:
        return {c.sample.group for c in self._fitting(forged, shape)}

    def draw(self, forged: bool, shape: Shape, rng: np.random.Generator) -> Pixels | None:
        fitting = self._fitting(forged, shape)
        sample = fitting[int(rng.integers(len(fitting)))].sample
        try:
            pixels, mask = cut(sample, self.source.masks, self.limit, shape, AS_IT_IS, rng)
        except EDIT_ERRORS:  # its header was readable: the rest is not, or is odd
            return None
        return pixels if bool(mask.any()) == forged else None

    def _fitting(self, forged: bool, shape: Shape) -> list[_Candidate]:
        return [c for c in self.candidates if c.forged == forged and _serves(c.size, shape)]


@dataclass(slots=True)
class _Forgeries:
    """Source photos of one half."""

    source: Source
    of_half: SourcePhotos
    _parts: dict[Shape, SourcePhotos] = field(default_factory=dict)

    def photos(self, forged: bool, shape: Shape) -> set[str]:
        pattern = getattr(self.source.data, "photo", None)
        return {photo_name(pattern, self.of_half.paths[i].stem) for i in self._fitting(shape)}

    def draw(self, forged: bool, shape: Shape, rng: np.random.Generator) -> Pixels | None:
        if shape not in self._parts:
            self._parts[shape] = self.of_half.part(self._fitting(shape))
        part = self._parts[shape]
        kind = str(rng.choice(KINDS[1:], p=FORGED_SHARES)) if forged else "authentic"
        try:
            made = forge(part, rng, shape.height, shape.width, kind)
        except EDIT_ERRORS:  # a damaged or odd photo, or a mask of an object
            return None
        return made.pixels if bool(made.mask.any()) == forged else None

    def _fitting(self, shape: Shape) -> list[int]:
        return [i for i, size in enumerate(self.of_half.sizes) if _serves(size, shape)]


class CalibrationPictures:
    """The calibration side of a mix.

    Args:
        mix: what to draw from.
        seed: another seed, other pictures.

    Attributes:
        shapes: sizes of the pictures.
        photos: how many source photos there are.
        problem: why there can be no pictures; empty: there can.
    """

    def __init__(self, mix: Mix, seed: int = 0) -> None:
        self.mix, self.seed = mix, seed
        self._halves: tuple[list[_Files | _Forgeries], list[_Files | _Forgeries]] = ([], [])
        for source in mix.sources:
            if source.weight > 0 and mix.validation.calibration_share > 0:
                if isinstance(source.data, Forge):
                    self._add_photos(source, source.data)
                else:
                    self._add_files(source)
        wanted = dict.fromkeys([*(Shape(s.height, s.width) for s in mix.shapes), *SHAPES])
        counts = {shape: self._fewest(shape) for shape in wanted}
        self.shapes = tuple(shape for shape, count in counts.items() if count >= FEWEST_PHOTOS)
        kinds = [(half, forged, shape) for half in (0, 1) for forged in (False, True) for shape in self.shapes]
        self.photos = len(set[str]().union(*(self._photos(*kind) for kind in kinds)))
        self.problem = "" if self.shapes else self._why(list(wanted))

    def pictures(self, count: int) -> Iterator[tuple[Label, Pixels]]:
        """Labels and pixels, H×W×3 uint8: of each half and size as many forged as authentic ones, always the same.

        There are fewer where files turn out to be damaged.
        """
        cv2.setNumThreads(1)
        for index in range(count if self.shapes else 0):
            forged, half = index % 2 == 1, index // 2 % 2
            pixels = self._draw(half, forged, self.shapes[index // 4 % len(self.shapes)], index)
            if pixels is not None:
                yield Label(half, forged), pixels

    def _draw(self, half: int, forged: bool, shape: Shape, index: int) -> Pixels | None:
        rng = np.random.default_rng([self.seed, 2, index])  # 0 and 1 are the sides of the training
        able = [part for part in self._halves[half] if part.photos(forged, shape)]
        weights = np.array([part.source.weight for part in able])
        for _ in range(TRIES if able else 0):
            pixels = able[int(rng.choice(len(able), p=weights / weights.sum()))].draw(forged, shape, rng)
            if pixels is not None:
                return pixels
        return None

    def _photos(self, half: int, forged: bool, shape: Shape) -> set[str]:
        return set[str]().union(*(part.photos(forged, shape) for part in self._halves[half]))

    def _fewest(self, shape: Shape) -> int:
        return min(len(self._photos(half, forged, shape)) for half in (0, 1) for forged in (False, True))

    def _why(self, shapes: Sequence[Shape]) -> str:
        if self.mix.validation.calibration_share == 0:
            return "validation.calibration_share is 0"
        smallest = min(shapes, key=lambda shape: shape.height * shape.width)
        counts = {
            kind: min(len(self._photos(half, kind == "forged", smallest)) for half in (0, 1))
            for kind in ("authentic", "forged")
        }
        kind = min(counts, key=lambda kind: counts[kind])
        photos = "photo" if counts[kind] == 1 else "photos"
        where = f"one half of the calibration side has {counts[kind]} {photos} of {kind} pictures"
        return f"{where} with {smallest.width}×{smallest.height} pixels or more, and {FEWEST_PHOTOS} are needed"

    def _half(self, photo: str) -> int:
        return int(place(f"half {self.mix.validation.seed} {photo}") >= 0.5)

    def _add_files(self, source: Source) -> None:
        limit, reading = self.mix.max_megapixels, source.masks
        split = self.mix.validation
        samples = [sample for sample in list_images(source).samples if split_of(sample, split) == "calibration"]
        samples.sort(key=lambda sample: place(f"calibration {sample.image.name}"))
        for half, parts in enumerate(self._halves):
            candidates = []
            mine = [sample for sample in samples if {self._half(photo) for photo in sample.photos} == {half}]
            for sample in mine[:MOST_FILES]:
                try:
                    size = picture_size(sample.image, limit)
                    mask = sample_mask(sample, reading, limit, size)
                except DamagedFileError:  # the dry run names it
                    continue
                candidates.append(_Candidate(sample, size, mask is not None and bool(mask.any())))
            parts.append(_Files(source, limit, candidates))

    def _add_photos(self, source: Source, data: Forge) -> None:
        photos = of_split(photos_of(data), "calibration", self.mix.validation, data.photo)
        order = sorted(range(len(photos.paths)), key=lambda i: place(f"calibration {photos.paths[i].name}"))
        for half, parts in enumerate(self._halves):
            mine = [i for i in order if self._half(photo_name(data.photo, photos.paths[i].stem)) == half][:MOST_FILES]
            # what cannot be read, the dry run names
            checked = photos.part(mine).checked(lambda path: checked_size(path, self.mix.max_megapixels))
            parts.append(_Forgeries(source, checked))


def _serves(size: tuple[int, int], shape: Shape) -> bool:
    return max(shape.height / size[0], shape.width / size[1]) <= LARGEST_SCALE
