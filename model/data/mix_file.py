"""Reading `mix.yaml`, the file that MIX.md beside this module describes, into a `model.data.mix.Mix`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from model.data.mix import (
    LARGEST_PICTURE,
    Augment,
    Authentic,
    Curriculum,
    EmptyMask,
    Forge,
    ListFile,
    MaskFolder,
    Masks,
    Mix,
    NamedSet,
    Pairs,
    Shape,
    Source,
    Validation,
)
from model.data.yaml_reader import Value, read_yaml
from model.datasets.registry import DATASETS
from model.images.lists import LIST_SUFFIXES

LONGEST_PATTERN = 1000
"""Characters of a regular expression."""


def load_mix(path: Path | str) -> Mix:
    """Read and check a mix; folders and list files it names must exist, their content is not looked at.

    Raises:
        MixError: anything wrong, with file, line, key, what was found and what was expected.
    """
    top, data = read_yaml(Path(path))
    values = top.mapping(["sources", "validation", "shapes", "augment", "max_megapixels"])
    if "sources" not in values:
        raise top.error("a list of sources", "the key `sources` is missing")
    # Pillow itself refuses more than 178 million pixels
    limit = values["max_megapixels"].number(0.01, 178) if "max_megapixels" in values else LARGEST_PICTURE
    return Mix(
        path=Path(path),
        sources=_sources(values["sources"]),
        validation=_validation(values["validation"]) if "validation" in values else Validation(),
        shapes=_shapes(values["shapes"]) if "shapes" in values else (Shape(256, 256, where=f"{path}, no `shapes`"),),
        augment=_augment(values["augment"]) if "augment" in values else Augment(),
        max_megapixels=limit,
        digest=hashlib.sha256(data).hexdigest(),
        where=values["sources"].where,
    )


def _sources(value: Value) -> tuple[Source, ...]:
    sources: list[Source] = []
    names: set[str] = set()
    for item in value.items("a list of sources"):
        source = _source(item, names)
        names.add(source.name)
        sources.append(source)
    if not sources:
        raise value.error("at least one source")
    if not any(source.weight > 0 for source in sources):
        raise value.error("at least one source with a weight above 0", "found only weights of 0")
    return tuple(sources)


def _source(item: Value, taken: set[str]) -> Source:
    values = item.mapping([*_KINDS, "name", "weight"])
    kinds = [key for key in values if key in _KINDS]
    if len(kinds) != 1:
        found = f"found both `{kinds[0]}` and `{kinds[1]}`" if kinds else "found no kind of source"
        own = ", ".join(kind for kind in _KINDS if kind not in DATASETS)
        raise item.error(f"exactly one of {own}, or a public set such as casia2 (`clue eval --list`)", found)
    kind = kinds[0]
    name = next(n for n in (kind, *(f"{kind} {i}" for i in range(2, len(taken) + 3))) if n not in taken)
    if "name" in values:
        name = values["name"].text("a name")
        if name in taken:
            raise values["name"].error("a name that no other source has")
        if not name.isprintable() or len(name) > 60:
            raise values["name"].error("at most 60 printable characters")
    weight = values["weight"].number(0, 1e6) if "weight" in values else 1.0
    return Source(name, weight, _KINDS[kind](values[kind]), values[kind].where)


def _pairs(value: Value) -> Pairs:
    values = value.mapping(["images", "masks", "suffix", *_LISTED, *_READING])
    _need(value, values, "images", "masks")
    images, masks = values["images"].folder(), values["masks"].folder()
    suffix = values["suffix"].text("the end of the masks' stems, such as _gt") if "suffix" in values else ""
    if not suffix and images.resolve() == masks.resolve():
        raise values["masks"].error("another folder than `images`, or a `suffix` that tells masks from images")
    return Pairs(images, masks, suffix, _photo(values), _fraction(values), _reading(values))


def _list(value: Value) -> ListFile:
    values = {"file": value} if value.is_text() else value.mapping(["file", *_LISTED, *_READING])
    _need(value, values, "file")
    file = values["file"].regular_file()
    if file.suffix.lower() not in LIST_SUFFIXES:
        raise values["file"].error(f"a file whose name ends in {', '.join(sorted(LIST_SUFFIXES))}")
    return ListFile(file, _photo(values), _fraction(values), _reading(values))


def _named(name: str) -> Callable[[Value], NamedSet]:
    def read(value: Value) -> NamedSet:
        values = {"root": value} if value.is_text() else value.mapping(["root", "fraction", *_READING])
        _need(value, values, "root")
        return NamedSet(name, values["root"].folder(), _fraction(values), _reading(values))

    return read


def _authentic(value: Value) -> Authentic:
    values = {"folders": value} if value.is_text() or value.is_list() else value.mapping(["folders", *_LISTED])
    _need(value, values, "folders")
    return Authentic(_folders(values["folders"]), _photo(values), _fraction(values))


def _forge(value: Value) -> Forge:
    known = ["photos", "masks", "plain_share", "photo", "fillers"]
    values = {"photos": value} if value.is_text() or value.is_list() else value.mapping(known)
    _need(value, values, "photos")
    masks: list[MaskFolder] = []
    if "masks" in values:
        listed = values["masks"].items("a list of folders of object masks") if values["masks"].is_list() else None
        for item in listed if listed is not None else [values["masks"]]:
            if item.is_text():
                masks.append(MaskFolder(item.folder()))
                continue
            parts = item.mapping(["folder", "prefix"], "a folder, or a mapping with `folder` and `prefix`")
            _need(item, parts, "folder")
            prefix = parts["prefix"].text("the start of the masks' names") if "prefix" in parts else ""
            if any(c in prefix for c in "*?[/\\"):
                raise parts["prefix"].error("the start of the masks' names, without * ? [ or slashes")
            masks.append(MaskFolder(parts["folder"].folder(), prefix))
    plain = _curriculum(values["plain_share"]) if "plain_share" in values else Curriculum()
    fillers = _folders(values["fillers"]) if "fillers" in values else ()
    return Forge(_folders(values["photos"]), tuple(masks), plain, _photo(values), fillers)


def _curriculum(value: Value) -> Curriculum:
    if value.is_text():
        share = value.number(0, 1)
        return Curriculum(share, share)
    values = value.mapping(["start", "end", "batches"], "a number from 0 to 1, or `start`, `end` and `batches`")
    _need(value, values, "start", "end", "batches")
    return Curriculum(values["start"].number(0, 1), values["end"].number(0, 1), values["batches"].whole(0, 10**9))


def _folders(value: Value) -> tuple[Path, ...]:
    expected = "a folder or a list of folders"
    folders = (value.folder(),) if value.is_text() else tuple(item.folder() for item in value.items(expected))
    if not folders:
        raise value.error(expected)
    return folders


def _photo(values: dict[str, Value]) -> re.Pattern[str] | None:
    if "photo" not in values:
        return None
    expected = "a regular expression with one group that names the source photo, such as ^(.+)_"
    written = values["photo"].text(expected)
    if len(written) > LONGEST_PATTERN:
        raise values["photo"].error(f"at most {LONGEST_PATTERN} characters", f"found {len(written)} characters")
    try:
        pattern = re.compile(written)
    except (re.error, RecursionError, OverflowError) as error:
        raise values["photo"].error(expected, f"found `{written}`, which is none: {error}") from None
    if pattern.groups != 1:
        raise values["photo"].error(expected)
    return pattern


def _fraction(values: dict[str, Value]) -> float:
    return values["fraction"].number(0, 1) if "fraction" in values else 1.0


def _reading(values: dict[str, Value]) -> Masks:
    inverted = values["inverted"].flag() if "inverted" in values else False
    fit = values["fit_masks"].flag() if "fit_masks" in values else False
    if "empty_masks" not in values:
        return Masks(inverted, fit)
    expected = f"{' or '.join(get_args(EmptyMask))}: what the image of a mask that marks nothing is"
    word = values["empty_masks"].text(expected)
    for empty in get_args(EmptyMask):
        if word == empty:
            return Masks(inverted, fit, empty)
    raise values["empty_masks"].error(expected)


def _validation(value: Value) -> Validation:
    values = value.mapping(["share", "seed", "calibration_share"])
    default = Validation()
    return Validation(
        values["share"].number(0, 0.5) if "share" in values else default.share,
        values["seed"].whole(0, 2**32 - 1) if "seed" in values else default.seed,
        values["calibration_share"].number(0, 0.4) if "calibration_share" in values else default.calibration_share,
        values["share"].where if "share" in values else "",
    )


def _shapes(value: Value) -> tuple[Shape, ...]:
    expected = "a list of sizes: 256 for a square, or a mapping with `height`, `width` and `weight`"
    shapes: list[Shape] = []
    for item in value.items(expected):
        if item.is_text():
            side = _pixels(item)
            shapes.append(Shape(side, side, where=item.where))
            continue
        values = item.mapping(["height", "width", "weight"], expected)
        _need(item, values, "height", "width")
        weight = values["weight"].number(1e-6, 1e6) if "weight" in values else 1.0
        shapes.append(Shape(_pixels(values["height"]), _pixels(values["width"]), weight, item.where))
    if not shapes:
        raise value.error(expected)
    return tuple(shapes)


def _pixels(value: Value) -> int:
    pixels = value.whole(32, 4096)
    if pixels % 8:
        raise value.error("a multiple of 8 pixels")
    return pixels


def _augment(value: Value) -> Augment:
    names = list(Augment.__dataclass_fields__)
    return Augment(**{name: found.number(0, 1) for name, found in value.mapping(names).items()})


def _need(value: Value, values: dict[str, Value], *names: str) -> None:
    for name in names:
        if name not in values:
            raise value.error(f"the key `{name}`", f"`{name}` is missing")


_LISTED = ("photo", "fraction")
_READING = ("inverted", "fit_masks", "empty_masks")
_KINDS: dict[str, Callable[[Value], Pairs | ListFile | NamedSet | Authentic | Forge]] = {
    "pairs": _pairs,
    "list": _list,
    **{name: _named(name) for name in DATASETS},
    "authentic": _authentic,
    "forge": _forge,
}
