"""Sets of whole pictures: real photographs, generated pictures by generator, and laundered ones.

A sample's `forged` says that it was generated, its `part` names the generator, and `manipulation` is its class where
that is not `real`. A real picture's `part` is the generator that it lies with; without one it serves all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from model.datasets.layouts import groups, outside, pictures
from model.datasets.own import LIST_LAYOUT
from model.datasets.sample import Kind, Listing, Problem, Sample
from model.images.folders import is_file
from model.images.lists import BadRow, Row, read_rows

Label = Literal["real", "generated", "laundered"]

WORDS: dict[str, Label] = {
    "0_real": "real",
    "real": "real",
    "nature": "real",
    "1_fake": "generated",
    "fake": "generated",
    "ai": "generated",
    "generated": "generated",
    "2_laundered": "laundered",
    "laundered": "laundered",
}
"""Names of the folders that hold one class; case does not matter."""
LABELS: dict[str, Label] = {
    "0": "real",
    "real": "real",
    "1": "generated",
    "generated": "generated",
    "fake": "generated",
    "laundered": "laundered",
}
"""What a list may say in the column `label`."""
TRAINING, HELD_OUT = ("train", "training"), ("test", "val", "valid", "validation")
"""Folders of a split: where one that was held out lies beside the one for training, the latter is left out."""
DEPTH = 4
"""Most folders between the set's and those of the classes."""

LISTS = frozenset({".csv", ".tsv"})
LAYOUTS = {
    "classes": "GENERATOR/0_real/ and GENERATOR/1_fake/ (also real/ and fake/, nature/ and ai/; GENERATOR/CLASS/ as "
    "CNNDetection has it, GENERATOR/NAME/val/ as GenImage; test or val is measured, train beside them is not); "
    "laundered/ beside them: real photographs that passed a generator's autoencoder",
    "one generator": "0_real/ and 1_fake/ alone: the generator is named like the folder, or like those in 1_fake/",
    "shared": "real/ beside a folder of pictures for each generator",
    LIST_LAYOUT: "a .csv or .tsv list with the columns path, label (real, generated or fake, laundered; 0 or 1) and, "
    "if given, generator; paths count from the list's folder",
}
"""How such a set may lie on disk, for people."""


def class_of(sample: Sample) -> Label:
    """The class of a sample of such a set."""
    if sample.manipulation == "laundered":
        return "laundered"
    return "generated" if sample.forged else "real"


def make_sample(key: str, image: Path, label: Label, generator: str = "") -> Sample:
    """A picture of such a set."""
    kind = "" if label == "real" else label
    return Sample(key, image, (), label != "real", kind, part=generator)


def find_generated(path: Path) -> tuple[str, Listing]:
    """The layout's name and what a folder or a list holds.

    Raises:
        ConfigError: a list that cannot be read.
        ValueError: the path does not exist, or is laid out in no way that is known; says which are.
        OSError: a folder cannot be read.
    """
    if path.is_file() and path.suffix.lower() in LISTS:
        return LIST_LAYOUT, _list(path)
    if path.is_dir():
        listing, found = Listing(), set[str]()
        _folder(path, path, "", listing, found)
        if found:
            return " and ".join(sorted(found)), listing
    what = "does not exist" if not path.exists() else "is laid out in no way that is known"
    raise ValueError(f"{path} {what}; expected one of: {'; '.join(LAYOUTS.values())}")


def _folder(root: Path, folder: Path, generator: str, listing: Listing, found: set[str]) -> None:
    """Add what a folder holds; `found` collects the names of the layouts that were met."""
    children = groups(folder)
    classes = [(WORDS[child.name.casefold()], child) for child in children if child.name.casefold() in WORDS]
    others = [child for child in children if child.name.casefold() not in WORDS]
    if not classes:
        depth = len(folder.relative_to(root).parts)
        training = _training(root, others, listing)
        for child in others:
            if child in training:
                continue
            samples, problems = len(listing.samples), len(listing.problems)
            if depth < DEPTH:
                _folder(root, child, generator or ("" if _is_split(child.name) else child.name), listing, found)
            if len(listing.samples) == samples:
                del listing.problems[problems:]
                _leave_out(root, child, "no folder in it names a class", listing)
        _loose(root, folder, listing)
        return
    shared = all(label != "generated" for label, _ in classes) and bool(others)
    found.add("shared" if shared else "classes" if generator else "one generator")
    own = generator if not shared else ""
    for label, child in classes:
        for path in pictures(child, listing, _training(root, groups(child), listing), root):
            name = own
            if not own and not shared and label != "real":
                inside = [part for part in path.relative_to(child).parts[:-1] if not _is_split(part)]
                name = inside[0] if inside else root.name
            listing.samples.append(make_sample(path.relative_to(root).as_posix(), path, label, name))
    for child in others:
        if not shared:
            _leave_out(root, child, "beside the folders of the classes", listing)
        elif any(sub.name.casefold() in WORDS for sub in groups(child)):
            _folder(root, child, child.name, listing, found)
        else:
            for path in pictures(child, listing, below=root):
                listing.samples.append(make_sample(path.relative_to(root).as_posix(), path, "generated", child.name))
    _loose(root, folder, listing)


def _is_split(name: str) -> bool:
    return name.casefold() in (*TRAINING, *HELD_OUT)


def _training(root: Path, folders: Sequence[Path], listing: Listing) -> list[Path]:
    """Which of some folders are for training although others were held out; they are reported and not measured."""
    held_out = [folder.name for folder in folders if folder.name.casefold() in HELD_OUT]
    training = [folder for folder in folders if held_out and folder.name.casefold() in TRAINING]
    for folder in training:
        _leave_out(root, folder, f"{' and '.join(held_out)} is measured", listing)
    return training


def _leave_out(root: Path, folder: Path, why: str, listing: Listing) -> None:
    """Report the pictures of a folder that are not measured."""
    elsewhere = Listing()
    count = len(pictures(folder, elsewhere, below=root))
    listing.problems += elsewhere.problems
    if count:
        name = f"{folder.relative_to(root).as_posix()}/"
        listing.problems.append(Problem(Kind.OUTSIDE_LAYOUT, name, f"pictures in it: {count}; {why}"))


def _loose(root: Path, folder: Path, listing: Listing) -> None:
    """Report the pictures that lie in a folder itself, beside the folders that are read."""
    elsewhere = Listing()
    found = pictures(folder, elsewhere, groups(folder, hidden=True), root)
    listing.problems += [problem for problem in elsewhere.problems if problem.kind is not Kind.FOLDER_UNREADABLE]
    listing.problems += outside(found, folder, root)


def _list(path: Path) -> Listing:
    listing = Listing()
    seen: dict[str, Label] = {}
    doubted: set[str] = set()
    for row in read_rows(path):
        if isinstance(row, BadRow):
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, row.text))
            continue
        label, generator = _label(row)
        if not row.image or "\0" in row.image or label is None:
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, row.text))
            continue
        image = path.parent / row.image
        file = os.path.normpath(image)
        if file in seen:
            other = "" if seen[file] == label else f", {label} here and {seen[file]} before: it is not measured"
            listing.problems.append(Problem(Kind.LIST_LINE, row.where, f"{row.image} a second time{other}"))
            if other:
                doubted.add(file)
        elif not is_file(image):
            listing.problems.append(Problem(Kind.IMAGE_MISSING, row.image, row.where))
        else:
            listing.samples.append(make_sample(row.image, image, label, generator))
        seen.setdefault(file, label)
    listing.samples = [entry for entry in listing.samples if os.path.normpath(entry.image) not in doubted]
    return listing


def _label(row: Row) -> tuple[Label | None, str]:
    """Class and generator of a row; without a heading its second and third column."""
    if not row.label or row.mask.casefold() in LABELS:
        return LABELS.get(row.mask.casefold()), row.label or row.generator
    return LABELS.get(row.label.casefold()), row.generator


def generators_of(samples: Sequence[Sample]) -> list[str]:
    """The generators of the generated pictures, sorted; `unnamed` where a list names none."""
    return sorted({generator_of(sample.part) for sample in samples if class_of(sample) == "generated"})


def generator_of(part: str) -> str:
    """The name of a generator, as results have it."""
    return part or "unnamed"
