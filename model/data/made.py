"""Samples made of a mix and seen several times: small pictures, and tiles of large ones with the maps of the whole.

Picture number n is made from the seed and n alone. It is cut into tiles, each with its part of the maps of
self-similarity of the whole picture, as a scan sees them. A batch draws tiles from the pictures that there are by then,
turned in one of the ways that keep the grid of 8×8 blocks. So batch number i is a function of the seed and i alone,
whichever process makes it; the pool on the disk only saves making a picture again.
"""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from model.config import ConfigError
from model.data.forge import EDIT_ERRORS, Forgery, forge, forge_native, forge_plainly, reason
from model.data.history import decode, encode_jpeg, publish
from model.data.making import COMPOSITE, Making
from model.data.materials import Photographed, materials_of
from model.data.mix import Mix, Shape, Split
from model.data.stream import Batch, TrainingSample
from model.images.masks import Mask
from model.images.pixels import Pixels
from model.self_match import self_match
from model.whole_file import write_whole

SIDES: dict[Split, int] = {"train": 0, "validation": 1, "calibration": 2}
WHOLE = ("small", "splices", "composite")
"""Kinds of which a sample is a whole picture."""
NEEDS = {"native": "cameras", "screen": "screens", "document": "pages", "composite": "composites"}
"""Kinds of samples that are not made without a source."""
PAGE, SCREEN = (768, 1024), (1024, 1024)
TRIES = 32
"""Tiles that are drawn for one sample: until one is forged, or authentic, as it should be."""

Picture = tuple[Pixels, Mask, str, bytes | None]
"""Pixels, mask, kind, and the JPEG that decodes to the pixels, if the picture was saved as one."""


class Tile(NamedTuple):
    """Where a tile comes from: picture, version (0 as it is, 1 compressed once more), number among its tiles."""

    picture: int
    version: int
    number: int


class MadeStream:
    """Batches of made samples of one side of a mix (`model.training.feed.StreamLike`).

    Args:
        mix: what to draw from; the names of its sources say what each is for.
        side: no photo of another one is used; only what is trained on is turned.
        seed: another seed, other samples.
        making: kinds, shares and sizes.
        batch: samples in a batch of the smallest size.
        pool: folder of the pictures made before; None: they are kept in memory, for a few batches.

    Attributes:
        problems: what is left out, and why.
        absent: names of sources without a photo on this side.

    Raises:
        ConfigError: see `materials_of`.
    """

    def __init__(
        self, mix: Mix, side: Split, seed: int, making: Making, batch: int = 16, pool: Path | None = None
    ) -> None:
        self.mix, self.side, self.seed, self.making = mix, side, seed, making
        self.materials = materials_of(mix, side, making.large_side)
        self.problems = self.materials.problems
        there = self.materials
        self.absent = there.absent
        makes = {
            kind: share
            for kind, share in making.shares.items()
            if share and getattr(there, NEEDS.get(kind, "photos")) and (kind != "large" or there.large.paths)
        }
        self._kinds, self._shares = list(makes), np.array(list(makes.values())) / max(sum(makes.values()), 1e-9)
        tiles = float(np.array([1 if kind in WHOLE else len(making.tiles) for kind in makes]) @ self._shares)
        again = making.recompressed * (1 - making.instead)
        self._new = batch / (making.views * max(tiles, 1.0) * (1 + again))
        self._folder = pool / side if pool is not None else None
        self._made: dict[int, dict[str, Any]] = {}
        self._planned = 0
        self._groups: dict[tuple[int, int, bool], list[Tile]] = {}
        self.shapes = [Shape(*size) for size in making.sizes]
        if makes:
            self._plan(making.start)
        if not self._groups:
            where = mix.where()
            raise ConfigError(where, "no sample can be made", "the sources of a kind with a share, and tiles that fit")

    def digest(self) -> str:
        """SHA-256 of the names of all files that are drawn from, hex: other files, other samples."""
        there = self.materials
        banks = (there.photos, there.cameras, there.screens, there.pages)
        names = [
            [*(p.name for p in bank.paths), *(c.path.name for c in bank.cutouts)] if bank else [] for bank in banks
        ]
        names.append([sample.image.name for sample in there.composites])
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def empty_masks(self) -> list[str]:
        """Sources with masks that mark nothing: there is none, as a composite without a mask is not used."""
        return []

    def forged_areas(self) -> dict[str, list[float]]:
        """Forged shares of the area of the first pictures, by kind; 0: an authentic picture."""
        areas: dict[str, list[float]] = {}
        for number in range(60):
            with suppress(*EDIT_ERRORS):
                _, mask, kind, _ = self._picture(number)
                areas.setdefault(kind.split()[0], []).append(float(mask.mean()))
        return areas

    def shape(self, index: int) -> Shape:
        """The size of the samples of batch number `index`."""
        height, width, _ = self._group(index)
        return Shape(height, width)

    def batch(self, index: int, count: int) -> Batch:
        """Batch number `index`: `count` tiles of one size; fewer, or none, where nothing can be made."""
        cv2.setNumThreads(1)  # the workers are the threads
        group = self._group(index)
        tiles = self._groups[group][: self._until(group, index)]
        damaged: list[str] = []
        drawn = (self._draw(self._generator(index, number), tiles, damaged) for number in range(count))
        return Batch([sample for sample in drawn if sample is not None], damaged)

    def _draw(self, rng: np.random.Generator, tiles: list[Tile], damaged: list[str]) -> TrainingSample | None:
        wanted, found = bool(rng.random() < self.making.forged), None
        for _ in range(TRIES):
            tile = tiles[int(rng.integers(len(tiles)))]
            try:
                found = self.tile(tile) or found
            except EDIT_ERRORS as error:
                damaged.append(f"picture {tile.picture}: {reason(error)}")
                continue
            if found is not None and bool(found.mask.any()) == wanted:
                break
        return _turned(found, rng) if found is not None and self.side == "train" else found

    def _generator(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SIDES[self.side], *numbers])

    # ---- Which pictures there are by a batch ------------------------------------------------------------------------

    def _pictures(self, index: int) -> int:
        """How many pictures a batch draws from."""
        return self.making.start + (int(index % 2**40 * self._new) if self.side == "train" else 0)

    def _group(self, index: int) -> tuple[int, int, bool]:
        """Height, width, and whether whole pictures: what batch number `index` is of, by the area there is."""
        self._plan(self._pictures(index))
        groups = list(self._groups)
        weight = self.making.small_weight
        areas = [h * w * (weight if whole else 1) * self._until((h, w, whole), index) for h, w, whole in groups]
        share = np.array(areas, np.float64)
        return groups[int(self._generator(index, 2**31).choice(len(groups), p=share / share.sum()))]

    def _until(self, group: tuple[int, int, bool], index: int) -> int:
        return bisect_left(self._groups[group], (self._pictures(index),))

    def _plan(self, count: int) -> None:
        """Note the tiles of the first `count` pictures: their kind and size are known before they are made."""
        for number in range(self._planned, count):
            kind, (height, width), _ = self._kind(number)
            whole = kind in WHOLE
            sizes = [(height, width)] if whole else list(self.making.tiles)
            for version in self._versions(number):
                for tile, size in enumerate(sizes):
                    if size[0] <= height and size[1] <= width:
                        group = (min(size), max(size), whole)
                        self._groups.setdefault(group, []).append(Tile(number, version, tile))
        self._planned = max(self._planned, count)

    def _versions(self, number: int) -> tuple[int, ...]:
        draw = self._generator(number, 1, 1).random(2)
        if draw[0] >= self.making.recompressed:
            return (0,)
        return (1,) if draw[1] < self.making.instead else (0, 1)

    def _kind(self, number: int) -> tuple[str, tuple[int, int], np.random.Generator]:
        """The kind and size of a picture, and the generator that draws all the rest."""
        rng, making = self._generator(number, 3, 3), self.making  # zeros at the end would be those of a batch
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._shares))]
        if kind in ("small", "splices"):
            return kind, _drawn(making.small_sizes, rng), rng
        several = {"large": making.large_sizes, "native": making.native_sizes}.get(kind)
        if several:
            return kind, several[int(rng.integers(len(several)))], rng
        return kind, {"document": PAGE, "screen": SCREEN, "composite": COMPOSITE}[kind], rng

    # ---- Pictures ---------------------------------------------------------------------------------------------------

    def tile(self, tile: Tile) -> TrainingSample | None:
        """A tile of the pool, made if it is not there; None: the picture turned out too small for it."""
        path = self._folder / f"{tile.picture // 1000:04d}" / f"{tile.picture:07d}.npz" if self._folder else None
        if path is not None and path.is_file():
            with np.load(path) as stored:
                return _unpacked(stored, f"{tile.version}{tile.number}")
        arrays = self._made.get(tile.picture, {})
        if not arrays:
            for name, one, file in self._tiles(tile.picture):
                arrays |= _packed(one, file, name)
        if path is None:
            self._made[tile.picture] = arrays
        else:
            with suppress(OSError):  # a full disk: it is made again whenever it is drawn
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda part: _save(Path(part), arrays))
        return _unpacked(arrays, f"{tile.version}{tile.number}")

    def _tiles(self, number: int) -> Iterator[tuple[str, TrainingSample, bytes | None]]:
        """All tiles of a picture, in all its versions, each with the JPEG that decodes to it, if there is one."""
        pixels, mask, kind, file = self._picture(number)
        maps, rng = self_match(pixels), self._generator(number, 2, 2)
        whole = self._kind(number)[0] in WHOLE
        for version in self._versions(number):
            if version:
                file = encode_jpeg(pixels, rng, float(rng.uniform(60, 92)))
                pixels = decode(file)
            sizes = [(mask.shape[0], mask.shape[1])] if whole else self.making.tiles
            for place, (height, width) in enumerate(sizes):
                if height > mask.shape[0] or width > mask.shape[1]:
                    continue
                top, left = corner(mask, (height, width), rng, anywhere=0 < place == len(sizes) - 1)
                part = np.s_[top : top + height, left : left + width]
                cells = np.s_[:, top // 8 : (top + height) // 8, left // 8 : (left + width) // 8]
                sample = TrainingSample(pixels[part], mask[part], kind, maps[cells])
                yield f"{version}{place}", sample, file if whole else None

    def _picture(self, number: int) -> Picture:
        kind, size, rng = self._kind(number)
        pixels, mask, name, file = getattr(self, f"_{kind}")(size, rng)
        if rng.random() < self.making.passed_on.get(kind, 0.0):  # type: ignore[call-overload]
            file = encode_jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 92)))
            pixels = decode(file)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(mask), name, file

    def _small(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        there = self.materials
        if rng.random() < self.making.plain:
            return _of(forge_plainly(there.photos, rng, *size), "small")
        return _of(forge(there.photos, rng, *size, tools=there.tools), "small")

    def _splices(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        made = forge(self.materials.photos, rng, *size, "splices", largest=0.2)
        return made.pixels, made.mask, "splices", made.jpeg

    def _large(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        there, largest = self.materials, 0.01 if rng.random() < 0.6 else 0.3
        if rng.random() < 0.7:
            kind = _drawn(self.making.large_kinds, rng)
            return _of(forge(there.large, rng, *size, kind, largest=largest, tools=there.tools), "large")
        return _of(forge_plainly(there.large, rng, *size, smallest=0.001, largest=largest), "large")

    def _native(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        there, camera = self.materials, rng.random() < self.making.camera
        kind = _drawn(self.making.native_kinds, rng)
        bank = there.cameras if camera and there.cameras is not None else there.photos
        return _of(forge_native(bank, rng, *size, kind, tools=there.tools), "camera" if camera else "web")

    def _document(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        pages = self.materials.pages
        assert pages is not None
        number = int(rng.integers(len(pages.paths)))
        kind = "document" if rng.random() < 0.7 else "authentic"
        return _of(forge_native(Photographed(pages, rng, number), rng, *size, kind, number=number), "page")

    def _screen(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        screens = self.materials.screens
        assert screens is not None
        return _of(forge_native(screens, rng, *size, "authentic"), "screen")

    def _composite(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        """With one more history on top."""
        pixels, mask = self.materials.composite(
            int(rng.integers(len(self.materials.composites))), self.mix.max_megapixels
        )
        published = publish(np.ascontiguousarray(pixels), rng)
        return published.pixels, mask, "composite", published.jpeg


def corner(mask: Mask, size: tuple[int, int], rng: np.random.Generator, *, anywhere: bool) -> tuple[int, int]:
    """Top and left of a tile, multiples of 8: one that holds a forged pixel, if one can, or one anywhere.

    Where the sides of the picture are no multiples of 8, no tile reaches its last rows and columns.
    """
    room = np.array(mask.shape) - size
    forged = np.argwhere(mask)
    if anywhere or not len(forged):
        top, left = (int(rng.integers(side // 8 + 1)) * 8 for side in room)
        return top, left
    pixel = forged[int(rng.integers(len(forged)))]
    first, last = np.maximum(0, (pixel - size + 8) // 8), np.minimum(pixel, room) // 8
    top, left = (int(rng.integers(min(low, high), high + 1)) * 8 for low, high in zip(first, last, strict=True))
    return top, left


def _of(made: Forgery, name: str) -> Picture:
    return made.pixels, made.mask, f"{name} {made.kind}", made.jpeg


def _drawn(shares: dict[Any, float], rng: np.random.Generator) -> Any:
    """One of the keys."""
    p = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(p), p=p / p.sum()))]


def _turned(sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
    """Mirrored, upside down, transposed, or as it is."""
    steps = [1 if rng.random() < 0.5 else -1 for _ in range(2)]
    turn = np.s_[:: steps[0], :: steps[1]]
    assert sample.matches is not None
    pixels, mask, matches = sample.pixels[turn], sample.mask[turn], sample.matches[:, *turn]
    if mask.shape[0] == mask.shape[1] and rng.random() < 0.5:
        pixels, mask, matches = pixels.transpose(1, 0, 2), mask.T, matches.transpose(0, 2, 1)
    whole = np.ascontiguousarray
    return TrainingSample(whole(pixels), whole(mask), sample.source, whole(matches))


def _packed(sample: TrainingSample, file: bytes | None, name: str) -> dict[str, Any]:
    """What is stored of a tile: its JPEG, or a WebP without loss; the mask in bits; the maps in half precision."""
    if file is None:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(sample.pixels)).save(buffer, "WEBP", lossless=True, quality=40, method=2)
        file = buffer.getvalue()
    assert sample.matches is not None
    return {
        f"{name} picture": np.frombuffer(file, np.uint8),
        f"{name} mask": np.packbits(sample.mask),
        f"{name} matches": sample.matches.astype(np.float16),
        f"{name} source": np.array(sample.source),
    }


def _unpacked(stored: Mapping[str, Any], name: str) -> TrainingSample | None:
    """A tile, no higher than it is wide; None: it is not there."""
    if f"{name} mask" not in stored:
        return None
    pixels = decode(stored[f"{name} picture"].tobytes())
    shape = pixels.shape[:2]
    mask = np.unpackbits(stored[f"{name} mask"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
    matches = stored[f"{name} matches"].astype(np.float32)
    if shape[0] > shape[1]:
        pixels, mask, matches = pixels.transpose(1, 0, 2), mask.T, matches.transpose(0, 2, 1)
    return TrainingSample(pixels, mask, str(stored[f"{name} source"]), matches)


def _save(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
