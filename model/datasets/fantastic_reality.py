"""FantasticReality: splices with masks of classes."""

from __future__ import annotations

import re
from pathlib import Path

from model.datasets.layouts import Dataset, MaskIndex, PublishedLayout, child, pictures, unshared
from model.datasets.sample import Listing, Sample
from model.images.pixels import SUFFIXES


def _read(folder: Path) -> Listing | None:
    forged = child(folder, "dataset/ColorFakeImages", "ColorFakeImages")
    truth = forged and child(forged.parent, "SegmentationFake")
    untouched = forged and child(forged.parent, "ColorRealImages")
    if forged is None or truth is None or untouched is None:
        return None
    listing = Listing()
    index = MaskIndex(pictures(truth, listing, suffixes=SUFFIXES | {".npz"}), folder)
    for path in pictures(untouched, listing):
        listing.samples.append(Sample(path.relative_to(folder).as_posix(), path, (), False))
    for path in pictures(forged, listing):
        key = path.relative_to(folder).as_posix()
        found = index.find(path, [path.stem], key, listing.problems)
        listing.samples.append(Sample(key, path, found, True, "splice"))
    index.report_unused(listing.problems)
    return unshared(listing)


def _photos(image: Path) -> tuple[str, ...]:
    """`IMG_0015571_IMG_0005567` was made from two photos."""
    return tuple(dict.fromkeys(re.findall(r"IMG_\d+", image.stem))) or (image.stem,)


FANTASTIC_REALITY = Dataset(
    "fantastic-reality",
    "FantasticReality (Kniaz, Knyaz, Remondino 2019)",
    ("FantasticReality_v1", "FantasticReality"),
    (),
    "http://zefirus.org/MAG",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "dataset/{ColorRealImages,ColorFakeImages,SegmentationFake}/, masks as arrays of classes (.npz)",
            "as CAT-Net reads it",
            _read,
        ),
    ),
    photos=_photos,
    training=True,
)
