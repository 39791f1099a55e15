"""tampCOCO: copy-moves and splices of COCO photos, as CAT-Net made them."""

from __future__ import annotations

import re
from pathlib import Path

from model.datasets.layouts import Dataset, MaskIndex, PublishedLayout, child, pictures
from model.datasets.sample import Listing, Sample

KINDS = {"cm": "copy-move", "sp": "splice", "bcm": "copy-move", "bcmc": "copy-move"}
MASKS = {"cm": "cm_masks", "sp": "sp_masks", "bcm": "bcm_masks", "bcmc": "bcm_masks"}


def _read(folder: Path) -> Listing | None:
    kinds = {kind: home for kind in KINDS if (home := child(folder, f"{kind}_images"))}
    homes = {name: child(folder, name) for name in sorted({MASKS[kind] for kind in kinds})}
    if not kinds or None in homes.values():
        return None
    listing = Listing()
    indexes = {name: MaskIndex(pictures(home, listing), folder) for name, home in homes.items() if home}
    for kind, home in kinds.items():
        index = indexes[MASKS[kind]]
        for path in pictures(home, listing):
            key = path.relative_to(folder).as_posix()
            found = index.find(path, [_mask_stem(path)], key, listing.problems)
            listing.samples.append(Sample(key, path, found, True, KINDS[kind]))
    for name, index in indexes.items():
        if name.removesuffix("_masks") in kinds:  # bcmc alone uses a part of those of bcm
            index.report_unused(listing.problems)
    return listing


def _mask_stem(image: Path) -> str:
    """`90_1.jpg_1.jpg_RS1.18.jpg` has the mask `90_1.png_1.png_RS1.18.png`; bcmc says its qualities as well."""
    return Path(re.sub(r"_aligned_Q\d+", "", image.name).replace(".jpg", ".png")).stem


def _photos(image: Path) -> tuple[str, ...]:
    """The numbers of the COCO photos."""
    return tuple(dict.fromkeys(re.findall(r"\d{12}", image.name))) or (image.stem,)


TAMPCOCO = Dataset(
    "tampcoco",
    "tampCOCO (Kwon et al. 2022)",
    ("tampCOCO",),
    (),
    "https://github.com/mjkwon2021/CAT-Net (linked there)",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "{cm,sp,bcm,bcmc}_images/, {cm,sp,bcm}_masks/, whichever there are",
            "as CAT-Net reads it",
            _read,
        ),
    ),
    photos=_photos,
    training=True,
)
