"""The images of a source: folders of pairs, lists, folders of authentic photos, public sets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from model.config import ConfigError
from model.data.mix import Authentic, Forge, ListFile, NamedSet, Pairs, Source, photo_name, place
from model.datasets.own import find_list
from model.datasets.registry import DATASETS, read_set
from model.datasets.sample import Sample
from model.images.folders import find_pictures
from model.images.pairing import match_by_key


@dataclass(slots=True)
class SourceImages:
    """The images of a source, and what is wrong with it, in words."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_images(source: Source) -> SourceImages:
    """All images of a source that can be trained on, of all sides. Files are listed, not opened.

    Raises:
        ConfigError: a list file that cannot be read, a public set that is not there, or a source of source photos.
    """
    found = _found(source)
    if not found.samples:
        found.problems.append(f"{source.name}: no image that can be used")
    fraction = getattr(source.data, "fraction", 1.0)
    if fraction < 1:
        found.samples = [s for s in found.samples if place(f"fraction {s.image.name}") < fraction]
        if not found.samples:
            found.problems.append(f"{source.name}: the fraction {fraction:g} leaves no image")
    return found


def _found(source: Source) -> SourceImages:
    match source.data:
        case Pairs():
            return _pairs(source.data)
        case ListFile():
            return _listed(source.data)
        case Authentic():
            return _authentic(source.data)
        case NamedSet():
            return _public(source.data, source.where)
        case Forge():
            raise ConfigError(source.where, "photos to forge from are no images", "a source of files")


def _photo_in(pattern: re.Pattern[str] | None) -> Callable[[str], str]:
    return partial(photo_name, pattern)


def _pairs(data: Pairs) -> SourceImages:
    found, photo = SourceImages(), _photo_in(data.photo)
    images, masks = (find_pictures(folder, found.problems) for folder in (data.images, data.masks))
    if data.images.resolve() == data.masks.resolve():
        images = [p for p in images if not p.stem.endswith(data.suffix)]
        masks = [p for p in masks if p.stem.endswith(data.suffix)]

    def mask_key(path: Path) -> str | None:
        key = str(path.relative_to(data.masks).with_suffix(""))
        return key[: len(key) - len(data.suffix)] if key.endswith(data.suffix) else None

    def image_key(path: Path) -> str:
        return str(path.relative_to(data.images).with_suffix(""))

    for image, mask in match_by_key(images, masks, image_key, mask_key, found.problems):
        key = image.relative_to(data.images).as_posix()
        found.samples.append(Sample(key, image, (mask,), True, photos=(photo(image.stem),)))
    return found


def _authentic(data: Authentic) -> SourceImages:
    found, photo = SourceImages(), _photo_in(data.photo)
    listed = (p for folder in data.folders for p in find_pictures(folder, found.problems, forged=False))
    for path in dict.fromkeys(listed):
        found.samples.append(Sample(path.name, path, (), False, photos=(photo(path.stem),)))
    return found


def _listed(data: ListFile) -> SourceImages:
    listing = find_list(data.file, named=True, photo=_photo_in(data.photo))
    samples = sorted(listing.samples, key=lambda sample: sample.image)
    problems = [f"{data.file}: {problem}" for problem in listing.problems]
    return SourceImages([s for s in samples if s.masks or not s.forged], problems)


def _public(data: NamedSet, where: str) -> SourceImages:
    dataset = DATASETS[data.name]
    try:
        found = read_set(dataset, data.root)
    except OSError as error:
        raise ConfigError(where, f"{error.filename}: {error.strerror}", "a folder that may be listed") from error
    if found is None:
        trees = "; or ".join(layout.tree for layout in dataset.layouts)
        raise ConfigError(where, f"{data.root} is laid out in no way that is known of {data.name}", trees)
    listing = found.listing
    problems = [f"{found.folder}: {problem}" for problem in listing.problems]
    if listing.ignored:
        problems.append(f"{found.folder}: files that are not read as pictures: {listing.ignored}")
    usable = (sample for sample in listing.samples if sample.masks or not sample.forged)
    return SourceImages([replace(sample, photos=dataset.photos(sample.image)) for sample in usable], problems)
