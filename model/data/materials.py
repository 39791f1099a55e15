"""What samples and pictures of recipes are made of: sources of a mix, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from model.config import ConfigError
from model.data.filling import Fillers
from model.data.history import jpeg
from model.data.making import COMPOSITE
from model.data.mix import Authentic, Forge, Masks, Mix, Pairs, Source, Split, photo_name, split_of
from model.data.scene import Tools
from model.data.source_photos import Size, SourcePhotos, checked_size, find_source_photos, of_split, photos_of
from model.data.sources import list_images, sample_mask
from model.datasets.sample import Sample
from model.images.masks import Mask
from model.images.pixels import Pixels, read_pixels

ROLES = {"photos": Forge, "cameras": Forge, "screens": Authentic, "pages": Forge, "composites": Pairs}
"""Names of sources that pictures are made of, and their kind."""


@dataclass(slots=True)
class Materials:
    """What pictures of one side are made of.

    Attributes:
        photos, large: photos from the web, and the large ones of them.
        cameras, screens, pages: photos as cameras wrote them; untouched screens and drawings; pages to forge.
        composites: forged images with their masks, which `reading` says how to read.
        tools: models that fill what was removed.
        names: how the camera is found in the path of its photo, and the template in that of a screen or a page.
        problems: what is left out, and why.
        absent: names of sources without a photo on this side.
    """

    photos: SourcePhotos
    large: SourcePhotos
    cameras: SourcePhotos | None = None
    screens: SourcePhotos | None = None
    pages: SourcePhotos | None = None
    composites: list[Sample] = field(default_factory=list)
    reading: Masks = field(default_factory=Masks)
    tools: Tools = field(default_factory=Tools)
    names: dict[str, Callable[[Path], str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def composite(self, index: int, max_megapixels: float) -> tuple[Pixels, Mask]:
        """One of the composites, of the size COMPOSITE."""
        sample = self.composites[index]
        pixels = read_pixels(sample.image, max_megapixels)
        mask = sample_mask(sample, self.reading, max_megapixels, (pixels.shape[0], pixels.shape[1]))
        assert mask is not None
        region = Image.fromarray(mask.astype(np.uint8) * 255).resize(COMPOSITE)
        return np.asarray(Image.fromarray(pixels).resize(COMPOSITE)), np.asarray(region) > 127


def materials_of(mix: Mix, side: Split, large_side: int) -> Materials:
    """What a mix has for one side: the sources that bear a name of ROLES.

    Args:
        mix: what to draw from.
        side: no photo of another one is used.
        large_side: large photos have one side of as many pixels.

    Raises:
        ConfigError: there are no photos, or a source is of another kind than its name says.
    """
    problems: list[str] = []
    named: dict[str, Source] = {}
    for source in mix.sources:
        role = ROLES.get(source.name)
        if role is None:
            problems.append(f"{source.name}: the recipe makes pictures of {', '.join(ROLES)} only")
        elif source.weight > 0:
            if not isinstance(source.data, role):
                expected = f"the kind {role.__name__.lower()}"
                raise ConfigError(source.where, f"`{source.name}` is of the kind {source.kind}", expected)
            named[source.name] = source

    def photos(name: str) -> SourcePhotos | None:
        if name not in named:
            return None
        data = named[name].data
        found = photos_of(data) if isinstance(data, Forge) else find_source_photos(getattr(data, "folders", ()))
        problems.extend(found.problems)
        own = of_split(found, side, mix.validation, getattr(data, "photo", None))
        checked = own.checked(partial(_size, mix.max_megapixels, side == "calibration"), problems)
        return checked if checked.paths else None

    banks = {role: photos(role) for role in ROLES if role != "composites"}
    own = banks.pop("photos")
    if own is None:
        expected = "a `forge` source with the name `photos`, and more photos in it"
        raise ConfigError(mix.where(), f"there is no photo to forge from on the {side} side", expected)
    composites: list[Sample] = []
    if "composites" in named:
        found = list_images(named["composites"])
        problems += found.problems
        composites = [sample for sample in found.samples if split_of(sample, mix.validation) == side]
    there = {name for name, bank in banks.items() if bank} | {"photos"} | ({"composites"} if composites else set())
    patterns = {name: getattr(source.data, "photo", None) for name, source in named.items()}
    for one in named.values():
        if isinstance(one.data, Forge) and one.data.autoencoder is not None:
            raise ConfigError(
                one.where, "found `autoencoder`, which a recipe that makes its samples has not", "`fillers`"
            )
    fillers = [path for one in named.values() if isinstance(one.data, Forge) for path in one.data.fillers]
    return Materials(
        photos=own,
        large=own.part([i for i, size in enumerate(own.sizes) if max(size) >= large_side]),
        composites=composites,
        reading=named["composites"].masks if composites else Masks(),
        tools=Tools(autoencoder=Fillers(fillers)) if fillers else Tools(),
        names={name: partial(_named, pattern) for name, pattern in patterns.items()},
        problems=problems,
        absent=sorted(named.keys() - there),
        **banks,
    )


def _size(max_megapixels: float, decoded: bool, path: Path) -> Size:
    """Height and width of a photo that can be used: by its header, or decoded."""
    size = checked_size(path, max_megapixels)
    return read_pixels(path, max_megapixels).shape[:2] if decoded else size


def _named(pattern: re.Pattern[str] | None, path: Path) -> str:
    return photo_name(pattern, path.stem)


class Photographed:
    """Pages as they come to somebody who forges one: half of them scanned or photographed before, most as JPEG."""

    def __init__(self, pages: SourcePhotos, rng: np.random.Generator, number: int) -> None:
        self.paths, self.cutouts, self._pages = pages.paths, pages.cutouts, pages
        self._host, self._number = scanned(pages.photo(number), rng), number

    def photo(self, index: int) -> Pixels:
        """See `PhotoSource`."""
        return self._host if index == self._number else self._pages.photo(index)

    def object_mask(self, cutout: Any) -> Mask:
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
