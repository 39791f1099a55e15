"""The samples of a mix: batch number i is a pure function of the seed and i, whichever worker makes it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from model.data.datasets import Entry, Side, list_entries, photos_to_forge, side_of
from model.data.forge import forge, forge_plainly
from model.data.history import resize, whole_picture
from model.data.mix import Augment, Curriculum, Forge, Masks, Mix, MixError, Shape
from model.data.photo_bank import PhotoBank
from model.data.picture_files import DamagedFileError, Mask, Pixels, opened, picture_size, read_mask, rgb

TRIES = 16
"""So many damaged files in a row, and a sample is given up."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: pixels H×W×3 uint8, mask H×W bool (True = forged), and the name of its source."""

    pixels: Pixels
    mask: Mask
    source: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one size.

    Attributes:
        samples: as many as were asked for; fewer, or none, where `TRIES` files in a row were damaged.
        damaged: a line for each file that was passed over.
    """

    samples: list[Sample]
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Files:
    """The images of a source that are on the stream's side."""

    name: str
    entries: list[Entry]
    reading: Masks


@dataclass(frozen=True, slots=True)
class _Forgeries:
    """The photos of a source that are on the stream's side."""

    name: str
    bank: PhotoBank
    plain_share: Curriculum


class Stream:
    """Batches of one side of a mix.

    It can be pickled, so that workers get one; the copies share the decoded photos of the first.

    Args:
        mix: what to draw from.
        side: `train`, or `validation`: nothing but held-out photos, and files as they are (no augmentation).
        seed: another seed, other samples.
        shapes: sizes of crops; None: those of the mix.
        cache: folder for the decoded photos of `forge` sources, for this stream alone: about height × width × 3
            bytes per photo. None: a temporary folder that goes when the stream does.

    Attributes:
        problems: images that are left out, in words: no partner, not readable, made from photos of both sides.

    Raises:
        MixError: no source has an image on this side.
    """

    def __init__(
        self,
        mix: Mix,
        side: Side = "train",
        seed: int = 0,
        shapes: Sequence[Shape] | None = None,
        *,
        cache: Path | None = None,
    ) -> None:
        self.mix, self.side, self.seed = mix, side, seed
        self.shapes = tuple(shapes or mix.shapes)
        self.problems: list[str] = []
        self._cache = cache
        self._parts: list[_Files | _Forgeries] = []
        weights: list[float] = []
        for number, source in enumerate(mix.sources):
            if source.weight == 0:
                continue
            if isinstance(source.data, Forge):
                part: _Files | _Forgeries | None = self._forgeries(source.name, source.data, number)
            else:
                part = self._files(number)
            if part is None:
                self.problems.append(f"{source.name}: no image on the {side} side")
                continue
            self._parts.append(part)
            weights.append(source.weight)
        if not self._parts:
            seen = f" ({'; '.join(self.problems[:3])})" if self.problems else ""
            expected = "at least one image" if side == "train" else "more images, or a larger validation.share"
            raise MixError(str(mix.path), f"no source has an image on the {side} side{seen}", expected)
        self._shares = np.asarray(weights) / np.sum(weights)
        often = np.asarray([shape.weight for shape in self.shapes], np.float64)
        self._shape_shares = often / often.sum()

    def _files(self, number: int) -> _Files | None:
        source = self.mix.sources[number]
        found = list_entries(source)
        self.problems += found.problems
        sides = [side_of(entry, self.mix.validation) for entry in found.entries]
        between = sides.count(None)
        if between:
            self.problems.append(f"{source.name}: {between} images made from photos of both sides")
        entries = [entry for entry, side in zip(found.entries, sides, strict=True) if side == self.side]
        reading = getattr(source.data, "reading", Masks())
        return _Files(source.name, entries, reading) if entries else None

    def _forgeries(self, name: str, data: Forge, number: int) -> _Forgeries | None:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="clue-photos-"))
            weakref.finalize(self, _remove, self._cache, os.getpid())
        folder = self._cache / f"{self.side}-{number}"
        bank = photos_to_forge(data, self.side, self.mix.validation, folder, keep=self._is_readable)
        if not bank.paths:
            return None
        try:
            bank.prepare()
        except ValueError:  # not one of them could be read
            self.problems += bank.left_out
            return None
        self.problems += bank.left_out
        return _Forgeries(name, bank, data.plain_share)

    def _is_readable(self, photo: Path) -> bool:
        """Whether a photo's header is; the bank itself knows no limits."""
        try:
            picture_size(photo, self.mix.max_megapixels)
        except DamagedFileError as error:
            self.problems.append(str(error))
            return False
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A map of the photos' file would be pickled as all of its bytes; each worker makes its own
        parts = [
            replace(part, bank=replace(part.bank, _pixels=None)) if isinstance(part, _Forgeries) else part
            for part in self._parts
        ]
        return {**self.__dict__, "_parts": parts}

    def shape(self, index: int) -> Shape:
        """The size of the samples of batch number `index`."""
        return self.shapes[int(self._generator(index).choice(len(self.shapes), p=self._shape_shares))]

    def batch(self, index: int, count: int) -> Batch:
        """Batch number `index`: `count` samples of one size. The first samples do not depend on `count`.

        A damaged file is replaced by the next draw for the same sample, so that it changes no other sample.
        """
        shape = self.shape(index)
        damaged: list[str] = []
        samples = [self._sample(index, number, shape, damaged) for number in range(count)]
        return Batch([sample for sample in samples if sample is not None], damaged)

    def _generator(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self.side == "validation"), *numbers])

    def _sample(self, index: int, number: int, shape: Shape, damaged: list[str]) -> Sample | None:
        cv2.setNumThreads(1)  # the workers are the threads
        rng = self._generator(index, number)
        for _ in range(TRIES):
            part = self._parts[int(rng.choice(len(self._parts), p=self._shares))]
            if isinstance(part, _Forgeries):
                plainly = rng.random() < part.plain_share.share(index)
                made = (forge_plainly if plainly else forge)(part.bank, rng, shape.height, shape.width)
                return Sample(made.pixels, made.mask, part.name)
            entry = part.entries[int(rng.integers(len(part.entries)))]
            try:
                pixels, mask = self._crop(entry, part.reading, shape, rng)
            except DamagedFileError as error:
                damaged.append(str(error))
                continue
            return Sample(pixels, mask, part.name)
        return None

    def _crop(self, entry: Entry, reading: Masks, shape: Shape, rng: np.random.Generator) -> tuple[Pixels, Mask]:
        """A crop of a picture and of its mask, augmented on the training side."""
        augment = self.mix.augment if self.side == "train" else _AS_IT_IS
        limit = self.mix.max_megapixels
        with opened(entry.image, limit) as image:
            height, width = image.height, image.width
            mask: Mask | None = None
            if entry.mask is not None:
                mask = read_mask(entry.mask, limit, inverted=reading.inverted, size=(height, width), fit=reading.fit)
            box = crop_box(height, width, mask, shape, augment, rng)
            pixels = rgb(image, box)
        left, top, right, bottom = box
        region = mask[top:bottom, left:right] if mask is not None else np.zeros(pixels.shape[:2], bool)
        if region.shape != (shape.height, shape.width):
            pixels = resize(pixels, shape.width, shape.height, rng)
            region = _resized(region, shape)
        if rng.random() < augment.flip:
            pixels, region = pixels[:, ::-1], region[:, ::-1]
        if rng.random() < augment.history:
            pixels, _ = whole_picture(np.ascontiguousarray(pixels), rng)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(region)


_AS_IT_IS = Augment(flip=0, rescale=0, history=0, aligned=1, focus=1)


def crop_box(
    height: int, width: int, mask: Mask | None, shape: Shape, augment: Augment, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Where to cut (left, top, right, bottom): at native resolution, or as much as is then scaled to the shape.

    A picture smaller than the shape is enlarged; one that is large enough is rescaled as `augment` says.
    """
    fit = max(shape.height / height, shape.width / width)  # the smallest scale at which the picture covers the shape
    scale = max(1.0, fit)
    if rng.random() < augment.rescale:
        scale = max(fit, float(np.exp(rng.uniform(np.log(0.5), np.log(1.5)))))
    h = min(height, max(1, round(shape.height / scale)))
    w = min(width, max(1, round(shape.width / scale)))
    tops, lefts = (0, height - h), (0, width - w)  # first and last
    if mask is not None and rng.random() < augment.focus:
        forged = np.flatnonzero(mask)
        if len(forged):
            y, x = divmod(int(forged[rng.integers(len(forged))]), width)
            tops = (max(0, y - h + 1), min(y, height - h))
            lefts = (max(0, x - w + 1), min(x, width - w))
    step = 8 if rng.random() < augment.aligned else 1
    top, left = _start(*tops, step, rng), _start(*lefts, step, rng)
    return left, top, left + w, top + h


def _start(first: int, last: int, step: int, rng: np.random.Generator) -> int:
    """A random multiple of `step` from first to last; where there is none, any number."""
    if -(-first // step) > last // step:
        step = 1
    return step * int(rng.integers(-(-first // step), last // step + 1))


def _resized(region: Mask, shape: Shape) -> Mask:
    grey = Image.fromarray(region.astype(np.uint8) * 255)
    return np.asarray(grey.resize((shape.width, shape.height), Image.Resampling.BOX)) > 127


def _remove(folder: Path, owner: int) -> None:
    """Remove the decoded photos, unless this is a forked worker, whose stream is only a copy."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
