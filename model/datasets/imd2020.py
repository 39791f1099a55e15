"""IMD2020: real-life forgeries, each with its original."""

from __future__ import annotations

from pathlib import Path

from model.datasets.layouts import (
    Dataset,
    MaskIndex,
    PublishedLayout,
    common,
    groups,
    outside,
    pictures,
    report_outside,
)
from model.datasets.sample import Listing, Sample


def _read(folder: Path) -> Listing | None:
    listing = Listing()
    parts = groups(folder)
    for part in parts:
        every = pictures(part, listing)
        inside = [path for path in every if path.parent == part]
        listing.problems += outside((path for path in every if path.parent != part), part, folder)
        masks = [path for path in inside if path.stem.endswith("_mask")]
        originals = [path for path in inside if path.stem.endswith("_orig")]
        index = MaskIndex(masks, folder)
        listing.samples += [Sample(path.relative_to(folder).as_posix(), path, (), False) for path in originals]
        for path in inside:
            if not path.stem.endswith(("_mask", "_orig")):
                key = path.relative_to(folder).as_posix()
                found = index.find(path, [f"{path.stem}_mask"], key, listing.problems)
                listing.samples.append(Sample(key, path, found, True))
        index.report_unused(listing.problems)
    report_outside(folder, parts, listing)
    return listing if any(sample.masks or not sample.forged for sample in listing.samples) else None


IMD2020 = Dataset(
    "imd2020",
    "IMD2020, real-life images (Novozámský, Mahdian, Saic 2020)",
    ("IMD2020",),
    ((2010, 414),),
    "http://staff.utia.cas.cz/novozada/db/",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "<id>/<id>_orig.jpg, <id>/<forgery>.{png,jpg}, <id>/<forgery>_mask.png",
            "as CAT-Net and TruFor read it",
            _read,
        ),
        common(),
    ),
    ("CLUE and TruFor are trained on it: no held-out figure for them",),
    lambda image: (f"imd2020 {image.parent.name}",),
)
