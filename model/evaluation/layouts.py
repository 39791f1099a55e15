"""How the sets are laid out on disk: from a folder to entries, each image with its masks, paired by name.

A layout is a function from the folder of a set to a `Listing`, or to None where the folder is not laid out that way.
Nothing is paired by order, nothing is left out without a word: what does not fit is listed as a problem.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.evaluation.problems import Kind, Problem
from model.images.masks import MaskStyle
from model.images.pixels import SUFFIXES

MASK_ENDINGS = ("", "_gt", "_mask", "_edgemask")
"""What published masks append to the stem of their image, in the order in which it is tried."""

TAMPERED = ("Tp", "tampered", "forged", "fake")
GROUND_TRUTH = ("Gt", "groundtruth", "ground-truth", "masks", "mask")
AUTHENTIC = ("Au", "authentic", "pristine", "real")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a set.

    Attributes:
        key: path of the image below the folder of the set, with `/`; names it in every result.
        masks: its ground truth, mostly one file; none for authentic images, or where it is missing.
        forged: its class.
        manipulation: `splice`, `copy-move`, `removal`, `inpainting`, or empty where the set does not say.
        style: how its masks mark forged pixels.
    """

    key: str
    image: Path
    masks: tuple[Path, ...]
    forged: bool
    manipulation: str = ""
    style: MaskStyle = "white"


@dataclass(slots=True)
class Listing:
    """What a layout found: entries sorted by key, problems, and how many files were no pictures."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0

    def sort(self) -> Listing:
        """Itself, entries by key."""
        self.entries.sort(key=lambda entry: entry.key)
        return self


Layout = Callable[[Path], Listing | None]
Manipulation = Callable[[str], str]
MaskStems = Callable[[str], Sequence[str]]


def plain_stems(stem: str) -> list[str]:
    """The stems a mask of this image can have, best first."""
    return [stem + ending for ending in MASK_ENDINGS]


def child(folder: Path, *names: str) -> Path | None:
    """The first of these sub-folders that exists, `a/b` for deeper ones; case does not matter."""
    for name in names:
        here: Path | None = folder
        for part in name.split("/"):
            here = here and next(
                (sub for sub in sorted(here.iterdir()) if sub.name.casefold() == part.casefold() and sub.is_dir()), None
            )
        if here:
            return here
    return None


def is_file(path: Path) -> bool:
    """Whether there is such a file; also for names from a list, which no file system may allow."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: hidden ones, and what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def files_below(
    folder: Path, problems: list[Problem], leave_out: Collection[Path] = (), below: Path | None = None
) -> Iterator[Path]:
    """All that is no folder, in no order; hidden files and folders, and those in `leave_out`, are passed over.

    A folder that cannot be read, or a link to one, which is not followed (it may lead in a circle), is a problem, named
    from `below`; None: from the folder that `folder` lies in.
    """
    below = below or folder.parent
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                inside = [(here / entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        except OSError as error:
            name = here.relative_to(below).as_posix()
            problems.append(Problem(Kind.FOLDER_UNREADABLE, name, error.strerror or str(error)))
            continue
        for path, is_folder, is_link in inside:
            if is_hidden(path.name) or path in leave_out:
                continue
            if not is_folder:
                yield path
            elif is_link:
                name = path.relative_to(below).as_posix()
                problems.append(Problem(Kind.FOLDER_UNREADABLE, name, "a link to a folder is not followed"))
            else:
                waiting.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def pictures(folder: Path, listing: Listing, leave_out: Collection[Path] = (), below: Path | None = None) -> list[Path]:
    """The pictures in a folder by file extension, sorted; hidden files are passed over, others counted as ignored.

    What is named like a picture and is no file (a link that leads nowhere, a pipe) is a problem, and so is a folder
    that is not read; `below` names them, as in `files_below`.
    """
    found = []
    for path in sorted(files_below(folder, listing.problems, leave_out, below)):
        if path.suffix.lower() in SUFFIXES and not is_file(path):
            name = path.relative_to(below or folder.parent).as_posix()
            listing.problems.append(Problem(Kind.IMAGE_MISSING, name, "no file, or a link that leads nowhere"))
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            listing.ignored += 1
    return found


def outside(paths: Iterable[Path], folder: Path, below: Path) -> list[Problem]:
    """Pictures of `folder` that its layout has no use for, one problem for each sub-folder; `below` names them."""
    places = Counter(folder / path.relative_to(folder).parts[0] for path in paths)
    problems = []
    for place, count in sorted(places.items()):
        name = place.relative_to(below).as_posix()
        if place.is_dir():
            problems.append(Problem(Kind.OUTSIDE_LAYOUT, f"{name}/", f"pictures in it: {count}"))
        else:
            problems.append(Problem(Kind.OUTSIDE_LAYOUT, name))
    return problems


def report_outside(folder: Path, known: Collection[Path], listing: Listing) -> None:
    """Add the pictures that lie in `folder` but in none of its sub-folders that the layout knows."""
    elsewhere = Listing()
    found = pictures(folder, elsewhere, known, folder)
    listing.problems += [*elsewhere.problems, *outside(found, folder, folder)]


class MaskIndex:
    """Masks by their stem. `below` names them in problems."""

    def __init__(self, masks: Iterable[Path], below: Path) -> None:
        self.below = below
        self.by_stem: dict[str, list[Path]] = {}
        for path in masks:
            self.by_stem.setdefault(path.stem, []).append(path)
        self.used: set[Path] = set()

    def find(self, image: Path, stems: Sequence[str], key: str, problems: list[Problem]) -> tuple[Path, ...]:
        """The mask of an image, or nothing and a problem. Of several, the one in a sub-folder of the same name."""
        for stem in stems:
            hits = self.by_stem.get(stem, [])
            self.used.update(hits)
            if len(hits) > 1:
                hits = [path for path in hits if path.parent.name == image.parent.name] or hits
            if len(hits) > 1:
                names = ", ".join(path.relative_to(self.below).as_posix() for path in hits)
                problems.append(Problem(Kind.MASK_AMBIGUOUS, key, names))
                return ()
            if hits:
                return (hits[0],)
        problems.append(Problem(Kind.MASK_MISSING, key, f"expected a picture named {stems[0]}" if stems else ""))
        return ()

    def report_unused(self, problems: list[Problem]) -> None:
        """Masks that no image asked for."""
        for paths in self.by_stem.values():
            problems.extend(
                Problem(Kind.MASK_WITHOUT_IMAGE, path.relative_to(self.below).as_posix())
                for path in paths
                if path not in self.used
            )


def unshared(listing: Listing) -> Listing:
    """Itself; where images of one stem (`a.jpg`, `a.png`) fit one mask, neither gets it, and both are reported."""
    users: dict[tuple[tuple[Path, ...], str], list[Entry]] = {}
    for entry in listing.entries:
        if entry.masks:
            users.setdefault((entry.masks, entry.image.stem), []).append(entry)
    doubted = {entry.key for same in users.values() if len(same) > 1 for entry in same}
    for position, entry in enumerate(listing.entries):
        if entry.key in doubted:
            detail = f"{entry.masks[0].name} fits several images"
            listing.problems.append(Problem(Kind.MASK_AMBIGUOUS, entry.key, detail))
            listing.entries[position] = replace(entry, masks=())
    return listing


def three_folders(
    tampered: Sequence[str] = TAMPERED,
    ground_truth: Sequence[str] = GROUND_TRUTH,
    authentic: Sequence[str] = AUTHENTIC,
    *,
    style: MaskStyle = "white",
    manipulation: Manipulation = lambda stem: "",
    stems: MaskStems = plain_stems,
    alone: bool = False,
) -> Layout:
    """Forged images, their masks, and authentic images, each in a folder of its own; the last may be absent.

    Args:
        alone: nothing else belongs beside these folders: pictures there are a problem.
    """

    def layout(folder: Path) -> Listing | None:
        forged, masks, untouched = child(folder, *tampered), child(folder, *ground_truth), child(folder, *authentic)
        if forged is None or masks is None:
            return None
        listing = Listing()
        index = MaskIndex(pictures(masks, listing), folder)
        for path in pictures(forged, listing, leave_out=(masks,)):
            key = path.relative_to(folder).as_posix()
            found = index.find(path, stems(path.stem), key, listing.problems)
            listing.entries.append(Entry(key, path, found, True, manipulation(path.stem), style))
        for path in pictures(untouched, listing) if untouched else []:
            listing.entries.append(Entry(path.relative_to(folder).as_posix(), path, (), False))
        index.report_unused(listing.problems)
        if alone:
            report_outside(folder, [part for part in (forged, masks, untouched) if part], listing)
        return unshared(listing.sort())

    return layout


def one_folder(
    images: Sequence[str],
    masks: Sequence[str],
    is_forged: Callable[[str], bool | None],
    *,
    stems: MaskStems,
    is_mask: Callable[[str], bool] = lambda stem: True,
    style: MaskStyle = "white",
    kind: str = "",
) -> Layout:
    """Both classes in one folder, told apart by their names.

    Args:
        is_forged: class from the stem; None where the name does not say.
        is_mask: which stems of the mask folder are ground truth.
        kind: manipulation of the forged images.
    """

    def layout(folder: Path) -> Listing | None:
        together, truth = child(folder, *images), child(folder, *masks)
        if together is None or truth is None:
            return None
        listing = Listing()
        index = MaskIndex((path for path in pictures(truth, listing) if is_mask(path.stem)), folder)
        for path in pictures(together, listing, leave_out=(truth,)):
            key = path.relative_to(folder).as_posix()
            forged = is_forged(path.stem)
            if forged is None:
                listing.problems.append(Problem(Kind.NAME_UNKNOWN, key))
            elif forged:
                found = index.find(path, stems(path.stem), key, listing.problems)
                listing.entries.append(Entry(key, path, found, True, kind, style))
            else:
                listing.entries.append(Entry(key, path, (), False))
        index.report_unused(listing.problems)
        return unshared(listing.sort())

    return layout
