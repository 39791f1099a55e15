"""The images of a source: folders of pairs, lists, folders of authentic photos, public sets, photos to forge from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from model.data.entries import Entries, Entry, find_pictures, match_by_key
from model.data.layouts import LAYOUTS
from model.data.mix import Authentic, Forge, ListFile, NamedSet, Pairs, Source
from model.data.photo_names import SlowPatternError, photo_names
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
            return _list_file(data)
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


def _list_file(data: ListFile) -> Entries:
    found = Entries()
    taken: set[Path] = set()
    listed: list[tuple[Path, Path | None, str]] = []
    for line, row in _rows(data.file):
        where = f"{data.file}, line {line}"
        fields = [row.get(name) for name in ("image", "mask", "photo")]
        if not all(value is None or isinstance(value, str) for value in fields):
            raise MixError(where, "found a value that is no text", "texts in `image`, `mask` and `photo`")
        image, mask, photo = (str(value) if value else "" for value in fields)
        if not image:
            raise MixError(where, "`image` is missing", "the path of an image")
        paths = [data.file.parent / name for name in (image, mask) if name]
        missing = [path for path in paths if not _is_file(path)]
        if missing:
            found.problems.append(f"{where}: there is no file {missing[0]}")
        elif paths[0] in taken:
            found.problems.append(f"{where}: {image} is in the list already")
        else:
            taken.add(paths[0])
            listed.append((paths[0], paths[1] if mask else None, photo))
    names = photo_names([image.stem for image, _, _ in listed], data.photo)
    for (path, truth, photo), name in zip(listed, names, strict=True):
        found.entries.append(Entry(path, truth, (photo or name,)))
    found.entries.sort(key=lambda entry: entry.image)
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and fields of each row of a CSV or JSONL file."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                line = 1
                if "image" not in (reader.fieldnames or ()):
                    raise MixError(f"{path}, line 1", "no column `image`", "a header such as image,mask,photo")
                for fields in reader:
                    line = reader.line_num
                    if None in fields:
                        raise MixError(f"{path}, line {line}", "more values than columns", "a value for each column")
                    yield line, dict(fields)
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise MixError(f"{path}, line {line}", "not an object", '{"image": …, "mask": …}')
                    yield line, row
    except (OSError, UnicodeError, csv.Error, RecursionError) as error:
        raise MixError(f"{path}, after line {line}", str(error), "UTF-8 text, CSV or JSONL") from error
    except json.JSONDecodeError as error:
        raise MixError(f"{path}, line {line}", f"not JSON ({error.msg})", '{"image": …, "mask": …}') from error
    except MixError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise MixError(f"{path}, line {line}", f"not JSON ({error})", '{"image": …, "mask": …}') from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False
