"""Korus: realistic tampering, photos of four cameras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.datasets.layouts import PHOTOHOLMES, Dataset, PublishedLayout, common, groups, report_outside, three_folders
from model.datasets.sample import Listing, Problem

_camera = three_folders(("tampered-realistic",), ("ground-truth",), ("pristine",), style="grey", alone=True)


def _read(folder: Path) -> Listing | None:
    listing = Listing()
    cameras = []
    for camera in groups(folder):
        part = _camera(camera)
        if part is None:
            continue
        cameras.append(camera)
        listing.ignored += part.ignored
        listing.problems += [Problem(p.kind, f"{camera.name}/{p.name}", p.detail) for p in part.problems]
        listing.samples += [replace(sample, key=f"{camera.name}/{sample.key}") for sample in part.samples]
    report_outside(folder, cameras, listing)
    return listing if listing.samples else None


KORUS = Dataset(
    "korus",
    "Realistic Tampering Dataset (Korus, Huang 2016)",
    ("Korus", "realistic-tampering-dataset", "data-images", "RTD"),
    ((220, 220),),
    "https://pkorus.pl/downloads/dataset-realistic-tampering",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "<camera>/tampered-realistic/, <camera>/ground-truth/, <camera>/pristine/",
            PHOTOHOLMES,
            _read,
        ),
        common(),
    ),
    ("masks have three levels; grey, collateral damage of the edit, counts as forged here",),
)
