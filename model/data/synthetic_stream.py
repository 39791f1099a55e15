"""Crops of real and generated pictures: batch number i is a pure function of the seed and i.

Samples come in pairs of one real and one generated crop with the same later history, so that neither class nor
compression can be told from how often something was compressed, resized or blurred. Before that, pictures whose file is
no JPEG are compressed with the tables of a JPEG of the other class, as many in every source, and on the grid of the
whole picture. The reconstruction of a photo has the crop of the photo, and the JPEG tables of its file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from model.config import ConfigError
from model.data.attacks import blurred
from model.data.history import decode, publish, resize
from model.data.mix import Augment, Shape, Split, place
from model.data.reconstructions import Pool, Window, photo_window
from model.data.sources import crop_box
from model.data.synthetic_mix import (
    REAL,
    Align,
    SyntheticAugment,
    SyntheticMix,
    SyntheticSource,
    digest_of,
    list_pictures,
    on_side,
)
from model.datasets.sample import Sample
from model.images.pixels import DamagedFileError, Pixels, opened, read_pixels, rgb, stored_size
from model.reporter import SILENT, Reporter

TRIES = 16
"""Damaged files after which a pair is given up."""
MOST_TABLES = 200
"""JPEG files of each source whose tables are kept."""
MCU = 16
"""Pixels; the largest unit of a JPEG: offsets in its grid count up to it."""
_SIDES: tuple[Split, ...] = ("train", "validation", "calibration")


class Tables(NamedTuple):
    """The quantization tables of a JPEG file, and Pillow's number of its chroma subsampling."""

    tables: dict[int, list[int]]
    subsampling: int


@dataclass(frozen=True, slots=True)
class Crop:
    """One sample.

    Attributes:
        pixels: H×W×3 uint8.
        generated: its class.
        group: `real`, `laundered`, or the name of the generator.
    """

    pixels: Pixels
    generated: bool
    group: str


@dataclass(frozen=True, slots=True)
class Crops:
    """Samples of a batch, real and generated in turn; `damaged`: a line for each file that was passed over."""

    samples: list[Crop]
    damaged: list[str] = field(default_factory=list)


class WholePicture(NamedTuple):
    """A picture as a method judges it."""

    pixels: Pixels
    generated: bool
    group: str
    photo: str


@dataclass(frozen=True, slots=True)
class _Picture:
    sample: Sample
    size: tuple[int, int]
    tables: Tables | None
    window: Window | None = None


@dataclass(slots=True)
class _Part:
    """A source's pictures on the stream's side; `first`: share of those without JPEG that are compressed as one."""

    source: SyntheticSource
    pictures: list[_Picture]
    first: float = 0.0


class SyntheticStream:
    """Crops of one side of a mix. It can be pickled, so that workers get one.

    Args:
        mix: what to draw from.
        side: `train`, `validation` or `calibration`.
        seed: another seed, other samples.
        crop: side of the crops, pixels; smaller pictures are left out.
        pool: of the reconstructions of `align` sources.
        laundered: whether laundered pictures are drawn.

    Attributes:
        problems: pictures that are left out, in words.
        absent: names of the sources that have no picture on this side.

    Raises:
        ConfigError: a class has no picture on this side.
    """

    def __init__(
        self,
        mix: SyntheticMix,
        side: Split,
        seed: int,
        crop: int,
        pool: Pool,
        *,
        laundered: bool = True,
    ) -> None:
        self.mix, self.side, self.seed, self.crop, self.pool = mix, side, seed, crop, pool
        self.problems: list[str] = []
        self.absent: list[str] = []
        self._parts: list[_Part] = []
        for source in mix.sources:
            if source.weight == 0 or (source.kind == "laundered" and not laundered):
                continue
            part = _Part(source, self._pictures(source))
            if part.pictures:
                self._parts.append(part)
            else:
                self.problems.append(f"{source.name}: no picture on the {side} side")
                self.absent.append(source.name)
        self._real = [part for part in self._parts if part.source.kind in ("real", "align")]
        self._made = [part for part in self._parts if part.source.kind != "real"]
        for name, parts in (("real", self._real), ("generated", self._made)):
            if not parts:
                seen = f" ({'; '.join(self.problems[:3])})" if self.problems else ""
                found = f"no {name} picture on the {side} side{seen}"
                expected = "pictures of both classes on each side: more pictures, or larger shares of `validation`"
                raise ConfigError(mix.where("sources"), found, expected)
        shares = [float(np.mean([p.tables is not None for p in part.pictures])) for part in self._parts]
        self._tables = {made: self._tables_for(made) for made in (False, True)}
        for part, share in zip(self._parts, shares, strict=True):
            if mix.augment.first and share < 1:
                part.first = (max(shares) - share) / (1 - share)

    @property
    def generators(self) -> list[str]:
        """The groups of generated pictures that are drawn from, sorted."""
        return sorted({part.source.group for part in self._made})

    @property
    def pictures(self) -> int:
        """How many there are: a photo and its reconstruction are two."""
        return sum(len(part.pictures) * (1 + (part.source.kind == "align")) for part in self._parts)

    def counts(self) -> dict[str, int]:
        """How many pictures each group has."""
        counts: dict[str, int] = {}
        for part in self._parts:
            groups = [REAL] * (part in self._real) + [part.source.group] * (part in self._made)
            for group in groups:
                counts[group] = counts.get(group, 0) + len(part.pictures)
        return counts

    def formats(self) -> list[str]:
        """Of each source, the share of JPEG files, in words."""
        lines = []
        for part in self._parts:
            share = np.mean([picture.tables is not None for picture in part.pictures])
            lines.append(
                f"{part.source.name}: {share:.0%} of the files are JPEG, {part.first:.0%} of the others made one"
            )
        return lines

    def digest(self) -> str:
        """SHA-256 of the names of all files that are drawn from, and of autoencoders, hex: others, other samples."""
        return digest_of(
            [
                [part.source.name, [p.sample.image.name for p in part.pictures]]
                + ([self.pool.identify(data.autoencoder)] if isinstance(data := part.source.data, Align) else [])
                for part in self._parts
            ]
        )

    def windows(self) -> list[tuple[Sample, Window]]:
        """Photos whose reconstruction is drawn, with their windows."""
        return [(p.sample, p.window) for part in self._parts for p in part.pictures if p.window is not None]

    def damaged(self, reporter: Reporter = SILENT) -> list[str]:
        """Decode every file. Those that cannot be read, in words."""
        found = []
        reporter.stage(f"Decoding the {self.side} side", "pictures", sum(len(part.pictures) for part in self._parts))
        for part in self._parts:
            for picture in part.pictures:
                try:
                    read_pixels(picture.sample.image, self.mix.max_megapixels)
                except DamagedFileError as error:
                    found.append(str(error))
                reporter.advance()
        return found

    def batch(self, index: int, count: int) -> Crops:
        """Batch number `index`: `count` crops, half of them real. The first ones do not depend on `count`.

        A damaged file is replaced by the next draw for the same pair.
        """
        damaged: list[str] = []
        pairs = [self._pair(index, number, damaged) for number in range(count // 2)]
        return Crops([crop for pair in pairs for crop in pair], damaged)

    def wholes(self, count: int) -> Iterator[WholePicture]:
        """At most `count` whole pictures of each class, as a scan meets them: always the same, the sources in turn.

        No two real ones, and no two of one generator, are of one photo, as scores of such pictures are not independent.

        Of every class the share `augment.history` has one more history. Of `align` sources they are the windows.
        Damaged ones are left out.
        """
        cv2.setNumThreads(1)
        for made in (False, True):
            for part, picture in self._turns(made)[:count]:
                seed = int(place(f"history {picture.sample.image.name}") * 2**32)
                try:
                    pixels = self._whole(part, picture, made, np.random.default_rng([self.seed, seed]))
                except DamagedFileError:  # the dry run names it
                    continue
                yield WholePicture(pixels, made, part.source.group if made else REAL, picture.sample.group)

    def most(self, count: int) -> int:
        """How many pictures `wholes` gives, if none is damaged."""
        return sum(min(count, len(self._turns(made))) for made in (False, True))

    def _turns(self, made: bool) -> list[tuple[_Part, _Picture]]:
        """The pictures of a class, one of each source in turn."""
        parts = self._made if made else self._real
        order = [sorted(part.pictures, key=lambda p: place(f"whole {p.sample.image.name}")) for part in parts]
        turns: dict[tuple[str, str], tuple[_Part, _Picture]] = {}
        for turn in range(max(map(len, order))):
            for part, pictures in zip(parts, order, strict=True):
                if turn < len(pictures):
                    group = part.source.group if made else REAL
                    turns.setdefault((group, pictures[turn].sample.group), (part, pictures[turn]))
        return list(turns.values())

    def _pictures(self, source: SyntheticSource) -> list[_Picture]:
        samples, problems = list_pictures(source)
        self.problems += problems
        found: list[_Picture] = []
        small = 0
        for sample in on_side(samples, self.side, self.mix.validation):
            try:
                with opened(sample.image, self.mix.max_megapixels) as image:
                    size, tables = stored_size(image), _tables(image)
            except DamagedFileError as error:
                self.problems.append(str(error))
                continue
            if min(size) < self.crop:
                small += 1
                continue
            window = self.pool.window(sample, source.data, size) if isinstance(source.data, Align) else None
            if window is not None and min(window.width, window.height) < self.crop:
                small += 1
                continue
            found.append(_Picture(sample, size, tables, window))
        if small:
            self.problems.append(f"{source.name}: {small} pictures smaller than the crop of {self.crop} pixels")
        return found

    def _pair(self, index: int, number: int, damaged: list[str]) -> list[Crop]:
        cv2.setNumThreads(1)  # the workers are the threads
        rng = np.random.default_rng([self.seed, _SIDES.index(self.side), index, number])
        for _ in range(TRIES):
            later = int(rng.integers(2**62))
            real, made = self._two(rng, index, number)
            try:
                if real is made:
                    return self._aligned(real, rng, later)
                return [self._single(part, part is made, rng, later) for part in (real, made)]
            except DamagedFileError as error:
                damaged.append(str(error))
        return []

    def _two(self, rng: np.random.Generator, index: int, number: int) -> tuple[_Part, _Part]:
        """Where the real and the generated crop of a pair come from; the same part: a photo and its reconstruction."""
        # What is measured has every source of generated pictures as often
        part = _drawn(self._parts, rng) if self.side == "train" else self._made[(index + number) % len(self._made)]
        if isinstance(part.source.data, Align):
            return part, part
        apart = [part for part in self._real if part.source.kind == "real"] or self._real
        if part.source.kind == "real":
            others = [part for part in self._made if part.source.kind != "align"]
            return (part, _drawn(others, rng)) if others else (part, _drawn(self._made, rng))
        return _drawn(apart, rng), part

    def _single(self, part: _Part, made: bool, rng: np.random.Generator, later: int) -> Crop:
        picture = part.pictures[int(rng.integers(len(part.pictures)))]
        box = self._box(_extent(picture), rng)
        return self._finished(self._stored(part, picture, made, box, rng), part, made, later)

    def _aligned(self, part: _Part, rng: np.random.Generator, later: int) -> list[Crop]:
        picture = part.pictures[int(rng.integers(len(part.pictures)))]
        box = self._box(_extent(picture), rng)
        seed = int(rng.integers(2**62))
        crops = []
        for made in (False, True):
            same = np.random.default_rng(seed)
            crops.append(self._finished(self._stored(part, picture, made, box, same), part, made, later))
        return crops

    def _cut(self, picture: _Picture, made: bool, box: tuple[int, int, int, int]) -> Pixels:
        left, top, right, bottom = box
        limit, sample = self.mix.max_megapixels, picture.sample
        if picture.window is not None and made:
            return self.pool.get(sample, picture.window, limit)[top:bottom, left:right]
        if picture.window is not None:
            return photo_window(sample, picture.window, limit)[top:bottom, left:right]
        with opened(sample.image, limit) as image:
            if stored_size(image) != picture.size:
                raise DamagedFileError(f"{sample.image}: another size than when it was listed")
            return np.asarray(rgb(image, box))

    def _box(self, extent: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        augment = self.mix.augment
        cropped = Augment(rescale=augment.rescale, aligned=augment.aligned)
        return crop_box(*extent, None, Shape(self.crop, self.crop), cropped, rng)

    def _stored(
        self, part: _Part, picture: _Picture, made: bool, box: tuple[int, int, int, int], rng: np.random.Generator
    ) -> Pixels:
        """A crop of the picture; of one that should be a JPEG and is none, to the bit as if its file were."""
        tables = self._first(part, picture, made, rng)
        if tables is None:
            return self._cut(picture, made, box)
        # With all units of the JPEG that the crop cuts, and their neighbours, with which chroma is interpolated
        height, width = _extent(picture)
        left, top = (max(0, (start // MCU - 1) * MCU) for start in box[:2])
        right, bottom = (min(side, (end // MCU + 2) * MCU) for side, end in zip((width, height), box[2:], strict=True))
        pixels = _through(self._cut(picture, made, (left, top, right, bottom)), tables)
        return pixels[box[1] - top : box[3] - top, box[0] - left : box[2] - left]

    def _first(self, part: _Part, picture: _Picture, made: bool, rng: np.random.Generator) -> Tables | None:
        """The tables that the picture is compressed with; None: it is not, or its file is a JPEG already."""
        own, choice = picture.tables, self._tables[made]
        if not self.mix.augment.first or (own is not None and not (made and picture.window)):
            return None
        if own is not None or not choice or rng.random() >= part.first:
            return own
        return choice[int(rng.integers(len(choice)))]

    def _tables_for(self, made: bool) -> list[Tables]:
        """Of JPEG files of the other class, so that tables are no trace of a class; of its own if there are none."""
        for parts in ((self._real, self._made)[not made], self._parts):
            pictures = (picture for part in parts for picture in part.pictures[:MOST_TABLES])
            if found := [tables for picture in pictures if (tables := picture.tables) is not None]:
                return found
        return []

    def _finished(self, pixels: Pixels, part: _Part, made: bool, later: int) -> Crop:
        pixels = after(pixels, self.crop, self.mix.augment, np.random.default_rng(later), flips=self.side == "train")
        return Crop(pixels, made, part.source.group if made else REAL)

    def _whole(self, part: _Part, picture: _Picture, made: bool, rng: np.random.Generator) -> Pixels:
        height, width = _extent(picture)
        pixels = self._stored(part, picture, made, (0, 0, width, height), rng)
        if rng.random() < self.mix.augment.history:
            pixels = publish(np.ascontiguousarray(pixels), rng).pixels
        return np.array(pixels, order="C")


def after(
    pixels: Pixels, crop: int, augment: SyntheticAugment, rng: np.random.Generator, *, flips: bool = True
) -> Pixels:
    """The later history of a crop, crop×crop×3 uint8: it depends on `rng` alone, not on the class."""
    pixels = resize(pixels, crop, crop, np.random.default_rng(rng.integers(2**62)))
    if rng.random() < augment.blur:
        pixels = blurred(np.ascontiguousarray(pixels), int(rng.choice([3, 5])))
    if rng.random() < augment.flip and flips:
        pixels = pixels[:, ::-1]
    if rng.random() < augment.history:
        pixels = publish(np.ascontiguousarray(pixels), rng).pixels
    return np.array(pixels, order="C")  # torch warns about memory that it could not write to


def _drawn(parts: list[_Part], rng: np.random.Generator) -> _Part:
    weights = np.array([part.source.weight for part in parts])
    return parts[int(rng.choice(len(parts), p=weights / weights.sum()))]


def _extent(picture: _Picture) -> tuple[int, int]:
    """Height and width of what crops are taken from."""
    window = picture.window
    return picture.size if window is None else (window.height, window.width)


def _tables(image: Image.Image) -> Tables | None:
    """Of an opened file that is a JPEG with one or three channels."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("L", "RGB"):
        return None
    subsampling = JpegImagePlugin.get_sampling(image)
    tables = {int(number): list(map(int, table)) for number, table in image.quantization.items() if number < 4}
    if not tables or any(len(table) != 64 or not all(1 <= v <= 255 for v in table) for table in tables.values()):
        return None  # 16-bit tables, or damaged ones
    return Tables(tables, subsampling if subsampling in (0, 1, 2) else 2)


def _through(pixels: Pixels, tables: Tables) -> Pixels:
    """Through a JPEG with these tables."""
    buffer = io.BytesIO()
    try:
        ordered = [tables.tables[number] for number in sorted(tables.tables)]
        Image.fromarray(pixels).save(buffer, "JPEG", qtables=ordered, subsampling=tables.subsampling)
    except (OSError, ValueError) as error:  # too large for a JPEG
        raise DamagedFileError(f"{pixels.shape[1]}×{pixels.shape[0]} pixels: no JPEG ({error})") from error
    return decode(buffer.getvalue())
