"""What a training learns from: sources with weights, the split by source photo, crop sizes, augmentation.

`model.data.mix_file` reads it from a `mix.yaml`, which MIX.md beside this module describes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EmptyMask = Literal["authentic", "damaged"]
"""What the image of a mask that marks nothing can count as."""

LARGEST_PICTURE = 80.0
"""Millions of pixels, if the mix does not say otherwise: below what Pillow warns of."""


@dataclass(frozen=True, slots=True)
class Masks:
    """How the masks of a source are read.

    Attributes:
        inverted: black is forged, not white.
        fit: a mask of another size than its image is scaled to it; otherwise the pair counts as damaged.
        empty: what the image of a mask that marks nothing is.
    """

    inverted: bool = False
    fit: bool = False
    empty: EmptyMask = "authentic"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two folders, matched by stem: `images/a/1.jpg` belongs to `masks/a/1<suffix>.png`.

    Attributes:
        photo: pattern whose first group in an image's stem names the source photo; None: the stem does.
        fraction: share of the images that is used, chosen by their names.
    """

    images: Path
    masks: Path
    suffix: str = ""
    photo: re.Pattern[str] | None = None
    fraction: float = 1.0
    reading: Masks = Masks()


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list of image, mask and, if given, photo (`model.images.lists`); paths relative to it. No mask: authentic."""

    file: Path
    photo: re.Pattern[str] | None = None
    fraction: float = 1.0
    reading: Masks = Masks()


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A public set of `model.datasets`, by its name, in one of its layouts below `root`."""

    name: str
    root: Path
    fraction: float = 1.0
    reading: Masks = Masks()


@dataclass(frozen=True, slots=True)
class Authentic:
    """Folders of untouched photos."""

    folders: tuple[Path, ...]
    photo: re.Pattern[str] | None = None
    fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Object masks named `<prefix><photo stem>[_anything].png`, white = object."""

    folder: Path
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Share of textbook cases: from `start` at batch 0 to `end` at batch `batches` in a straight line, then `end`.

    Of the training; what is not trained on has `end` from the first batch on.
    """

    start: float = 0.0
    end: float = 0.0
    batches: int = 0

    def share(self, batch: int) -> float:
        """The share at a batch."""
        if batch >= self.batches:
            return self.end
        return self.start + (self.end - self.start) * batch / self.batches


@dataclass(frozen=True, slots=True)
class Forge:
    """Forgeries made on the fly from photos and object masks.

    Attributes:
        plain_share: share of textbook cases.
        photo: as in `Pairs`: photos of one name, such as those of one camera, are all on one side.
        fillers: folders of autoencoders that make local re-syntheses.
    """

    photos: tuple[Path, ...]
    masks: tuple[MaskFolder, ...] = ()
    plain_share: Curriculum = Curriculum()
    photo: re.Pattern[str] | None = None
    fillers: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One source of samples.

    Attributes:
        name: names it in logs; no two sources share one.
        weight: how often it is drawn, relative to the others.
        data: what it consists of.
        where: file, line and key of its description.
    """

    name: str
    weight: float
    data: Pairs | ListFile | NamedSet | Authentic | Forge
    where: str = ""

    @property
    def kind(self) -> str:
        """Its key in the file, such as `pairs` or `casia2`."""
        if isinstance(self.data, NamedSet):
            return self.data.name
        return {Pairs: "pairs", ListFile: "list", Authentic: "authentic", Forge: "forge"}[type(self.data)]


@dataclass(frozen=True, slots=True)
class Validation:
    """Which source photos are held out, chosen by their names and the seed.

    Attributes:
        share: of the photos, for the validation.
        seed: another seed, other photos.
        calibration_share: of the photos, for the score and its confidence; in none of the other sides.
        where: file, line and key of `share`; empty: it is left out.
    """

    share: float = 0.08
    seed: int = 0
    calibration_share: float = 0.05
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of crops in pixels, and how often it is drawn relative to the others.

    Attributes:
        where: file, line and key of its description.
    """

    height: int
    width: int
    weight: float = 1.0
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to pictures of all sources but `forge`, which has its own histories. Probabilities from 0 to 1.

    Attributes:
        flip: mirrored.
        rescale: resampled by a factor from 0.5 to 1.5 although the picture is large enough.
        history: given one more history (JPEG, WebP, grain), authentic and forged pictures alike.
        aligned: the crop starts on the 8×8 grid of the file's JPEG.
        focus: the crop of a forged picture contains some of what is forged.
    """

    flip: float = 0.5
    rescale: float = 0.2
    history: float = 0.5
    aligned: float = 0.5
    focus: float = 0.75


@dataclass(frozen=True, slots=True)
class Mix:
    """All of a `mix.yaml`.

    Attributes:
        path: the file.
        digest: SHA-256 of its bytes, hex.
        max_megapixels: larger pictures are not decoded (10⁶ pixels).
        where: file, line and key of the sources.
    """

    path: Path
    sources: tuple[Source, ...]
    validation: Validation = Validation()
    shapes: tuple[Shape, ...] = (Shape(256, 256),)
    augment: Augment = Augment()
    max_megapixels: float = LARGEST_PICTURE
    digest: str = ""
    where: str = field(default="", compare=False)

    def folders(self) -> list[tuple[Source, Path]]:
        """The folders that are looked through, each with its source; list files and their pictures are left out."""
        found: list[tuple[Source, Path]] = []
        for source in self.sources:
            folders: tuple[Path, ...] = ()
            match source.data:
                case Pairs(images=images, masks=masks):
                    folders = (images, masks)
                case NamedSet(root=root):
                    folders = (root,)
                case Authentic():
                    folders = source.data.folders
                case Forge(photos=photos, masks=cutouts):
                    folders = (*photos, *(cutout.folder for cutout in cutouts))
            found += [(source, folder) for folder in folders]
        return found
