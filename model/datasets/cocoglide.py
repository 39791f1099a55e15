"""CocoGlide: inpainting by GLIDE."""

from __future__ import annotations

import re
from pathlib import Path

from model.datasets.layouts import (
    Dataset,
    MaskStems,
    PublishedLayout,
    always,
    child,
    common,
    plain_stems,
    three_folders,
)
from model.datasets.sample import Listing


def _stems(folder: Path) -> MaskStems:
    """A mask is named after the category and number of the COCO photo, the forged image after the number."""
    by_number: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if found := re.fullmatch(r".*_(\d+)_mask", path.stem):
            by_number.setdefault(found[1], []).append(path.stem)

    def stems(stem: str) -> list[str]:
        found = re.fullmatch(r"glide_inpainting_val2017_(\d+)_up", stem)
        return (by_number.get(found[1], []) if found else []) or plain_stems(stem)

    return stems


def _read(folder: Path) -> Listing | None:
    masks = child(folder, "mask")
    if masks is None:
        return None
    return three_folders(("fake",), ("mask",), ("real",), stems=_stems(masks), manipulation=always("inpainting"))(
        folder
    )


def _photos(image: Path) -> tuple[str, ...]:
    """The number of the COCO photo, as file names of COCO have it."""
    number = re.search(r"_(\d+)(_up)?$", image.stem)
    return (number[1].zfill(12) if number else image.stem,)


COCOGLIDE = Dataset(
    "cocoglide",
    "CocoGlide (Guillaro et al. 2023)",
    ("CocoGlide",),
    ((512, 512),),
    "https://www.grip.unina.it/download/prog/TruFor/CocoGlide.zip",
    "informational and nonprofit (TruFor's licence)",
    (
        PublishedLayout(
            "published",
            "fake/glide_inpainting_val2017_<n>_up.png, mask/<category>_<n>_mask.png, real/<category>_<n>.png",
            "file lists in TruFor's repository",
            _read,
        ),
        common(always("inpainting")),
    ),
    ("masks are named after the authentic partner: paired by COCO's number", "256×256 pixels throughout"),
    _photos,
)
