"""What `mini` learns from: tiles of made forgeries and authentic pictures, with the whole's maps of self-similarity.

Sample number i is made from nothing but the seed and i. Which photos it may show is a side: `train`, or `held-out`,
which no training sees: 8 % of the photos by a hash of their name, half of the cameras by a hash of their model, and
those screens and pages that were drawn by other templates.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.edits.scene import Tools
from model.data.forge import Forgery, forge, forge_native, forge_plainly
from model.data.history import decode, encode_jpeg, jpeg, publish
from model.data.source_photos import Size, SourcePhotos, find_source_photos
from model.images.pixels import opened, rgb
from model.self_match import self_match

PHOTOS = ("coco", "people", "web", "nature", "scenes")
CAMERAS = "cameras"
"""Folder of photos as cameras wrote them; the name of a file is the model of the camera."""
HELD_OUT = 0.08
SHARES = {
    "small": 0.58,
    "native": 0.12,
    "splices": 0.14,
    "large": 0.05,
    "document": 0.05,
    "screen": 0.04,
    "composite": 0.02,
}
"""How often each kind of sample is made; each gives as many tiles as it has room for, so that nearly half of the area
is of small pictures."""

SMALL_SIZES = ((256, 256), (256, 384), (384, 256), (320, 320), (512, 512))
SMALL_SHARES = (0.45, 0.22, 0.16, 0.07, 0.10)
LARGE_SIZES = ((768, 1024), (1024, 768), (640, 960))
LARGE_SIDE = 780
"""Pixels: photos that large pictures are made from have at least one side as long."""
NATIVE_SIZES = ((768, 1024), (512, 768), (768, 512), (480, 640))
NATIVE_KINDS = {
    "authentic": 0.40,
    "splice": 0.19,
    "splices": 0.07,
    "copy_move": 0.15,
    "removal": 0.13,
    "local_edit": 0.06,
}
LARGE_KINDS = {"authentic": 0.14, "splice": 0.36, "copy_move": 0.22, "removal": 0.14, "local_edit": 0.14}
CAMERA_SHARE = 0.65
"""Of the native ones; the others are web photos as they are stored."""
AGAIN = 0.3
"""Share of the small ones that are compressed once more in the end, as what is passed on is."""
TILES = ((512, 512), (256, 256), (256, 256))
"""Of each large picture; the last one lies anywhere, the others on what is forged."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One tile: pixels H×W×3 uint8, mask H×W bool, maps of self-similarity C×H/8×W/8, and of what kind it is; and the
    JPEG that decodes to the pixels, where it is a whole picture that was saved as one."""

    pixels: Pixels
    mask: NDArray[np.bool_]
    matches: NDArray[np.float32]
    kind: str
    jpeg: bytes | None = None


Picture = tuple[Pixels, NDArray[np.bool_], str, bytes | None]
"""Pixels, mask, kind and JPEG, as of a `Sample`."""


def camera_model(path: Path) -> str:
    """The model of the camera that the name of a file says."""
    name = path.stem.removesuffix("_crop").removesuffix("_iptc")
    if name.startswith("sfm_"):  # a series of one camera
        return "_".join(name.split("_")[:2])
    return re.sub(r"_\d$", "", name)


def digest(name: str) -> int:
    """From the name alone, 0 to 255 for each of 32 bytes: here the first."""
    return hashlib.sha256(name.encode()).digest()[0]


def held_out(path: Path) -> bool:
    """Whether a photo was held out when the shipped weights were trained: by its name alone.

    Not the split of `clue train`: figures of those weights stand on photos that they were not trained on.
    """
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(name[:4], "big") / 2**32 < HELD_OUT


def decoded_size(path: Path) -> Size:
    """Height and width of a photo that can be decoded. Raises DamagedFileError."""
    with opened(path, math.inf) as image:
        height, width = rgb(image).shape[:2]
    return height, width


def cameras(data: Path, *, validation: bool) -> SourcePhotos:
    """Photos as cameras wrote them, of one side: half of the models, never a model on both."""
    found = find_source_photos([data / "photos" / CAMERAS])
    kept = [i for i, path in enumerate(found.paths) if (digest(camera_model(path)) % 2 == 0) == validation]
    return found.part(kept).checked(decoded_size)


def photos(data: Path, *, validation: bool, folders: tuple[str, ...] = PHOTOS) -> SourcePhotos:
    """Photos from the web, with the masks of objects in them."""
    root = data / "photos"
    masks = [
        (root / "coco_instances", "train2017_"),
        (root / "coco_instances", "val2017_"),
        (root / "people_masks", ""),
    ]
    found = find_source_photos([root / name for name in folders if (root / name).is_dir()], masks)
    kept = [i for i, path in enumerate(found.paths) if held_out(path) == validation]
    return found.part(kept).checked(decoded_size)


def plain(folder: Path) -> SourcePhotos | None:
    """All pictures of a folder; None where there is none."""
    return find_source_photos([folder]).checked(decoded_size) if folder.is_dir() else None


class Samples:
    """All that samples of one side are made from.

    Args:
        data: holds photos/ and composites/; kinds of samples that need what is not there are not made.
        screens: holds train/ and test/, untouched screens, and pages/train and pages/test, pages to forge
            (`make_screens.py`); None: none are made.
        validation: the held-out side.
        tools: models that fill what was removed.
    """

    def __init__(self, data: Path, screens: Path | None, *, validation: bool, tools: Tools | None = None) -> None:
        side = "test" if validation else "train"
        self.photos = photos(data, validation=validation)
        large = [i for i in range(len(self.photos.paths)) if max(self.photos.size(i)) >= LARGE_SIDE]
        self.large = self.photos.part(large)
        wanted = (data / "photos" / CAMERAS).is_dir()
        self.cameras = cameras(data, validation=validation) if wanted else None
        self.screens = plain(screens / side) if screens else None
        self.pages = plain(screens / "pages" / side) if screens else None
        found = sorted((data / "composites" / "images").glob("*.jpg"))
        self.composites = [
            (path, data / "composites" / "masks" / f"{path.stem}.png") for path in found if held_out(path) == validation
        ]
        self.tools = tools or Tools()
        there = {
            "native": self.cameras,
            "screen": self.screens,
            "document": self.pages,
            "composite": self.composites,
            "large": large,
        }
        self.shares = {kind: share for kind, share in SHARES.items() if there.get(kind, True)}

    def make(self, seed: int, index: int, kind: str | None = None) -> Iterator[Sample]:
        """The tiles of sample number `index`, of one of SHARES."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng([seed, index])
        p = np.array(list(self.shares.values()))
        kind = kind or str(rng.choice(list(self.shares), p=p / p.sum()))
        pixels, mask, name, file = getattr(self, f"_{kind}")(rng)
        maps = self_match(pixels)
        height, width = mask.shape
        if (height, width) in SMALL_SIZES:
            yield Sample(pixels, mask, maps, name, file)
            return
        for number, size in enumerate(TILES):
            if size[0] <= height and size[1] <= width:
                top, left = corner(mask, size, rng, anywhere=number == len(TILES) - 1)
                part = np.s_[top : top + size[0], left : left + size[1]]
                cells = np.s_[:, top // 8 : (top + size[0]) // 8, left // 8 : (left + size[1]) // 8]
                whole = np.ascontiguousarray
                yield Sample(whole(pixels[part]), whole(mask[part]), whole(maps[cells]), name)

    def _small(self, rng: np.random.Generator) -> Picture:
        size = SMALL_SIZES[int(rng.choice(len(SMALL_SIZES), p=SMALL_SHARES))]
        if rng.random() < 0.4:
            sample = forge_plainly(self.photos, rng, *size)
        else:
            sample = forge(self.photos, rng, *size, tools=self.tools)
        return self._passed_on(sample, rng, f"small {sample.kind}")

    def _splices(self, rng: np.random.Generator) -> Picture:
        size = SMALL_SIZES[int(rng.choice(len(SMALL_SIZES), p=SMALL_SHARES))]
        sample = forge(self.photos, rng, *size, "splices", largest=0.2)
        return sample.pixels, sample.mask, "splices", sample.jpeg

    def _large(self, rng: np.random.Generator) -> Picture:
        size = LARGE_SIZES[int(rng.integers(len(LARGE_SIZES)))]
        largest = 0.01 if rng.random() < 0.6 else 0.3
        if rng.random() < 0.7:
            kind = drawn(LARGE_KINDS, rng)
            sample = forge(self.large, rng, *size, kind, largest=largest, tools=self.tools)
        else:
            sample = forge_plainly(self.large, rng, *size, smallest=0.001, largest=largest)
        return self._passed_on(sample, rng, f"large {sample.kind}")

    def _native(self, rng: np.random.Generator) -> Picture:
        assert self.cameras is not None
        camera = rng.random() < CAMERA_SHARE
        size = NATIVE_SIZES[int(rng.integers(len(NATIVE_SIZES)))]
        kind = drawn(NATIVE_KINDS, rng)
        bank = self.cameras if camera else self.photos
        sample = forge_native(bank, rng, *size, kind, tools=self.tools)
        return sample.pixels, sample.mask, f"{'camera' if camera else 'web'} {sample.kind}", sample.jpeg

    def _document(self, rng: np.random.Generator) -> Picture:
        assert self.pages is not None
        number = int(rng.integers(len(self.pages.paths)))
        forged = "document" if rng.random() < 0.7 else "authentic"
        sample = forge_native(Photographed(self.pages, rng, number), rng, 768, 1024, forged, number=number)
        return self._passed_on(sample, rng, f"page {sample.kind}", 0.15)

    def _screen(self, rng: np.random.Generator) -> Picture:
        assert self.screens is not None
        sample = forge_native(self.screens, rng, 1024, 1024, "authentic")
        return self._passed_on(sample, rng, "screen authentic", 0.2)

    def _composite(self, rng: np.random.Generator) -> Picture:
        """A composite found on the web, 256×256, with one more history on top."""
        image_path, mask_path = self.composites[int(rng.integers(len(self.composites)))]
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            pixels = np.asarray(image.convert("RGB").resize((256, 256)))
            region = np.asarray(mask.convert("L").resize((256, 256))) > 127
        published = publish(np.ascontiguousarray(pixels), rng)
        return np.ascontiguousarray(published.pixels), np.ascontiguousarray(region), "composite", published.jpeg

    def _passed_on(self, sample: Forgery, rng: np.random.Generator, kind: str, share: float = AGAIN) -> Picture:
        if rng.random() >= share:
            return sample.pixels, sample.mask, kind, sample.jpeg
        file = encode_jpeg(np.ascontiguousarray(sample.pixels), rng, float(rng.uniform(60, 92)))
        return decode(file), sample.mask, kind, file


class Photographed:
    """Pages as they come to somebody who forges one: half of them scanned or photographed before, most as JPEG."""

    def __init__(self, pages: SourcePhotos, rng: np.random.Generator, number: int) -> None:
        self.paths, self.cutouts, self._pages = pages.paths, pages.cutouts, pages
        self._host, self._number = scanned(pages.photo(number), rng), number

    def photo(self, index: int) -> Pixels:
        """See `PhotoSource`."""
        return self._host if index == self._number else self._pages.photo(index)

    def object_mask(self, cutout: Any) -> NDArray[np.bool_]:
        """See `PhotoSource`."""
        return self._pages.object_mask(cutout)


def scanned(page: Pixels, rng: np.random.Generator) -> Pixels:
    """The page as it is, or with the tint, the light, the blur and the noise of a scan; then usually a JPEG."""
    pixels = page
    if rng.random() < 0.25:
        factor = float(rng.uniform(0.6, 1.0))
        size = (max(256, round(page.shape[1] * factor)), max(256, round(page.shape[0] * factor)))
        pixels = np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8)
    if rng.random() < 0.55:
        light = cv2.resize(
            rng.uniform(0.85, 1.0, (3, 3)).astype(np.float32), pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC
        )
        tinted = pixels * light[..., None] * rng.uniform(0.9, 1.0, 3).astype(np.float32)
        blurred = np.asarray(cv2.GaussianBlur(tinted, (0, 0), float(rng.uniform(0.4, 1.1))))
        noise = rng.standard_normal(blurred.shape, dtype=np.float32) * float(rng.uniform(0.5, 5))
        if rng.random() < 0.5:  # a sensor's noise after its demosaicing is not white
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7)) * 1.6
        pixels = (blurred + noise + 0.5).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.85:
        pixels = jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 97)))
    return pixels


def drawn(shares: dict[str, float], rng: np.random.Generator) -> str:
    """One of the keys."""
    p = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=p / p.sum()))


def corner(
    mask: NDArray[np.bool_], size: tuple[int, int], rng: np.random.Generator, *, anywhere: bool
) -> tuple[int, int]:
    """Top and left of a tile, multiples of 8: one that holds a forged pixel, if there is any, or one anywhere."""
    room = np.array(mask.shape) - size
    forged = np.argwhere(mask)
    if anywhere or not len(forged):
        top, left = (int(rng.integers(side // 8 + 1)) * 8 for side in room)
        return top, left
    pixel = forged[int(rng.integers(len(forged)))]
    first, last = np.maximum(0, (pixel - size + 8) // 8), np.minimum(pixel, room) // 8
    top, left = (int(rng.integers(low, max(low, high) + 1)) * 8 for low, high in zip(first, last, strict=True))
    return top, left
