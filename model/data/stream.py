"""The samples of a mix: batch number i is a pure function of the seed and i, whichever worker makes it."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from model.config import ConfigError
from model.data.filling import Fillers, Registered
from model.data.forge import EDIT_ERRORS, forge, forge_plainly, reason
from model.data.mix import Curriculum, Forge, Masks, Mix, Shape, Source, Split, split_of
from model.data.scene import Tools
from model.data.source_photos import SourcePhotos, checked_size, of_split, photos_of
from model.data.sources import AS_IT_IS, cut, list_images, sample_mask
from model.datasets.sample import Sample
from model.images.masks import Mask
from model.images.pairing import first_names
from model.images.pixels import DamagedFileError, Pixels
from model.registry import BasesError

TRIES = 16
"""Failed draws (damaged files, edits that raised) after which a sample is given up."""
_OF_SHAPE = 2**31
"""Where samples have their number: no sample has this one. NumPy takes a generator of fewer numbers for one that ends
in zeros, so that without it the shape of a batch would decide the source of its first sample."""
DRAWN, DRAWN_PIXELS, DRAWN_LEAST = 200, 32_000_000, 8
"""Forgeries that are drawn to measure their areas, the most pixels of them in all, and the least number."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One picture, or a tile of one.

    Attributes:
        pixels: H×W×3 uint8.
        mask: H×W bool, True = forged.
        source: the name of its source, or what was made.
        matches: maps of self-similarity of the picture that it is a tile of, C×H/8×W/8 float32; None: those of the
            pixels themselves.
        text: a caption of what is forged; empty: there is none.
    """

    pixels: Pixels
    mask: Mask
    source: str
    matches: NDArray[np.float32] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one size.

    Attributes:
        samples: as many as were asked for; fewer, or none, where `TRIES` draws in a row failed.
        damaged: a line for each file that was passed over, and for each picture whose making failed.
    """

    samples: list[TrainingSample]
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Files:
    """The images of a source that are on the stream's side."""

    name: str
    samples: list[Sample]
    reading: Masks


@dataclass(frozen=True, slots=True)
class _Forgeries:
    """The photos of a source that are on the stream's side."""

    name: str
    photos: SourcePhotos
    plain_share: Curriculum
    tools: Tools
    resynthesis: float = 0.0


class Stream:
    """Batches of one side of a mix.

    It can be pickled, so that workers get one.

    Args:
        mix: what to draw from.
        side: `train`; of the others nothing but their photos, and files as they are (no augmentation).
        seed: another seed, other samples.

    Attributes:
        problems: images that are left out, in words: no partner, not readable, made from photos of several sides.
        absent: names of the sources that have no image on this side; the others take their share.

    Raises:
        ConfigError: no source has an image on this side.
    """

    def __init__(self, mix: Mix, side: Split = "train", seed: int = 0) -> None:
        self.mix, self.side, self.seed = mix, side, seed
        self.shapes = mix.shapes
        self._augment = mix.augment if side == "train" else AS_IT_IS
        self.problems: list[str] = []
        self.absent: list[str] = []
        self._parts: list[_Files | _Forgeries] = []
        weights: list[float] = []
        for number, source in enumerate(mix.sources):
            if source.weight == 0:
                continue
            if isinstance(source.data, Forge):
                part: _Files | _Forgeries | None = self._forgeries(source, source.data)
            else:
                part = self._files(number)
            if part is None:
                self.problems.append(f"{source.name}: no image on the {side} side")
                self.absent.append(source.name)
                continue
            self._parts.append(part)
            weights.append(source.weight)
        if not self._parts:
            seen = f" ({'; '.join(self.problems[:3])})" if self.problems else ""
            expected = "at least one image" if side == "train" else "more images, or a larger validation.share"
            where = mix.where("validation", "share") if side == "validation" else mix.where("sources")
            raise ConfigError(where, f"no source has an image on the {side} side{seen}", expected)
        self._shares = np.asarray(weights) / np.sum(weights)
        often = np.asarray([shape.weight for shape in self.shapes], np.float64)
        self._shape_shares = often / often.sum()

    def _files(self, number: int) -> _Files | None:
        source = self.mix.sources[number]
        found = list_images(source)
        self.problems += found.problems
        sides = [split_of(sample, self.mix.validation) for sample in found.samples]
        between = sides.count(None)
        if between:
            self.problems.append(f"{source.name}: {between} images made from photos of several sides")
        samples = [sample for sample, side in zip(found.samples, sides, strict=True) if side == self.side]
        return _Files(source.name, samples, source.masks) if samples else None

    def _forgeries(self, source: Source, data: Forge) -> _Forgeries | None:
        photos = of_split(photos_of(data), self.side, self.mix.validation, data.photo)
        photos = photos.checked(lambda path: checked_size(path, self.mix.max_megapixels), self.problems)
        self.problems += photos.problems
        tools, share = Tools(autoencoder=Fillers(data.fillers)) if data.fillers else Tools(), 0.0
        if data.autoencoder is not None:
            try:
                tools = Tools(autoencoder=Registered(data.autoencoder.base), base=data.autoencoder.base)
            except BasesError as error:
                expected = "the name of registered base weights with a decoder (`clue models list`)"
                raise ConfigError(source.where, str(error), expected) from error
            share = data.autoencoder.share
        return _Forgeries(source.name, photos, data.plain_share, tools, share) if photos.paths else None

    def digest(self) -> str:
        """SHA-256 of the names of all files that are drawn from, and of registered autoencoders, hex.

        Other ones make other samples.
        """
        total = hashlib.sha256()
        for part in self._parts:
            if isinstance(part, _Files):
                names = [name for sample in part.samples for name in _names(sample)]
            else:
                names = [path.name for path in (*part.photos.paths, *(cutout.path for cutout in part.photos.cutouts))]
            made_by = (
                [part.tools.autoencoder.digest]
                if isinstance(part, _Forgeries) and isinstance(part.tools.autoencoder, Registered)
                else []
            )
            text = json.dumps([part.name, names, *made_by])  # ASCII: names need not be UTF-8
            total.update(text.encode() + b"\n")
        return total.hexdigest()

    def texts(self) -> list[str]:
        """The captions of what is forged, each once, sorted."""
        files = (part for part in self._parts if isinstance(part, _Files))
        return sorted({sample.text for part in files for sample in part.samples} - {""})

    def empty_masks(self, most: int = 100) -> list[str]:
        """Sources with masks that mark nothing, in words; of each `most` masks, spread evenly over it, are decoded."""
        lines = []
        for part in self._parts:
            if not isinstance(part, _Files):
                continue
            masked = [sample for sample in part.samples if sample.masks]
            seen, empty = 0, []
            for sample in masked[:: max(1, math.ceil(len(masked) / most))]:
                try:
                    mask = sample_mask(sample, part.reading, self.mix.max_megapixels)
                except DamagedFileError:  # met and counted again when it is drawn
                    continue
                seen += 1
                if mask is not None and not mask.any():
                    empty.append(sample.masks[0].name)
            if empty:
                some = f"{len(empty)} of {seen} masks mark nothing ({first_names(empty)})"
                lines.append(f"{part.name}: {some}; their images count as authentic")
        return lines

    def forged_areas(self) -> dict[str, list[float]]:
        """Forged shares of the area, for each source of photos to forge from; 0: an authentic picture.

        They are those of DRAWN forgeries, fewer where the crops are large, made for this alone and always the same,
        as many of them textbook cases as when the curriculum is over.
        """
        cv2.setNumThreads(1)
        areas: dict[str, list[float]] = {}
        for place, part in enumerate(self._parts):
            if isinstance(part, _Forgeries):
                found = areas[part.name] = []
                pixels = 0
                for number in range(DRAWN):
                    shape = self.shape(number)
                    pixels += shape.height * shape.width
                    if number >= DRAWN_LEAST and pixels > DRAWN_PIXELS:
                        break
                    rng = self._generator(number, place, len(self._parts))  # of no sample: those have two numbers
                    with suppress(*EDIT_ERRORS):  # DamagedFileError is one of them
                        found.append(float(_forged(part, rng, shape, part.plain_share.end).mask.mean()))
        return areas

    def shape(self, index: int) -> Shape:
        """The size of the samples of batch number `index`."""
        return self.shapes[int(self._generator(index, _OF_SHAPE).choice(len(self.shapes), p=self._shape_shares))]

    def batch(self, index: int, count: int) -> Batch:
        """Batch number `index`: `count` samples of one size. The first samples do not depend on `count`.

        A damaged file is replaced by the next draw for the same sample, so that it changes no other sample; so is a
        picture that cannot be made.
        """
        shape = self.shape(index)
        damaged: list[str] = []
        samples = [self._sample(index, number, shape, damaged) for number in range(count)]
        return Batch([sample for sample in samples if sample is not None], damaged)

    def _generator(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self.side == "validation"), *numbers])

    def _plain_share(self, part: _Forgeries, index: int) -> float:
        """The validation has no curriculum: its few batches start at number 0, where all would be textbook cases."""
        return part.plain_share.share(index) if self.side == "train" else part.plain_share.end

    def _sample(self, index: int, number: int, shape: Shape, damaged: list[str]) -> TrainingSample | None:
        cv2.setNumThreads(1)  # the workers are the threads
        rng = self._generator(index, number)
        for _ in range(TRIES):
            part = self._parts[int(rng.choice(len(self._parts), p=self._shares))]
            what = part.name
            try:
                if isinstance(part, _Forgeries):
                    return _forged(part, rng, shape, self._plain_share(part, index))
                sample = part.samples[int(rng.integers(len(part.samples)))]
                what = f"{part.name}, {sample.image}"
                pixels, mask = cut(sample, part.reading, self.mix.max_megapixels, shape, self._augment, rng)
            except DamagedFileError as error:  # of a forgery: a mask of an object, a photo decoded on demand
                damaged.append(str(error))
                continue
            except EDIT_ERRORS as error:
                damaged.append(f"{what}: batch {index}, sample {number}: {reason(error)}")
                continue
            return TrainingSample(pixels, mask, part.name, text=sample.text)
        return None


def _names(sample: Sample) -> list[str | None]:
    masks: list[str | None] = [mask.name for mask in sample.masks]
    return [sample.image.name, *(masks or [None])]


def _forged(part: _Forgeries, rng: np.random.Generator, shape: Shape, plain_share: float) -> TrainingSample:
    if rng.random() < plain_share:
        made = forge_plainly(part.photos, rng, shape.height, shape.width)
    else:
        kind = "resynthesis" if part.resynthesis and rng.random() < part.resynthesis else None
        made = forge(part.photos, rng, shape.height, shape.width, kind, tools=part.tools)
    return TrainingSample(made.pixels, made.mask, part.name)
