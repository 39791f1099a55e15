"""The images of a source: folders of pairs, lists, folders of authentic photos, public sets, photos to forge from."""

from __future__ import annotations

from pathlib import Path

from model.data.entries import Entries, Entry, match_by_key
from model.data.layouts import LAYOUTS
from model.data.list_files import listed
from model.data.mix import Authentic, Forge, ListFile, NamedSet, Pairs, Source
from model.data.photo_names import SlowPatternError, photo_names
from model.data.picture_folders import find_pictures
from model.data.sides import place
from model.data.yaml_reader import MixError


def list_entries(source: Source) -> Entries:
    """All images of a source, both sides, sorted by path. Files are listed, not opened.

    Raises:
        MixError: a list file that cannot be read, a named set without its folders, a pattern of `photo` that does not
            get through the names, or a source of photos to forge.
    """
    data = source.data
    if isinstance(data, Forge):
        raise MixError(source.where, "photos to forge from are no entries", "a source of files")
    try:
        found = _found(data, source.where)
    except SlowPatternError as error:
        expected = "a pattern without repeats inside repeats, such as ^(.+)_"
        raise MixError(f"{source.where}.photo", str(error), expected) from error
    if not found.entries:
        found.problems.append(f"{source.name}: no image that can be used")
    if data.fraction < 1:
        found.entries = [e for e in found.entries if place(f"fraction {e.image.name}") < data.fraction]
        if not found.entries:
            found.problems.append(f"{source.name}: the fraction {data.fraction:g} leaves no image")
    return found


def _found(data: Pairs | ListFile | NamedSet | Authentic, where: str) -> Entries:
    match data:
        case Pairs():
            return _pairs(data)
        case ListFile():
            return listed(data)
        case Authentic():
            return _authentic(data)
        case NamedSet():
            return LAYOUTS[data.layout](data.root, where)


def _pairs(data: Pairs) -> Entries:
    found = Entries()
    images, masks = (find_pictures(folder, found.problems) for folder in (data.images, data.masks))
    if data.images.resolve() == data.masks.resolve():
        images = [p for p in images if not p.stem.endswith(data.suffix)]
        masks = [p for p in masks if p.stem.endswith(data.suffix)]

    def mask_key(path: Path) -> str | None:
        key = str(path.relative_to(data.masks).with_suffix(""))
        return key[: len(key) - len(data.suffix)] if key.endswith(data.suffix) else None

    def image_key(path: Path) -> str:
        return str(path.relative_to(data.images).with_suffix(""))

    matched = list(match_by_key(images, masks, image_key, mask_key, found.problems))
    photos = photo_names([image.stem for image, _ in matched], data.photo)
    found.entries = [Entry(image, mask, (photo,)) for (image, mask), photo in zip(matched, photos, strict=True)]
    return found


def _authentic(data: Authentic) -> Entries:
    found = Entries()
    paths = list(dict.fromkeys(p for folder in data.folders for p in find_pictures(folder, found.problems)))
    photos = photo_names([path.stem for path in paths], data.photo)
    found.entries = [Entry(path, None, (photo,)) for path, photo in zip(paths, photos, strict=True)]
    return found
