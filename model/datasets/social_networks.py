"""Four sets as social networks pass them on (IF-OSN)."""

from __future__ import annotations

from pathlib import Path

from model.datasets.casia import CASIA1
from model.datasets.casia import manipulation as casia_manipulation
from model.datasets.columbia import COLUMBIA
from model.datasets.dso1 import DSO1
from model.datasets.layouts import (
    NOT_CONFIRMED,
    PHOTOHOLMES,
    Dataset,
    Layout,
    Manipulation,
    MaskIndex,
    PublishedLayout,
    always,
    child,
    groups,
    pictures,
    three_folders,
)
from model.datasets.nist16 import NIST16
from model.datasets.sample import Listing, Sample

NETWORKS = ("facebook", "whatsapp", "weibo", "wechat")
"""In the order in which their versions are listed."""


def _with_masks(prefixes: tuple[str, ...], truth: str, network: str, kind: Manipulation) -> Layout:
    folders = tuple(f"{prefix}_{network}" for prefix in prefixes)
    masks = tuple(f"{name}/{truth}" for name in folders)
    return three_folders(folders, masks, ("no authentic images",), manipulation=kind)


def _without_masks(base: Dataset, prefixes: tuple[str, ...], network: str, kind: Manipulation) -> Layout:
    """The images alone, with the masks of the original set beside them, by stem."""

    def read(folder: Path) -> Listing | None:
        images = child(folder, *(f"{prefix}_{network}" for prefix in prefixes))
        if images is None:
            return None
        names = {name.casefold() for name in base.folders}
        originals: list[Sample] = []
        for beside in (folder, folder.parent):
            for place in (path for path in _subfolders(beside) if path.name.casefold() in names):
                found = (layout.read(place) for layout in base.layouts)
                originals = originals or next((listing.samples for listing in found if listing), [])
        originals.sort(key=lambda sample: sample.key)
        by_stem = {sample.image.stem: sample for sample in originals if sample.forged and sample.masks}
        listing = Listing()
        nothing = MaskIndex((), folder)
        for path in pictures(images, listing):
            key = path.relative_to(folder).as_posix()
            original = by_stem.get(path.stem)
            if original is None:
                nothing.find(path, [], key, listing.problems)
                listing.samples.append(Sample(key, path, (), True, kind(path.stem)))
            else:
                listing.samples.append(Sample(key, path, original.masks, True, original.manipulation, original.style))
        return listing

    return read


def _subfolders(folder: Path) -> list[Path]:
    """None where the folder, perhaps one above the root, may not be read."""
    try:
        return groups(folder, hidden=True)
    except OSError:
        return []


def _version(
    base: Dataset, prefixes: tuple[str, ...], truth: str, kind: Manipulation, forged: int, network: str
) -> Dataset:
    title = network.capitalize()
    return Dataset(
        f"{base.name}-{network}",
        f"{base.name} after {title} (Wu et al. 2022, IF-OSN)",
        ("OSN_dataset", "OSN", "OSN_datasets", "ImageForensicsOSN", "."),
        ((forged, 0),),
        "https://github.com/HighwayWu/ImageForensicsOSN (linked there)",
        "not stated; the terms of the original set apply",
        (
            PublishedLayout(
                "published",
                f"{prefixes[0]}_{title}/ images, {truth}/ in it with masks named <image>_gt.png, white = forged",
                PHOTOHOLMES if base is not NIST16 else NOT_CONFIRMED,
                _with_masks(prefixes, truth, network, kind),
            ),
            PublishedLayout(
                "images alone",
                f"{prefixes[-1]}_{title}/ images, and {base.name} beside it or one folder up, whose masks are used",
                "as public code reads it",
                _without_masks(base, prefixes, network, kind),
            ),
        ),
        ("the networks resize large images: the prediction is brought to the size of the mask",),
        base.photos,
    )


_SETS: tuple[tuple[Dataset, tuple[str, ...], str, Manipulation, int], ...] = (
    (CASIA1, ("Casia", "CASIAv1"), "CASIA_GT", casia_manipulation, 920),
    (COLUMBIA, ("Columbia",), "Columbia_GT", always("splice"), 160),
    (DSO1, ("DSO",), "DSO_GT", always("splice"), 100),
    (NIST16, ("NIST",), "NIST_GT", always(""), 564),
)
SOCIAL_NETWORKS = tuple(_version(*known, network) for known in _SETS for network in NETWORKS)
