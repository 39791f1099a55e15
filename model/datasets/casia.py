"""CASIA v1 and v2."""

from __future__ import annotations

import re
from pathlib import Path

from model.datasets.layouts import (
    PHOTOHOLMES,
    Dataset,
    MaskIndex,
    PublishedLayout,
    child,
    common,
    pictures,
    three_folders,
    unshared,
)
from model.datasets.sample import Listing, Sample

OUTSIDE = "xxx00000"
"""In the place of a donor from outside the set."""


def manipulation(stem: str) -> str:
    """`Sp_D…` and `Tp_D…` took the region from a different image, `Sp_S…` and `Tp_S…` from the same."""
    return {"D": "splice", "S": "copy-move"}.get(stem.split("_")[1] if stem.count("_") else "", "")


def photos(image: Path) -> tuple[str, ...]:
    """`Tp_D_NRN_S_N_ind00071_cha00063_00472` was made from ind00071 and cha00063; `Au_ind_00071` is one of them."""
    if image.stem.startswith("Au"):
        return (image.stem.removeprefix("Au_").replace("_", ""),)
    named = dict.fromkeys(re.findall(r"(?<=_)[a-z]{3}\d{4,5}(?=_)", image.stem))
    return tuple(photo for photo in named if photo != OUTSIDE) or (image.stem,)


def _casia2(folder: Path) -> Listing | None:
    tampered = child(folder, "CASIA 2.0/Tp", "CASIA2.0_revised/Tp", "CASIA2/Tp", "Tp")
    if tampered is None:
        return None
    names = ("CASIA 2 Groundtruth", "CASIA2.0_Groundtruth", "Groundtruth", "Gt")
    truth = child(folder, *names) or child(tampered.parent, *names)
    if truth is None:
        return None
    listing = Listing()
    index = MaskIndex(pictures(truth, listing), folder)
    untouched = child(tampered.parent, "Au")
    for path in pictures(untouched, listing) if untouched else []:
        listing.samples.append(Sample(path.relative_to(folder).as_posix(), path, (), False))
    for path in pictures(tampered, listing):
        key, stem = path.relative_to(folder).as_posix(), path.stem
        stems = [f"{stem}_gt", *(f"{stem}_gt{number}" for number in range(10))]  # one mask is called …_gt3
        found = index.find(path, stems, key, listing.problems)
        listing.samples.append(Sample(key, path, found, True, manipulation(stem)))
    index.report_unused(listing.problems)
    return unshared(listing)


CASIA1 = Dataset(
    "casia1",
    "CASIA v1 (Dong, Wang, Tan 2013), masks by Pham et al. 2019",
    ("CASIA1", "CASIA1.0", "CASIAv1", "CASIA 1.0 dataset", "CASIA1+", "CASIAv1plus"),
    ((920, 800), (921, 800)),
    "masks and links: https://github.com/namtpham/casia1groundtruth (the authors' own site is gone)",
    "research",
    (
        PublishedLayout(
            "published",
            "Tp/{CM,Sp}/, CASIA 1.0 groundtruth/{CM,Sp}/ masks named <image>_gt.png, Au/",
            PHOTOHOLMES,
            three_folders(("Tp",), ("CASIA 1.0 groundtruth",), ("Au",), manipulation=manipulation),
        ),
        common(manipulation),
    ),
    (
        "one forged image has no mask: 921 images, 920 are measured",
        "the quantization tables alone tell the classes apart: re-encode both alike before an image-level figure",
        "authentic images overlap with CASIA v2: CASIAv1+ replaces them",
    ),
    photos,
)

CASIA2 = Dataset(
    "casia2",
    "CASIA v2 (Dong, Wang, Tan 2013), masks by Pham et al. 2019",
    ("CASIA2", "CASIA2.0", "CASIA 2.0", "CASIAv2", "CASIA2.0_revised"),
    (),
    "masks and links: https://github.com/namtpham/casia2groundtruth (the authors' own site is gone)",
    "research",
    (
        PublishedLayout(
            "published",
            "CASIA 2.0/{Au,Tp}/ or {Au,Tp}/, CASIA 2 Groundtruth/ masks named <image>_gt.png",
            "as CAT-Net reads it",
            _casia2,
        ),
    ),
    ("one mask is named …_gt3",),
    photos,
    training=True,
)
