"""MISD: splices of several objects, with a mask for each."""

from __future__ import annotations

from pathlib import Path

from model.datasets.layouts import Dataset, PublishedLayout, always, child, common, outside, pictures
from model.datasets.sample import Kind, Listing, Problem, Sample
from model.images.folders import is_hidden
from model.images.pixels import SUFFIXES


def _read(folder: Path) -> Listing | None:
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
        listing.samples.append(Sample(key, path, found, True, "splice"))
    listing.problems += [Problem(Kind.MASK_WITHOUT_IMAGE, f"{masks.name}/{name}/") for name in by_stem]
    loose = [path for path in masks.iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    listing.problems += outside((path for path in loose if not is_hidden(path.name)), masks, folder)
    for path in pictures(untouched, listing) if untouched else []:
        listing.samples.append(Sample(path.relative_to(folder).as_posix(), path, (), False))
    return listing


MISD = Dataset(
    "misd",
    "Multiple Image Splicing Dataset (Kadam, Ahirrao, Kotecha 2021)",
    ("MISD", "Multiple Image Splicing Dataset", "Multiple Image Splicing Dataset (MISD)"),
    ((300, 618), (296, 620)),
    "https://doi.org/10.5281/zenodo.5525829",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "Sp/, Ground Truth Masks/<image>/masks/ one mask for each object, Au/",
            "the set's own README",
            _read,
        ),
        common(always("splice")),
    ),
    ("several masks for each image: their union is the ground truth", "papers count 296 forged and 620 authentic"),
)
