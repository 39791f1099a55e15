"""What a source consists of: images, their masks, and the photos they were made from.

Pairs are matched by stem, never by order; whatever has no partner is reported. The layouts of the public sets follow
the loaders of CAT-Net (Kwon et al. 2022) and the sets' own pages:

- CASIA 2.0: `Au`, `Tp`, `CASIA 2 Groundtruth/<stem>_gt.png`. `Tp_D_NRN_S_N_ind00071_cha00063_00472` was made from the
  photos ind00071 and cha00063, and `Au_ind_00071` is one of them.
- IMD2020: a folder per original with `<x>_orig.jpg`, and `<stem>_mask.png` beside each forgery.
- FantasticReality: `dataset/{ColorRealImages,ColorFakeImages,SegmentationFake}`, masks as arrays of classes (`.npz`);
  `IMG_0015571_IMG_0005567` was made from two photos.
- tampCOCO: `{cm,sp,bcm,bcmc}_images` and `{cm,sp,bcm}_masks`; names hold the ids of the COCO photos.
- DEFACTO: `<kind>_img/img` and `<kind>_annotations/probe_mask`; names end in the id of the COCO photo that was edited.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from model.data.mix import Authentic, Forge, Layout, ListFile, MixError, NamedSet, Pairs, Source, Validation
from model.data.photo_bank import SUFFIXES, PhotoBank, bank_of

Side = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a source.

    Attributes:
        image: the file.
        mask: its mask; None: authentic.
        photos: the photos it was made from, as far as its name or list tells; they decide its side.
    """

    image: Path
    mask: Path | None
    photos: tuple[str, ...]

    @property
    def group(self) -> str:
        """The source photos in one word."""
        return "+".join(self.photos)


@dataclass(slots=True)
class Entries:
    """The images of a source, and what is wrong with it, in words."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_entries(source: Source) -> Entries:
    """All images of a source, both sides, sorted by path. Files are listed, not opened.

    Raises:
        MixError: a list file that cannot be read, a named set without its folders, or a source of photos to forge.
    """
    data = source.data
    if isinstance(data, Pairs):
        found = _pairs(data)
    elif isinstance(data, ListFile):
        found = _list_file(data)
    elif isinstance(data, Authentic):
        found = _authentic(data)
    elif isinstance(data, NamedSet):
        found = _LAYOUTS[data.layout](data.root, source.where)
    else:
        raise MixError(source.where, "photos to forge from are no entries", "a source of files")
    if not found.entries:
        found.problems.append(f"{source.name}: no image that can be used")
    if data.fraction < 1:
        found.entries = [e for e in found.entries if _place(f"fraction {e.image.name}") < data.fraction]
        if not found.entries:
            found.problems.append(f"{source.name}: the fraction {data.fraction:g} leaves no image")
    return found


def held_out(photo: str, validation: Validation) -> bool:
    """Whether a source photo is held out: decided by its name and the seed alone, whatever else is in the mix."""
    return _place(f"{validation.seed} {photo}") < validation.share


def side_of(entry: Entry, validation: Validation) -> Side | None:
    """The side of an image. None: it was made from photos of both sides, and would carry one side into the other."""
    sides = {held_out(photo, validation) for photo in entry.photos}
    return None if len(sides) > 1 else "validation" if sides.pop() else "train"


def photos_to_forge(
    data: Forge, side: Side, validation: Validation, cache: Path, keep: Callable[[Path], bool] = lambda path: True
) -> PhotoBank:
    """One side of the photos of a `forge` source and their cut-outs, not decoded yet (`PhotoBank.prepare`).

    Args:
        data: the source.
        side: the side that is wanted.
        validation: how the sides are split.
        cache: folder that `prepare` decodes the photos into.
        keep: asked for each photo of the side whether it is wanted.
    """
    masks = [(m.folder, m.prefix) for m in data.masks]
    bank = bank_of(data.photos, masks, cache, share=0.0, validation=False)
    wanted = side == "validation"
    kept = [i for i, p in enumerate(bank.paths) if held_out(p.stem, validation) == wanted and keep(p)]
    place = {old: new for new, old in enumerate(kept)}
    bank.cutouts = [replace(c, photo=place[c.photo]) for c in bank.cutouts if c.photo in place]
    bank.paths = [bank.paths[i] for i in kept]
    return bank


def _place(name: str) -> float:
    """A number in [0, 1) that depends on a name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _pictures(folder: Path, problems: list[str], suffixes: set[str] = SUFFIXES) -> list[Path]:
    """All pictures below a folder, sorted; files of other types are counted among the problems."""
    paths: list[Path] = []
    others: Counter[str] = Counter()

    def failed(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    for top, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        links = [Path(top, name) for name in folders if Path(top, name).is_symlink()]  # os.walk stays out of them
        problems.extend(f"{link}: a link to a folder, which is not followed" for link in links)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow
            if suffix in suffixes and not name.startswith("."):
                paths.append(Path(top, name))
            elif not name.startswith(".") and suffix != ".db":
                others[suffix or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} × {suffix}" for suffix, count in sorted(others.items()))
        problems.append(f"{folder}: files that are not read as pictures: {kinds}")
    return sorted(paths)


def _match(
    images: Sequence[Path],
    masks: Sequence[Path],
    image_key: Callable[[Path], str],
    mask_key: Callable[[Path], str | None],
    problems: list[str],
) -> Iterator[tuple[Path, Path]]:
    """Images and masks of the same key. Reported: no partner, and a key that more than one file has."""
    by_key: dict[str, Path] = {}
    for mask in masks:
        key = mask_key(mask)
        if key is None:
            problems.append(f"{mask}: not named like a mask")
        elif key in by_key:
            problems.append(f"{mask}: the same name as {by_key[key].name}, which is used")
        else:
            by_key[key] = mask
    taken: dict[str, Path] = {}
    for image in images:
        key = image_key(image)
        if key in taken:
            problems.append(f"{image}: the same name as {taken[key].name}, which is used")
        elif key not in by_key:
            problems.append(f"{image}: no mask")
        else:
            taken[key] = image
            yield image, by_key[key]
    problems.extend(f"{mask}: no image" for key, mask in by_key.items() if key not in taken)


def _photo_of(stem: str, pattern: re.Pattern[str] | None) -> str:
    match = pattern.search(stem) if pattern else None
    return (match[1] if match else None) or stem


def _pairs(data: Pairs) -> Entries:
    found = Entries()
    images, masks = (_pictures(folder, found.problems) for folder in (data.images, data.masks))
    if data.images.resolve() == data.masks.resolve():
        images = [p for p in images if not p.stem.endswith(data.suffix)]
        masks = [p for p in masks if p.stem.endswith(data.suffix)]

    def mask_key(path: Path) -> str | None:
        key = str(path.relative_to(data.masks).with_suffix(""))
        return key[: len(key) - len(data.suffix)] if key.endswith(data.suffix) else None

    def image_key(path: Path) -> str:
        return str(path.relative_to(data.images).with_suffix(""))

    for image, mask in _match(images, masks, image_key, mask_key, found.problems):
        found.entries.append(Entry(image, mask, (_photo_of(image.stem, data.photo),)))
    return found


def _authentic(data: Authentic) -> Entries:
    found = Entries()
    for path in dict.fromkeys(p for folder in data.folders for p in _pictures(folder, found.problems)):
        found.entries.append(Entry(path, None, (_photo_of(path.stem, data.photo),)))
    return found


def _list_file(data: ListFile) -> Entries:
    found = Entries()
    taken: set[Path] = set()
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
            name = photo or _photo_of(paths[0].stem, data.photo)
            found.entries.append(Entry(paths[0], paths[1] if mask else None, (name,)))
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _folder(where: str, root: Path, *names: str) -> Path:
    """The first of the named folders that exists below `root`."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise MixError(where, f"there is no folder `{names[0]}` in {root}", "the set in its published layout")


def _casia2(root: Path, where: str) -> Entries:
    found = Entries()
    base = _folder(where, root, "CASIA 2.0/Tp", "CASIA2.0_revised/Tp", "CASIA2/Tp", "Tp").parent
    truth = ["CASIA 2 Groundtruth", "CASIA2.0_Groundtruth", "Groundtruth", "groundtruth", "Gt"]
    beside = [f"{base.relative_to(root)}/{name}" for name in truth]
    masks = _pictures(_folder(where, root, *truth, *beside), found.problems)

    def mask_key(path: Path) -> str | None:
        match = re.fullmatch(r"(.+)_gt\d?", path.stem)  # one mask is called …_gt3
        return match[1] if match else None

    for image in _pictures(base / "Au", found.problems):
        name = image.stem.removeprefix("Au_").replace("_", "")
        found.entries.append(Entry(image, None, (name,)))
    forged = _pictures(base / "Tp", found.problems)
    for image, mask in _match(forged, masks, lambda path: path.stem, mask_key, found.problems):
        photos = dict.fromkeys(re.findall(r"(?<=_)[a-z]{3}\d{5}(?=_)", image.stem))
        known = tuple(photo for photo in photos if photo != "xxx00000")  # a donor from outside the set
        found.entries.append(Entry(image, mask, known or (image.stem,)))
    return found


def _imd2020(root: Path, where: str) -> Entries:
    found = Entries()
    root = root / "IMD2020" if (root / "IMD2020").is_dir() else root
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        pictures = _pictures(folder, found.problems)
        photos = (f"imd2020 {folder.name}",)
        masks = [p for p in pictures if p.stem.endswith("_mask")]
        originals = [p for p in pictures if p.stem.endswith("_orig")]
        forged = [p for p in pictures if not p.stem.endswith(("_mask", "_orig"))]
        found.entries += [Entry(path, None, photos) for path in originals]
        pairs = _match(forged, masks, lambda p: p.stem, lambda p: p.stem.removesuffix("_mask"), found.problems)
        found.entries += [Entry(image, mask, photos) for image, mask in pairs]
    return found


def _fantastic_reality(root: Path, where: str) -> Entries:
    found = Entries()
    forged = _folder(where, root, "dataset/ColorFakeImages", "ColorFakeImages")
    masks = _pictures(_folder(where, forged.parent, "SegmentationFake"), found.problems, SUFFIXES | {".npz"})
    for path in _pictures(_folder(where, forged.parent, "ColorRealImages"), found.problems):
        found.entries.append(Entry(path, None, (path.stem,)))
    images = _pictures(forged, found.problems)
    for image, mask in _match(images, masks, lambda p: p.stem, lambda p: p.stem, found.problems):
        photos = tuple(dict.fromkeys(re.findall(r"IMG_\d+", image.stem)))
        found.entries.append(Entry(image, mask, photos or (image.stem,)))
    return found


def _tampcoco(root: Path, where: str) -> Entries:
    found = Entries()
    root = root / "tampCOCO" if (root / "tampCOCO").is_dir() else root
    kinds = [kind for kind in ("cm", "sp", "bcm", "bcmc") if (root / f"{kind}_images").is_dir()]
    if not kinds:
        raise MixError(where, f"there is no folder `cm_images` in {root}", "the set in its published layout")

    def key(path: Path) -> str:
        """`90_1.jpg_1.jpg_RS1.18.jpg` has the mask `90_1.png_1.png_RS1.18.png`; bcmc says its qualities as well."""
        return re.sub(r"_aligned_Q\d+", "", path.name).replace(".jpg", ".png")

    masks = {
        name: _pictures(_folder(where, root, name), found.problems) for name in sorted({_masks_of(k) for k in kinds})
    }
    for kind in kinds:
        images = _pictures(root / f"{kind}_images", found.problems)
        own = masks[_masks_of(kind)]
        if kind == "bcmc":  # shares the masks of bcm: those of the other are not without an image
            wanted = {key(path) for path in images}
            own = [path for path in own if path.name in wanted]
        for image, mask in _match(images, own, key, lambda p: p.name, found.problems):
            photos = tuple(dict.fromkeys(re.findall(r"\d{12}", image.name)))
            found.entries.append(Entry(image, mask, photos or (image.stem,)))
    return found


def _masks_of(kind: str) -> str:
    return "bcm_masks" if kind == "bcmc" else f"{kind}_masks"


def _defacto(root: Path, where: str) -> Entries:
    found = Entries()
    parts = sorted(path for pattern in ("*_img", "*/*_img") for path in root.glob(pattern) if path.is_dir())
    if not parts:
        raise MixError(where, f"there is no folder `splicing_1_img` in {root}", "the set in its published layout")
    for part in parts:
        kind = part.name.removesuffix("_img")
        images = _pictures(part / "img" if (part / "img").is_dir() else part, found.problems)
        masks = _pictures(_folder(where, part.parent, f"{kind}_annotations/probe_mask"), found.problems)
        for image, mask in _match(images, masks, lambda p: p.stem, lambda p: p.stem, found.problems):
            found.entries.append(Entry(image, mask, (image.stem.rpartition("_")[2],)))
    return found


_LAYOUTS: dict[Layout, Callable[[Path, str], Entries]] = {
    "casia2": _casia2,
    "imd2020": _imd2020,
    "fantastic-reality": _fantastic_reality,
    "tampcoco": _tampcoco,
    "defacto": _defacto,
}
