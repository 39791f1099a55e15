"""Public sets in the layouts they are published in.

The layouts follow the loaders of CAT-Net (Kwon et al. 2022) and the sets' own pages:

- CASIA 2.0: `Au`, `Tp`, `CASIA 2 Groundtruth/<stem>_gt.png`. `Tp_D_NRN_S_N_ind00071_cha00063_00472` was made from the
  photos ind00071 and cha00063, and `Au_ind_00071` is one of them.
- IMD2020: a folder per original with `<x>_orig.jpg`, and `<stem>_mask.png` beside each forgery.
- FantasticReality: `dataset/{ColorRealImages,ColorFakeImages,SegmentationFake}`, masks as arrays of classes (`.npz`);
  `IMG_0015571_IMG_0005567` was made from two photos.
- tampCOCO: `{cm,sp,bcm,bcmc}_images` and `{cm,sp,bcm}_masks`; names hold the ids of the COCO photos.
- DEFACTO: `<kind>_img/img` and `<kind>_annotations/probe_mask`; names end in the id of the COCO photo that was edited.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from model.data.entries import Entries, Entry, match_by_key
from model.data.mix import Layout
from model.data.picture_folders import find_pictures
from model.data.yaml_reader import MixError
from model.images.pixels import SUFFIXES


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
    masks = find_pictures(_folder(where, root, *truth, *beside), found.problems)

    def mask_key(path: Path) -> str | None:
        named = re.fullmatch(r"(.+)_gt\d?", path.stem)  # one mask is called …_gt3
        return named[1] if named else None

    for image in find_pictures(base / "Au", found.problems):
        name = image.stem.removeprefix("Au_").replace("_", "")
        found.entries.append(Entry(image, None, (name,)))
    forged = find_pictures(base / "Tp", found.problems)
    for image, mask in match_by_key(forged, masks, lambda path: path.stem, mask_key, found.problems):
        photos = dict.fromkeys(re.findall(r"(?<=_)[a-z]{3}\d{5}(?=_)", image.stem))
        known = tuple(photo for photo in photos if photo != "xxx00000")  # a donor from outside the set
        found.entries.append(Entry(image, mask, known or (image.stem,)))
    return found


def _imd2020(root: Path, where: str) -> Entries:
    found = Entries()
    root = root / "IMD2020" if (root / "IMD2020").is_dir() else root
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise MixError(where, f"{root}: {error.strerror}", "a folder that may be listed") from error
    for folder in folders:
        files = find_pictures(folder, found.problems)
        photos = (f"imd2020 {folder.name}",)
        masks = [p for p in files if p.stem.endswith("_mask")]
        originals = [p for p in files if p.stem.endswith("_orig")]
        forged = [p for p in files if not p.stem.endswith(("_mask", "_orig"))]
        found.entries += [Entry(path, None, photos) for path in originals]
        pairs = match_by_key(forged, masks, lambda p: p.stem, lambda p: p.stem.removesuffix("_mask"), found.problems)
        found.entries += [Entry(image, mask, photos) for image, mask in pairs]
    return found


def _fantastic_reality(root: Path, where: str) -> Entries:
    found = Entries()
    forged = _folder(where, root, "dataset/ColorFakeImages", "ColorFakeImages")
    masks = find_pictures(_folder(where, forged.parent, "SegmentationFake"), found.problems, SUFFIXES | {".npz"})
    for path in find_pictures(_folder(where, forged.parent, "ColorRealImages"), found.problems):
        found.entries.append(Entry(path, None, (path.stem,)))
    images = find_pictures(forged, found.problems)
    for image, mask in match_by_key(images, masks, lambda p: p.stem, lambda p: p.stem, found.problems):
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
        name: find_pictures(_folder(where, root, name), found.problems)
        for name in sorted({_masks_of(k) for k in kinds})
    }
    for kind in kinds:
        images = find_pictures(root / f"{kind}_images", found.problems)
        own = masks[_masks_of(kind)]
        if kind == "bcmc":  # shares the masks of bcm: those of the other are not without an image
            wanted = {key(path) for path in images}
            own = [path for path in own if path.name in wanted]
        for image, mask in match_by_key(images, own, key, lambda p: p.name, found.problems):
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
        images = find_pictures(part / "img" if (part / "img").is_dir() else part, found.problems)
        masks = find_pictures(_folder(where, part.parent, f"{kind}_annotations/probe_mask"), found.problems)
        for image, mask in match_by_key(images, masks, lambda p: p.stem, lambda p: p.stem, found.problems):
            found.entries.append(Entry(image, mask, (image.stem.rpartition("_")[2],)))
    return found


LAYOUTS: dict[Layout, Callable[[Path, str], Entries]] = {
    "casia2": _casia2,
    "imd2020": _imd2020,
    "fantastic-reality": _fantastic_reality,
    "tampcoco": _tampcoco,
    "defacto": _defacto,
}
"""The images of each set below a folder, and what to name in an error; raises MixError without the set's folders."""
