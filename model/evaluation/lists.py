"""Any set of pictures as a benchmark: a folder with sub-folders, two folders, or a list file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

from model.evaluation.layouts import (
    Entry,
    Listing,
    is_file,
    three_folders,
)
from model.evaluation.problems import EvaluationError, Kind, Problem

AUTHENTIC_WORDS = frozenset({"", "-", "none", "negative"})
"""What stands in a list in place of a mask where the image is authentic (case does not matter)."""
HEADINGS = (
    frozenset({"image", "img", "path", "image_path", "img_path"}),
    frozenset({"mask", "mask_path", "gt", "gt_path", "ground_truth", "groundtruth"}),
    frozenset({"label", "class", "forged"}),
)
"""Names of the columns image, mask and label (case does not matter). A first row that names the image is a heading."""
SEPARATORS = {".txt": ",\t", ".csv": ",;\t", ".tsv": "\t,"}
"""What separates columns, by the list's suffix, besides blanks: what a line has most of, the first of several."""
LIST_SUFFIXES = frozenset({*SEPARATORS, ".json"})
LIST_LAYOUT = "list"
"""Name of the layout of a list."""

FOLDERS = "Tp/ (forged), Gt/ (masks of the same stem, white = forged), Au/ (authentic)"
PAIR = "images/ and masks/ (of the same stem), all forged"
LISTS = "a .txt, .csv, .tsv or .json list of image, mask (or None) and, if given, label (1 = forged)"


def find_list(path: Path) -> Listing:
    """The images named in a list; relative names count from the folder of the list.

    Columns are separated as `SEPARATORS` says, and quoted as in CSV, else separated by blanks (MVSS-Net's `image mask
    label`); a `.json` is a list of lists (IMDL-BenCo's, with `Negative` in place of a mask). They are image, mask and
    label, or stand where a heading says. Names may be absolute or lead out of the list's folder: it is the user's own.

    Raises:
        EvaluationError: the list cannot be read, or is not one.
    """
    listing = Listing()
    seen: set[str] = set()
    for where, columns in _rows(path):
        name, mask, label = (*columns, "", "", "")[:3]
        authentic = label == "0" or mask.casefold() in AUTHENTIC_WORDS
        labelled = mask in ("0", "1") and not label and not is_file(path.parent / mask)  # where a mask should be
        if not name or "\0" in name + mask or label not in ("", "0", "1") or labelled:
            listing.problems.append(Problem(Kind.LIST_LINE, where, " ".join(columns)[:200]))
            continue
        image = path.parent / name
        file = os.path.normpath(image)  # `a.jpg` is `./a.jpg`
        if file in seen:
            listing.problems.append(Problem(Kind.LIST_LINE, where, f"{name} a second time"))
        elif not is_file(image):
            listing.problems.append(Problem(Kind.IMAGE_MISSING, name, where))
        else:
            forged = label == "1" if label else not authentic
            masks: tuple[Path, ...] = () if authentic else (path.parent / mask,)
            if forged and not (masks and is_file(masks[0])):
                listing.problems.append(Problem(Kind.MASK_MISSING, name, mask or where))
                masks = ()
            listing.entries.append(Entry(name, image, masks, forged))
        seen.add(file)
    return listing.sort()


def find_path(path: Path) -> tuple[str, Listing]:
    """The layout's name and what a path holds.

    Raises:
        EvaluationError: the path does not exist, or is laid out in no way that is known; says which are.
    """
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return LIST_LAYOUT, find_list(path)
    if path.is_dir():
        for name, layout in (
            ("Tp/Gt/Au", three_folders(alone=True)),
            ("images and masks", three_folders(("images", "image", "imgs", "img"), alone=True)),
        ):
            try:
                listing = layout(path)
            except OSError as error:
                raise EvaluationError(f"{path} cannot be read: {error}") from error
            if listing is not None:
                return name, listing
    what = "does not exist" if not path.exists() else "is laid out in no way that is known"
    raise EvaluationError(f"{path} {what}; expected one of: a folder with {FOLDERS}; a folder with {PAIR}; {LISTS}")


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text)
            if not isinstance(data, list):
                raise EvaluationError(f"{path}: expected a JSON list of [image, mask] pairs")
            for number, row in enumerate(data, 1):
                fits = isinstance(row, list) and 1 <= len(row) <= 3 and all(isinstance(v, str | int) for v in row)
                yield f"{path.name}[{number}]", [str(v).strip() for v in row] if fits else []
            return
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    lines = (
        (f"{path.name}:{number}", _columns(line, SEPARATORS[path.suffix.lower()]))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    places: list[int] | None = None
    for order, (where, columns) in enumerate(lines):
        if order == 0 and (places := _places(path, columns)) is not None:
            continue
        if places is None or not columns:
            yield where, columns
        else:
            yield where, [columns[place] if 0 <= place < len(columns) else "" for place in places]


def _columns(line: str, separators: str) -> list[str]:
    separator = max(separators, key=line.count)
    if separator not in line:
        return line.split()
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a column of more than 128 KiB
        return []
    return [column.strip() for column in row]


def _places(path: Path, columns: list[str]) -> list[int] | None:
    """Where image, mask and label stand, if this row is a heading; −1: nowhere.

    Raises:
        EvaluationError: the heading does not say which of the other columns is the mask or the label.
    """
    words = [column.casefold() for column in columns]
    places = [next((place for place, word in enumerate(words) if word in names), -1) for names in HEADINGS]
    image, mask, label = places
    if image < 0:
        return None
    if mask < 0 and label < 0:
        if image > 0:
            expected = "expected image, mask and, if given, label"
            raise EvaluationError(
                f"{path}: its heading names no mask and no label, found {', '.join(columns)[:200]}; {expected}"
            )
        return [0, 1, 2]
    return [image, mask, 2 if (image, mask, label) == (0, 1, -1) else label]
