"""What a training learns from: sources with weights, the split by source photo, crop sizes, augmentation.

`load_mix` reads it from a `mix.yaml`, which MIX.md beside this module describes: the fields of the dataclasses are its
keys.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from model.config import NO_KEY, Between, ConfigFile, Keyed, read_yaml
from model.data.source_keys import printable_name, read_sources
from model.datasets.registry import DATASETS
from model.datasets.sample import Sample
from model.images.lists import LIST_SUFFIXES

EmptyMask = Literal["authentic", "damaged"]
"""What the image of a mask that marks nothing can count as."""
Split = Literal["train", "validation", "calibration"]

LARGEST_PICTURE = 80.0
"""Millions of pixels, if the mix does not say otherwise: below what Pillow warns of."""

_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{([^}]*)\})")


def _expanded(written: object, info: ValidationInfo) -> Path:
    """A path: variables expanded, relative to the file."""

    def variable(match: re.Match[str]) -> str:
        name = match[2] or match[3] or ""
        if not match[1] and not os.environ.get(name):
            raise ValueError(f"a path whose variables are set, {name!r} is not (write $$ for a dollar sign)")
        return "$" if match[1] else os.environ[name]

    if not isinstance(written, str) or not written:
        raise ValueError("a path")
    try:
        return Path(str(info.context)) / Path(_VARIABLE.sub(variable, written)).expanduser()
    except RuntimeError:
        raise ValueError("a path; there is no such home folder") from None


def _there(check: Callable[[Path], bool], what: str) -> AfterValidator:
    def there(path: Path) -> Path:
        try:
            if check(path):
                return path
        except (OSError, ValueError):  # a name too long, or with a null byte
            pass
        raise ValueError(f"a {what} that exists; there is no {what} {path}")

    return AfterValidator(there)


def _one_group(pattern: re.Pattern[str]) -> re.Pattern[str]:
    if pattern.groups != 1:
        raise ValueError("a regular expression with one group that names the source photo, such as ^(.+)_")
    return pattern


def _list_suffix(path: Path) -> Path:
    if path.suffix.lower() not in LIST_SUFFIXES:
        raise ValueError(f"a file whose name ends in {', '.join(sorted(LIST_SUFFIXES))}")
    return path


def _folder_or_list(path: Path) -> Path:
    try:
        if path.is_dir() or (path.is_file() and path.suffix.lower() in LIST_SUFFIXES):
            return path
    except (OSError, ValueError):
        pass
    raise ValueError(f"a folder that exists, or a list ({', '.join(sorted(LIST_SUFFIXES))}); {path} is neither")


def _plain_name(prefix: str) -> str:
    if any(c in prefix for c in "*?[/\\"):
        raise ValueError("the start of the masks' names, without * ? [ or slashes")
    return prefix


def _two_folders(pairs: Pairs) -> Pairs:
    if not pairs.suffix and pairs.images.resolve() == pairs.masks.resolve():
        raise ValueError("`masks` in another folder than `images`, or a `suffix` that tells masks from images")
    return pairs


def _constant(share: object) -> object:
    """A curriculum of one share."""
    return share if isinstance(share, dict) else {"start": share, "end": share, "batches": 0}


def short_for(*keys: str, **values: object) -> BeforeValidator:
    """A value alone stands for a mapping with it at these keys; the other values are added in any case."""

    def mapping(value: object) -> object:
        return (value if isinstance(value, dict) else dict.fromkeys(keys, value)) | values

    return BeforeValidator(mapping)


_one_or_more = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
Share = Annotated[float, Between(0, 1)]
Folder = Annotated[Path, BeforeValidator(_expanded), _there(Path.is_dir, "folder")]
Folders = Annotated[tuple[Folder, ...], Field(min_length=1), _one_or_more]
FoldersOrLists = Annotated[
    tuple[Annotated[Path, BeforeValidator(_expanded), AfterValidator(_folder_or_list)], ...],
    Field(min_length=1),
    _one_or_more,
]
PhotoPattern = Annotated[re.Pattern[str], AfterValidator(_one_group)]
Pixels = Annotated[int, Between(32, 4096), Field(multiple_of=8)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks(Keyed):
    """How the masks of a source are read.

    Attributes:
        inverted: black is forged, not white.
        fit_masks: a mask of another size than its image is scaled to it; otherwise the pair counts as damaged.
        empty_masks: what the image of a mask that marks nothing counts as.
    """

    inverted: bool = False
    fit_masks: bool = False
    empty_masks: EmptyMask = "authentic"


@dataclass(frozen=True, slots=True)
class Pairs(Masks):
    """Two folders, matched by stem: `images/a/1.jpg` belongs to `masks/a/1<suffix>.png`.

    Attributes:
        photo: pattern whose first group in an image's stem names the source photo; None: the stem does.
        fraction: share of the images that is used, chosen by their names.
    """

    images: Folder
    masks: Folder
    suffix: str = ""
    photo: PhotoPattern | None = None
    fraction: Share = 1.0


@dataclass(frozen=True, slots=True)
class ListFile(Masks):
    """A list of image, mask and, if given, photo (`model.images.lists`); paths relative to it. No mask: authentic."""

    file: Annotated[Path, BeforeValidator(_expanded), _there(Path.is_file, "file"), AfterValidator(_list_suffix)]
    photo: PhotoPattern | None = None
    fraction: Share = 1.0


@dataclass(frozen=True, slots=True)
class NamedSet(Masks):
    """A public set of `model.datasets`, by its name, in one of its layouts below `root`."""

    name: str = field(metadata=NO_KEY)
    root: Folder
    fraction: Share = 1.0


@dataclass(frozen=True, slots=True)
class Authentic(Keyed):
    """Folders of untouched photos."""

    folders: Folders
    photo: PhotoPattern | None = None
    fraction: Share = 1.0


@dataclass(frozen=True, slots=True)
class MaskFolder(Keyed):
    """Object masks named `<prefix><photo stem>[_anything].png`, white = object."""

    folder: Folder
    prefix: Annotated[str, AfterValidator(_plain_name)] = ""


@dataclass(frozen=True, slots=True)
class Curriculum(Keyed):
    """Share of textbook cases: from `start` at batch 0 to `end` at batch `batches` in a straight line, then `end`.

    Of the training; what is not trained on has `end` from the first batch on.
    """

    start: Share
    end: Share
    batches: Annotated[int, Between(0, 1e9)]

    def share(self, batch: int) -> float:
        """The share at a batch."""
        if batch >= self.batches:
            return self.end
        return self.start + (self.end - self.start) * batch / self.batches


@dataclass(frozen=True, slots=True)
class Resynthesis(Keyed):
    """Regions of photos as the autoencoder of registered base weights reconstructs them.

    Attributes:
        base: name of the base weights, such as sd3-medium.
        share: of the pictures beside textbook cases that get one.
    """

    base: Annotated[str, AfterValidator(printable_name)]
    share: Share = 0.25


def _one_autoencoder(forge: Forge) -> Forge:
    if forge.autoencoder is not None and forge.fillers:
        raise ValueError("either `fillers` or `autoencoder`")
    return forge


@dataclass(frozen=True, slots=True)
class Forge(Keyed):
    """Forgeries made on the fly from photos and object masks.

    Attributes:
        plain_share: share of textbook cases.
        photo: as in `Pairs`: photos of one name, such as those of one camera, are all on one side.
        fillers: folders of autoencoders that make local re-syntheses.
        autoencoder: registered base weights whose autoencoder makes them.
    """

    photos: Folders
    masks: Annotated[tuple[Annotated[MaskFolder, short_for("folder")], ...], _one_or_more] = ()
    plain_share: Annotated[Curriculum, BeforeValidator(_constant)] = Curriculum(0, 0, 0)
    photo: PhotoPattern | None = None
    fillers: Annotated[tuple[Folder, ...], _one_or_more] = ()
    autoencoder: Annotated[Resynthesis, short_for("base")] | None = None


Data = Pairs | ListFile | NamedSet | Authentic | Forge


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
    data: Data
    where: str = ""

    @property
    def masks(self) -> Masks:
        """How its masks are read."""
        return self.data if isinstance(self.data, Masks) else Masks()

    @property
    def kind(self) -> str:
        """Its key in the file, such as `pairs` or `casia2`."""
        if isinstance(self.data, NamedSet):
            return self.data.name
        return {Pairs: "pairs", ListFile: "list", Authentic: "authentic", Forge: "forge"}[type(self.data)]


@dataclass(frozen=True, slots=True)
class Validation(Keyed):
    """Which source photos are held out, chosen by their names and the seed.

    Attributes:
        share: of the photos, for the validation.
        seed: another seed, other photos.
        calibration_share: of the photos, for the score and its confidence; in none of the other sides.
    """

    share: Annotated[float, Between(0, 0.5)] = 0.08
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    calibration_share: Annotated[float, Between(0, 0.4)] = 0.05


@dataclass(frozen=True, slots=True)
class Shape(Keyed):
    """A size of crops in pixels, and how often it is drawn relative to the others."""

    height: Pixels
    width: Pixels
    weight: Annotated[float, Between(0, 1e6, above=True)] = 1.0


@dataclass(frozen=True, slots=True)
class Augment(Keyed):
    """What is done to pictures of all sources but `forge`, which has its own histories. Probabilities from 0 to 1.

    Attributes:
        flip: mirrored.
        rescale: resampled by a factor from 0.5 to 1.5 although the picture is large enough.
        history: given one more history (JPEG, WebP, grain), authentic and forged pictures alike.
        aligned: the crop starts on the 8×8 grid of the file's JPEG.
        focus: the crop of a forged picture contains some of what is forged.
    """

    flip: Share = 0.5
    rescale: Share = 0.2
    history: Share = 0.5
    aligned: Share = 0.5
    focus: Share = 0.75


@dataclass(frozen=True, slots=True)
class _Keys(Keyed):
    """The top of the file."""

    sources: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    validation: Validation = Validation()
    shapes: Annotated[tuple[Annotated[Shape, short_for("height", "width")], ...], Field(min_length=1)] = (
        Shape(256, 256),
    )
    augment: Augment = Augment()
    # Pillow itself refuses more than 178 million pixels
    max_megapixels: Annotated[float, Between(0.01, 178)] = LARGEST_PICTURE


@dataclass(frozen=True, slots=True)
class Mix:
    """All of a `mix.yaml`.

    Attributes:
        path: the file.
        digest: SHA-256 of its bytes, hex.
        max_megapixels: larger pictures are not decoded (10⁶ pixels).
        file: as it was read, for messages; None: the mix was not read.
    """

    path: Path
    sources: tuple[Source, ...]
    validation: Validation = Validation()
    shapes: tuple[Shape, ...] = (Shape(256, 256),)
    augment: Augment = Augment()
    max_megapixels: float = LARGEST_PICTURE
    digest: str = ""
    file: ConfigFile | None = field(default=None, compare=False)

    def where(self, *place: str | int) -> str:
        """File, line and key of a value in words, for messages."""
        return self.file.where(*place) if self.file else str(self.path)

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


def load_mix(path: Path | str) -> Mix:
    """Read and check a mix; folders and list files it names must exist, their content is not looked at.

    Raises:
        ConfigError: anything wrong, with file, line, key, what was found and what was expected.
    """
    file = read_yaml(Path(path))
    keys = file.check(_Keys)
    kinds = ", ".join(kind for kind in _KINDS if kind not in DATASETS)
    expected = f"exactly one of {kinds}, or a public set such as casia2 (`clue eval --list`)"
    sources = tuple(
        Source(its.name, its.weight, data, file.where("sources", number, kind))
        for number, (its, kind, data) in enumerate(read_sources(file, keys.sources, _KINDS, expected))
    )
    rest = (keys.validation, keys.shapes, keys.augment, keys.max_megapixels, file.digest, file)
    return Mix(file.path, sources, *rest)


def split_of_photo(photo: str, validation: Validation) -> Split:
    """The side of a source photo: decided by its name and the seed alone, whatever else is in the mix."""
    at = place(f"{validation.seed} {photo}")
    if at < validation.share:
        return "validation"
    # from the other end: neither share moves photos of the other
    return "calibration" if at >= 1 - validation.calibration_share else "train"


def split_of(sample: Sample, validation: Validation) -> Split | None:
    """The side of an image. None: it was made from photos of several, and would carry one side into the other."""
    sides = {split_of_photo(photo, validation) for photo in sample.photos}
    return None if len(sides) > 1 else sides.pop()


def photo_name(pattern: re.Pattern[str] | None, stem: str) -> str:
    """The name of the source photo in a stem: what the pattern's group finds; where it finds nothing, the stem."""
    match = pattern.search(stem) if pattern else None
    return (match and match[1]) or stem


def place(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, and not on how a disk or a list composes its accents."""
    composed = unicodedata.normalize("NFC", name)
    digest = hashlib.sha256(composed.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


_KINDS: dict[str, Any] = {
    "pairs": Annotated[Pairs, AfterValidator(_two_folders)],
    "list": Annotated[ListFile, short_for("file")],
    **{name: Annotated[NamedSet, short_for("root", name=name)] for name in DATASETS},
    "authentic": Annotated[Authentic, short_for("folders")],
    "forge": Annotated[Forge, AfterValidator(_one_autoencoder), short_for("photos")],
}
