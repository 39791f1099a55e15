"""The images of a source: listed (pairs, list files, authentic photos, public sets), and cropped with their masks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from model.config import ConfigError
from model.data.history import publish, resize
from model.data.mix import Augment, Authentic, Forge, ListFile, Masks, NamedSet, Pairs, Shape, Source, photo_name, place
from model.datasets.own import find_list
from model.datasets.registry import DATASETS, read_set
from model.datasets.sample import Sample
from model.images.folders import find_pictures
from model.images.masks import Mask, MaskStyle, check_mask_size, read_mask
from model.images.pairing import match_by_key
from model.images.pixels import DamagedFileError, Pixels, opened, rgb, stored_size


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


def _pairs(data: Pairs) -> SourceImages:
    found, photo = SourceImages(), partial(photo_name, data.photo)
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
    found, photo = SourceImages(), partial(photo_name, data.photo)
    listed = (p for folder in data.folders for p in find_pictures(folder, found.problems, forged=False))
    for path in dict.fromkeys(listed):
        found.samples.append(Sample(path.name, path, (), False, photos=(photo(path.stem),)))
    return found


def _listed(data: ListFile) -> SourceImages:
    listing = find_list(data.file, named=True, photo=partial(photo_name, data.photo))
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


AS_IT_IS = Augment(flip=0, rescale=0, history=0, aligned=1, focus=1)
"""Nothing done to the file's pixels, and what is forged in sight: for the sides that are measured."""


def sample_mask(sample: Sample, reading: Masks, limit: float, size: tuple[int, int] | None = None) -> Mask | None:
    """What is forged of an image, H×W bool, the union of its masks; None: it has none, and is authentic.

    Args:
        sample: the image.
        reading: how its masks are read.
        limit: on the size of the file, 10⁶ pixels.
        size: height and width of the image; None: not compared.

    Raises:
        DamagedFileError: it cannot be used.
    """
    if not sample.masks:
        return None
    whole, *parts = (_read(path, sample.style, reading, limit, size) for path in sample.masks)
    for path, part in zip(sample.masks[1:], parts, strict=True):
        check_mask_size(path, part.shape, whole.shape)
        whole = whole | part
    if reading.empty_masks == "damaged" and not whole.any():
        raise DamagedFileError(f"{sample.masks[0]}: the mask marks nothing")
    return whole


def _read(path: Path, style: MaskStyle, reading: Masks, limit: float, size: tuple[int, int] | None) -> Mask:
    if style in ("white", "black"):
        style = "black" if reading.inverted != (style == "black") else "white"
        return read_mask(path, style, limit, strict=True, size=size, fit=reading.fit_masks)
    # not strict: dark grey marks something there
    mask = read_mask(path, style, limit, size=size, fit=reading.fit_masks)
    return ~mask if reading.inverted else mask


def cut(
    sample: Sample, reading: Masks, limit: float, shape: Shape, augment: Augment, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A crop of an image, H×W×3 uint8, and of its mask, H×W bool, both of the shape.

    Args:
        sample: the image.
        reading: how its mask is read.
        limit: on the size of the files, 10⁶ pixels.
        shape: height and width of what is returned.
        augment: what is done to it.
        rng: everything random is drawn from it.

    Raises:
        DamagedFileError: the image or its mask cannot be used.
    """
    with opened(sample.image, limit) as image:
        height, width = stored_size(image)
        mask = sample_mask(sample, reading, limit, (height, width))
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
        pixels = publish(np.ascontiguousarray(pixels), rng).pixels
    return np.ascontiguousarray(pixels), np.ascontiguousarray(region)


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
