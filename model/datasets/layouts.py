"""How the sets are laid out on disk, and what else is known of a public set: its counts, source, terms and damage.

A layout is a function from the folder of a set to a `Listing`, in which each image has its masks, paired by name; or to
None where the folder is not laid out that way. Nothing is paired by order, nothing is left out without a word: what
does not fit is listed as a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model.datasets.sample import Kind, Listing, Problem, Sample
from model.images.folders import files_below, is_file, is_hidden
from model.images.masks import MaskStyle
from model.images.pairing import Index
from model.images.pixels import SUFFIXES

MASK_ENDINGS = ("", "_gt", "_mask", "_edgemask")
"""What published masks append to the stem of their image, in the order in which it is tried."""

TAMPERED = ("Tp", "tampered", "forged", "fake")
GROUND_TRUTH = ("Gt", "groundtruth", "ground-truth", "masks", "mask")
AUTHENTIC = ("Au", "authentic", "pristine", "real")


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


def pictures(
    folder: Path,
    listing: Listing,
    leave_out: Collection[Path] = (),
    below: Path | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> list[Path]:
    """The pictures in a folder by file extension, sorted; hidden files are passed over, others counted as ignored.

    What is named like a picture and is not a file (a link that leads nowhere, a pipe) is a problem, and so is a folder
    that is not read; `below` names them. None: from the folder that `folder` lies in.
    """
    below = below or folder.parent

    def failed(path: Path, why: str) -> None:
        listing.problems.append(Problem(Kind.FOLDER_UNREADABLE, path.relative_to(below).as_posix(), why))

    found = []
    for path in sorted(files_below(folder, failed, leave_out)):
        if path.suffix.lower() not in suffixes:
            listing.ignored += 1
        elif is_file(path):
            found.append(path)
        else:
            name = path.relative_to(below).as_posix()
            listing.problems.append(Problem(Kind.IMAGE_MISSING, name, "no file, or a link that leads nowhere"))
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


def groups(folder: Path, *, hidden: bool = False) -> list[Path]:
    """The sub-folders, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and (hidden or not is_hidden(path.name)))


def report_outside(folder: Path, known: Collection[Path], listing: Listing) -> None:
    """Add the pictures that lie in `folder` but in none of its sub-folders that the layout knows."""
    elsewhere = Listing()
    found = pictures(folder, elsewhere, known, folder)
    listing.problems += [*elsewhere.problems, *outside(found, folder, folder)]


class MaskIndex:
    """Masks by their stem. `below` names them in problems."""

    def __init__(self, masks: Iterable[Path], below: Path) -> None:
        self.below = below
        self._index = Index((path.stem, path) for path in masks)

    def find(self, image: Path, stems: Sequence[str], key: str, problems: list[Problem]) -> tuple[Path, ...]:
        """The mask of an image, or nothing and a problem. Of several, the one in a sub-folder of the same name."""
        hits = self._index.find(stems, lambda path: path.parent.name == image.parent.name)
        if len(hits) > 1:
            names = ", ".join(path.relative_to(self.below).as_posix() for path in hits)
            problems.append(Problem(Kind.MASK_AMBIGUOUS, key, names))
        elif not hits:
            problems.append(Problem(Kind.MASK_MISSING, key, f"expected a picture named {stems[0]}" if stems else ""))
        return tuple(hits) if len(hits) == 1 else ()

    def report_unused(self, problems: list[Problem]) -> None:
        """Masks that no image asked for."""
        names = (path.relative_to(self.below).as_posix() for path in self._index.unused())
        problems.extend(Problem(Kind.MASK_WITHOUT_IMAGE, name) for name in names)


def unshared(listing: Listing) -> Listing:
    """Itself; where images of one stem (`a.jpg`, `a.png`) fit one mask, neither gets it, and both are reported."""
    users: dict[tuple[tuple[Path, ...], str], list[Sample]] = {}
    for sample in listing.samples:
        if sample.masks:
            users.setdefault((sample.masks, sample.image.stem), []).append(sample)
    doubted = {sample.key for same in users.values() if len(same) > 1 for sample in same}
    for position, sample in sorted(enumerate(listing.samples), key=lambda place: place[1].key):
        if sample.key in doubted:
            detail = f"{sample.masks[0].name} fits several images"
            listing.problems.append(Problem(Kind.MASK_AMBIGUOUS, sample.key, detail))
            listing.samples[position] = replace(sample, masks=())
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
            listing.samples.append(Sample(key, path, found, True, manipulation(path.stem), style))
        for path in pictures(untouched, listing) if untouched else []:
            listing.samples.append(Sample(path.relative_to(folder).as_posix(), path, (), False))
        index.report_unused(listing.problems)
        if alone:
            report_outside(folder, [part for part in (forged, masks, untouched) if part], listing)
        return unshared(listing)

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
    """Both classes in one folder, distinguished by their names.

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
                listing.samples.append(Sample(key, path, found, True, kind, style))
            else:
                listing.samples.append(Sample(key, path, (), False))
        index.report_unused(listing.problems)
        return unshared(listing)

    return layout


NOT_CONFIRMED = "layout not confirmed"
PHOTOHOLMES = "as PhotoHolmes reads it"


@dataclass(frozen=True, slots=True)
class PublishedLayout:
    """One way a set lies on disk: its tree in words, where that is known from, and the function that reads it."""

    name: str
    tree: str
    source: str
    read: Layout

    def describe(self) -> str:
        """A line for a person."""
        return f"{self.name} ({self.source}): {self.tree}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is known of a set.

    Attributes:
        folders: names its folder can have, best first; `.`: the root itself is tried.
        counts: (forged, authentic) of its known editions, the one that papers measure first.
        obtained: where it comes from.
        terms: on what terms.
        layouts: how it is laid out, in the order in which it is tried.
        damage: what is known to be broken in the published files; goes into the result.
        photos: names of the photos that an image was made from, known from its path: images that share one are never
            split between training and validation.
        training: made to train on: measured on only where it is asked for by its own name.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    obtained: str
    terms: str
    layouts: tuple[PublishedLayout, ...]
    damage: tuple[str, ...] = ()
    photos: Callable[[Path], tuple[str, ...]] = lambda image: (image.stem,)
    training: bool = False

    @property
    def expected(self) -> str:
        """The expected counts in words."""
        if not self.counts:
            return "counts not confirmed"
        return "expected " + ", or ".join(
            f"{forged} forged and {authentic} authentic" for forged, authentic in self.counts
        )


def always(kind: str) -> Manipulation:
    """A set of which all forged images are of one kind."""
    return lambda stem: kind


def common(manipulation: Manipulation = lambda stem: "", source: str = "IMDL-BenCo") -> PublishedLayout:
    """The layout that many sets are passed on in."""
    tree = "Tp/ forged, Gt/ masks of the same stem (also with _gt, _mask), white = forged, Au/ authentic"
    return PublishedLayout("Tp/Gt/Au", tree, source, three_folders(manipulation=manipulation, alone=True))
