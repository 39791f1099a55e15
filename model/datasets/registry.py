"""The public sets by name, and where they lie on a disk.

A set is looked for in the root, in a folder of one of its names (case, blanks and punctuation do not matter), and a
folder in a folder, as archives unpack, is seen through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model.datasets.autosplice import AUTOSPLICE
from model.datasets.casia import CASIA1, CASIA2
from model.datasets.cocoglide import COCOGLIDE
from model.datasets.columbia import COLUMBIA
from model.datasets.coverage import COVERAGE
from model.datasets.defacto import DEFACTO
from model.datasets.dso1 import DSO1
from model.datasets.fantastic_reality import FANTASTIC_REALITY
from model.datasets.imd2020 import IMD2020
from model.datasets.in_the_wild import IN_THE_WILD
from model.datasets.korus import KORUS
from model.datasets.layouts import Dataset
from model.datasets.misd import MISD
from model.datasets.nist16 import NIST16
from model.datasets.sample import Listing
from model.datasets.social_networks import SOCIAL_NETWORKS
from model.datasets.tampcoco import TAMPCOCO
from model.datasets.unconfirmed import ACDSEE, IPM15K

_ALL = (
    *(CASIA1, COLUMBIA, NIST16, COVERAGE, ACDSEE, COCOGLIDE, MISD, IPM15K, *AUTOSPLICE, DSO1, IMD2020, KORUS),
    *(IN_THE_WILD, *SOCIAL_NETWORKS),
    *(CASIA2, FANTASTIC_REALITY, TAMPCOCO, DEFACTO),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
"""By name; the social-network versions are `<set>-<network>`."""


@dataclass(frozen=True, slots=True)
class Located:
    """A set as it lies on this disk: the folder, the name of the layout it has there, and what it holds."""

    folder: Path
    layout: str
    listing: Listing


def how_to_get(dataset: Dataset) -> str:
    """Where a set is obtained, on what terms, and how to lay it out, as text of several lines."""
    trees = "\n".join(f"  {layout.describe()}" for layout in dataset.layouts)
    expected = dataset.expected
    return (
        f"Obtained from: {dataset.obtained}\nTerms: {dataset.terms}\n"
        f"{expected.capitalize()}.\nLay it out as <root>/{dataset.folders[0]}/ with one of:\n{trees}"
    )


def locate(dataset: Dataset, root: Path) -> Located | None:
    """A set below a root: the candidate with the most images, the first of several. Files are listed, not opened.

    Raises:
        OSError: a folder cannot be read.
    """
    found = [one for folder in _candidates(dataset, root) if (one := _at(dataset, folder)) is not None]
    return max(found, key=lambda one: len(one.listing.samples), default=None)


def read_set(dataset: Dataset, folder: Path) -> Located | None:
    """A set in a folder of any name, or in one inside it. Files are listed, not opened.

    Raises:
        OSError: a folder cannot be read.
    """
    places = dict.fromkeys([folder, *_inside(folder), *_candidates(dataset, folder)])
    return next((one for place in places if (one := _at(dataset, place)) is not None), None)


def _at(dataset: Dataset, folder: Path) -> Located | None:
    for layout in dataset.layouts:
        listing = layout.read(folder)
        if listing is not None:
            return Located(folder, layout.name, listing)
    return None


def _candidates(dataset: Dataset, root: Path) -> Iterable[Path]:
    """Folders of the set's names, and what a wrapper folder of an archive holds."""
    names = {_normal(name) for name in dataset.folders}
    if not root.is_dir():
        return []
    here = [root] if _normal(root.resolve().name) in names or "." in dataset.folders else []
    here += [path for path in sorted(root.iterdir()) if path.is_dir() and _normal(path.name) in names]
    return here + [inside for path in here for inside in _inside(path)]


def _inside(folder: Path) -> list[Path]:
    """The folders that a folder holds alone, one in the other, two at most."""
    found: list[Path] = []
    for _ in range(2):
        inside = [sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__"))]
        if len(inside) != 1:
            break
        folder = inside[0]
        found.append(folder)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
