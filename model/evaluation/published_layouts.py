"""Layouts of single sets that no common layout reads, as their authors publish them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from model.evaluation.layouts import (
    Entry,
    Listing,
    MaskIndex,
    MaskStems,
    child,
    is_file,
    is_hidden,
    outside,
    pictures,
    plain_stems,
    report_outside,
    three_folders,
)
from model.evaluation.problems import Kind, Problem
from model.images.pixels import SUFFIXES


def casia_manipulation(stem: str) -> str:
    """CASIA: `Sp_D…` took the region from a different image, `Sp_S…` from the same."""
    return {"D": "splice", "S": "copy-move"}.get(stem.split("_")[1] if stem.count("_") else "", "")


def cocoglide_stems(folder: Path) -> MaskStems:
    """CocoGlide names a mask after the category and number of the COCO photo, the forged image after the number."""
    by_number: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if found := re.fullmatch(r".*_(\d+)_mask", path.stem):
            by_number.setdefault(found[1], []).append(path.stem)

    def stems(stem: str) -> list[str]:
        found = re.fullmatch(r"glide_inpainting_val2017_(\d+)_up", stem)
        return (by_number.get(found[1], []) if found else []) or plain_stems(stem)

    return stems


def cocoglide(folder: Path) -> Listing | None:
    """`fake/`, `mask/`, `real/` as downloaded (file lists of TruFor's test code)."""
    masks = child(folder, "mask")
    if masks is None:
        return None
    return three_folders(
        ("fake",), ("mask",), ("real",), stems=cocoglide_stems(masks), manipulation=lambda stem: "inpainting"
    )(folder)


def korus(folder: Path) -> Listing | None:
    """A folder for each of four cameras, each with `tampered-realistic/`, `ground-truth/`, `pristine/`."""
    each = three_folders(("tampered-realistic",), ("ground-truth",), ("pristine",), style="grey", alone=True)
    listing = Listing()
    cameras = []
    for camera in _groups(folder):
        part = each(camera)
        if part is None:
            continue
        cameras.append(camera)
        listing.ignored += part.ignored
        listing.problems += [Problem(p.kind, f"{camera.name}/{p.name}", p.detail) for p in part.problems]
        listing.entries += [
            Entry(f"{camera.name}/{e.key}", e.image, e.masks, e.forged, e.manipulation, e.style) for e in part.entries
        ]
    report_outside(folder, cameras, listing)
    return listing.sort() if listing.entries else None


def imd2020(folder: Path) -> Listing | None:
    """A folder for each original: `<id>_orig.jpg`, forgeries of it, and `<forgery>_mask.png` for each."""
    listing = Listing()
    groups = _groups(folder)
    for group in groups:
        every = pictures(group, listing)
        inside = [path for path in every if path.parent == group]
        listing.problems += outside((path for path in every if path.parent != group), group, folder)
        index = MaskIndex((path for path in inside if path.stem.endswith("_mask")), folder)
        for path in inside:
            key = path.relative_to(folder).as_posix()
            if path.stem.endswith("_orig"):
                listing.entries.append(Entry(key, path, (), False))
            elif not path.stem.endswith("_mask"):
                found = index.find(path, [f"{path.stem}_mask"], key, listing.problems)
                listing.entries.append(Entry(key, path, found, True))
        index.report_unused(listing.problems)
    report_outside(folder, groups, listing)
    return listing.sort() if any(not entry.forged for entry in listing.entries) else None


def misd(folder: Path) -> Listing | None:
    """`Au/`, `Sp/`, and `Ground Truth Masks/<image>/masks/` with one mask for each spliced object."""
    forged, masks, untouched = child(folder, "Sp"), child(folder, "Ground Truth Masks"), child(folder, "Au")
    if forged is None or masks is None:
        return None
    listing = Listing()
    by_stem = {path.name: path for path in sorted(masks.iterdir()) if path.is_dir()}
    for path in pictures(forged, listing):
        key = path.relative_to(folder).as_posix()
        home = by_stem.pop(path.stem, None)
        parts = child(home, "masks") if home else None
        found = tuple(pictures(parts, listing)) if parts else ()
        if not found:
            expected = f"expected {masks.name}/{path.stem}/masks/"
            listing.problems.append(Problem(Kind.MASK_MISSING, key, expected))
        listing.entries.append(Entry(key, path, found, True, "splice"))
    listing.problems += [Problem(Kind.MASK_WITHOUT_IMAGE, f"{masks.name}/{name}/") for name in by_stem]
    loose = [path for path in masks.iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    listing.problems += outside((path for path in loose if not is_hidden(path.name)), masks, folder)
    for path in pictures(untouched, listing) if untouched else []:
        listing.entries.append(Entry(path.relative_to(folder).as_posix(), path, (), False))
    return listing.sort()


def _groups(folder: Path) -> list[Path]:
    """The sub-folders, hidden ones left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


NIST_TABLE = "reference/manipulation/NC2016-manipulation-ref.csv"
NIST_TYPES = (
    ("IsManipulationTypeSplice", "splice"),
    ("IsManipulationTypeCopyClone", "copy-move"),
    ("IsManipulationTypeRemoval", "removal"),
)


def nist16(folder: Path) -> Listing | None:
    """As NIST distributes it: a table, `|` between columns, pairs `probe/` with `reference/…/mask/`; black = forged."""
    table = folder / NIST_TABLE
    if not table.is_file():
        return None
    listing = Listing()
    seen: set[str] = set()
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="|"), 2):
            key, target = row.get("ProbeFileName") or "", row.get("IsTarget") or ""
            image, mask = _below(folder, key), _below(folder, row.get("ProbeMaskFileName") or "")
            if image is None or target not in ("Y", "N"):
                listing.problems.append(Problem(Kind.LIST_LINE, f"{NIST_TABLE}:{number}"))
                continue
            if key in seen:
                continue  # one line for each donor
            seen.add(key)
            if not is_file(image):
                listing.problems.append(Problem(Kind.IMAGE_MISSING, key))
                continue
            if target == "Y" and (mask is None or not is_file(mask)):
                listing.problems.append(Problem(Kind.MASK_MISSING, key, row.get("ProbeMaskFileName") or ""))
                mask = None
            kind = next((word for column, word in NIST_TYPES if row.get(column) == "Y"), "")
            masks = (mask,) if target == "Y" and mask else ()
            listing.entries.append(Entry(key, image, masks, target == "Y", kind if target == "Y" else "", "black"))
    return listing.sort()


def _below(folder: Path, name: str) -> Path | None:
    """A path from a table of the set, unless it is empty or leaves the set."""
    path = Path(name.strip())
    if not name.strip() or path.is_absolute() or ".." in path.parts or "\0" in name:
        return None
    return folder / path
