"""NIST Nimble Challenge 2016."""

from __future__ import annotations

import csv
from pathlib import Path

from model.datasets.layouts import Dataset, PublishedLayout, common
from model.datasets.sample import Kind, Listing, Problem, Sample
from model.images.folders import is_file

TABLE = "reference/manipulation/NC2016-manipulation-ref.csv"
TYPES = (
    ("IsManipulationTypeSplice", "splice"),
    ("IsManipulationTypeCopyClone", "copy-move"),
    ("IsManipulationTypeRemoval", "removal"),
)


def _read(folder: Path) -> Listing | None:
    table = folder / TABLE
    if not table.is_file():
        return None
    listing = Listing()
    seen: set[str] = set()
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="|"), 2):
            key, target = row.get("ProbeFileName") or "", row.get("IsTarget") or ""
            image, mask = _below(folder, key), _below(folder, row.get("ProbeMaskFileName") or "")
            if image is None or target not in ("Y", "N"):
                listing.problems.append(Problem(Kind.LIST_LINE, f"{TABLE}:{number}"))
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
            kind = next((word for column, word in TYPES if row.get(column) == "Y"), "")
            masks = (mask,) if target == "Y" and mask else ()
            listing.samples.append(Sample(key, image, masks, target == "Y", kind if target == "Y" else "", "black"))
    return listing


def _below(folder: Path, name: str) -> Path | None:
    """A path from a table of the set, unless it is empty or leaves the set."""
    path = Path(name.strip())
    if not name.strip() or path.is_absolute() or ".." in path.parts or "\0" in name:
        return None
    return folder / path


NIST16 = Dataset(
    "nist16",
    "NIST Nimble Challenge 2016",
    ("NIST16", "NC2016_Test0613", "NC2016_Test0601", "NC2016", "NIST"),
    ((564, 875), (564, 0)),
    "NIST, after registration: https://mfc.nist.gov",
    "NIST's agreement (not confirmed)",
    (
        PublishedLayout(
            "published",
            f"probe/, reference/…/mask/, paired by {TABLE}; black = forged",
            "as NIST's own scorer and public code read it",
            _read,
        ),
        common(),
    ),
    (
        "masks as distributed are inverted: black = forged",
        "groups of near duplicates: the 564 images are not independent, and intervals are too narrow",
    ),
)
