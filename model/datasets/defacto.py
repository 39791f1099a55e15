"""DEFACTO: splices, copy-moves and inpainting of COCO photos."""

from __future__ import annotations

from pathlib import Path

from model.datasets.layouts import Dataset, MaskIndex, PublishedLayout, child, pictures
from model.datasets.sample import Listing, Sample

KINDS = {"splicing": "splice", "copymove": "copy-move", "inpainting": "inpainting"}


def _read(folder: Path) -> Listing | None:
    parts = sorted(path for pattern in ("*_img", "*/*_img") for path in folder.glob(pattern) if path.is_dir())
    listing = Listing()
    for part in parts:
        kind = part.name.removesuffix("_img")
        masks = child(part.parent, f"{kind}_annotations/probe_mask")
        if masks is None:
            return None
        index = MaskIndex(pictures(masks, listing), folder)
        for path in pictures(child(part, "img") or part, listing):
            key = path.relative_to(folder).as_posix()
            found = index.find(path, [path.stem], key, listing.problems)
            listing.samples.append(Sample(key, path, found, True, KINDS.get(kind.split("_")[0], "")))
        index.report_unused(listing.problems)
    return listing if parts else None


DEFACTO = Dataset(
    "defacto",
    "DEFACTO (Mahfoudi et al. 2019)",
    ("DEFACTO",),
    (),
    "https://defactodataset.github.io",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "<kind>_img/img/ and <kind>_annotations/probe_mask/, in the folder or one below it",
            "as CAT-Net reads it",
            _read,
        ),
    ),
    photos=lambda image: (image.stem.rpartition("_")[2],),  # the id of the COCO photo that was edited
    training=True,
)
