"""Any set of images: a folder with sub-folders, a list, or the output of `clue forge`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from model.datasets.layouts import three_folders
from model.datasets.sample import Kind, Listing, Problem, Sample
from model.images.folders import FORGE_LOG, is_file, is_forge_output
from model.images.lists import LIST_SUFFIXES, BadRow, Row, read_rows

LIST_LAYOUT = "list"
"""Name of the layout of a list."""

FOLDERS = "Tp/ (forged), Gt/ (masks of the same stem, white = forged), Au/ (authentic)"
PAIR = "images/ and masks/ (of the same stem), all forged, and, if given, Au/ (authentic)"
LISTS = "a .txt, .csv, .tsv, .json or .jsonl list of image, mask (or None) and, if given, label (1 = forged)"


def find_list(path: Path, *, named: bool = False, photo: Callable[[str], str] = lambda stem: stem) -> Listing:
    """The images named in a list; relative names count from its folder. Their order is the list's.

    Names may be absolute or lead out of the list's folder: it is the user's own. A forged image whose mask is not there
    has none, and is a problem.

    Args:
        named: for a training: what cannot be read is an error, columns are those that the heading names (`read_rows`),
            and an authentic image keeps a mask that marks nothing. Otherwise what cannot be read is a problem.
        photo: from the stem of a file to the name of its source photo.

    Raises:
        ConfigError: the list cannot be read, or is none; with `named`, also one of its rows.
    """
    listing = Listing()
    seen: set[str] = set()
    for row in read_rows(path, named=named):
        if isinstance(row, BadRow):
            if named:
                raise row.error
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, row.text))
            continue
        # a label where a mask should be
        labelled = row.mask in ("0", "1") and not row.label and not is_file(path.parent / row.mask)
        if not row.image or "\0" in row.image + row.mask or row.label not in ("", "0", "1") or (labelled and not named):
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, row.text))
            continue
        image = path.parent / row.image
        file = os.path.normpath(image)  # `a.jpg` is `./a.jpg`
        if file in seen:
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, f"{row.image} a second time"))
        elif not is_file(image):
            listing.problems.append(Problem(Kind.IMAGE_MISSING, row.image, row.where))
        else:
            listing.samples.append(_sample(path, row, image, listing, photo, named=named))
        seen.add(file)
    return listing


def _sample(path: Path, row: Row, image: Path, listing: Listing, photo: Callable[[str], str], *, named: bool) -> Sample:
    masks = (path.parent / row.mask,) if row.has_mask and (row.forged or named) else ()
    if (row.forged and not masks) or (masks and not is_file(masks[0])):
        listing.problems.append(Problem(Kind.MASK_MISSING, row.image, row.mask or row.where))
        masks = ()
    stems = row.stems if row.photos or row.stems else (image.stem,)
    photos = dict.fromkeys([*row.photos, *map(photo, stems)])
    kind = row.kind.replace("_", "-") if row.forged else ""
    return Sample(row.image, image, masks, row.forged, kind, photos=tuple(photos), text=row.caption)


def find_path(path: Path) -> tuple[str, Listing]:
    """The layout's name and what a path holds.

    Raises:
        ConfigError: a list that cannot be read.
        ValueError: the path does not exist, or is laid out in no way that is known; says which are.
        OSError: a folder cannot be read.
    """
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return LIST_LAYOUT, find_list(path)
    if path.is_dir():
        if is_forge_output(path) and is_file(path / FORGE_LOG):
            return "clue forge", find_list(path / FORGE_LOG)
        for name, layout in (
            ("Tp/Gt/Au", three_folders(alone=True)),
            ("images and masks", three_folders(("images", "image", "imgs", "img"), alone=True)),
        ):
            listing = layout(path)
            if listing is not None:
                return name, listing
    what = "does not exist" if not path.exists() else "is laid out in no way that is known"
    raise ValueError(f"{path} {what}; expected one of: a folder with {FOLDERS}; a folder with {PAIR}; {LISTS}")
