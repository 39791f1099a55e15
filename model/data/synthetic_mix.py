"""The mix of `clue train --task synthetic`: sources of real, generated and laundered pictures, and aligned pairs.

The file has the form of `model.data.mix`; MIX.md describes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from model.config import Between, ConfigError, ConfigFile, Keyed, read_yaml
from model.data.mix import (
    LARGEST_PICTURE,
    FoldersOrLists,
    PhotoPattern,
    Share,
    Split,
    Validation,
    photo_name,
    place,
    short_for,
    split_of,
)
from model.data.source_keys import read_sources
from model.datasets.own import find_list
from model.datasets.sample import Kind, Sample
from model.images.folders import find_pictures

REAL, LAUNDERED = "real", "laundered"
"""Groups of pictures; every other group is the name of a generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures(Keyed):
    """Pictures of one class.

    Attributes:
        paths: folders, or lists (`model.images.lists`), of which the class, if given, must fit.
        photo: pattern whose first group in a picture's stem names the source photo; None: the stem does.
        fraction: share of the pictures that is used, chosen by their names.
    """

    paths: FoldersOrLists
    photo: PhotoPattern | None = None
    fraction: Share = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated(Pictures):
    """Pictures of a generator; without `generator` it has the name of the source."""

    generator: Annotated[str, Field(max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Align(Pictures):
    """Photos, each against its own reconstruction by an autoencoder.

    Attributes:
        autoencoder: registered base weights with a VAE and its decoder.
        strengths: standard deviations of the noise that is added to the latent; each photo has one of them.
        side: longest side of the window of a photo that is reconstructed, pixels.
    """

    autoencoder: Annotated[str, Field(min_length=1, max_length=200)]
    strengths: Annotated[tuple[Annotated[float, Between(0, 3)], ...], Field(min_length=1, max_length=16)] = (0.0,)
    side: Annotated[int, Between(64, 4096), Field(multiple_of=16)] = 1024


SourceKind = Literal["real", "generated", "laundered", "align"]
_KINDS: dict[str, Any] = {
    "real": Annotated[Pictures, short_for("paths")],
    "generated": Annotated[Generated, short_for("paths")],
    "laundered": Annotated[Generated, short_for("paths")],
    "align": Annotated[Align, short_for("paths")],
}
_BESIDE = ("generator", "autoencoder", "strengths", "side", "photo", "fraction")
"""Keys that may stand beside the kind."""


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """One source.

    Attributes:
        name: names it in logs; no two sources share one.
        weight: how often it is drawn, relative to the others.
        where: file, line and key of its description.
    """

    name: str
    weight: float
    kind: SourceKind
    data: Pictures
    where: str = ""

    @property
    def group(self) -> str:
        """What its pictures are counted as where they are not real: a generator, or laundered."""
        if isinstance(self.data, Align):
            return f"autoencoder of {self.data.autoencoder}"
        if self.kind == "laundered":
            return LAUNDERED
        return (self.data.generator if isinstance(self.data, Generated) else "") or self.name


@dataclass(frozen=True, slots=True)
class SyntheticAugment(Keyed):
    """What is done to crops of every class alike. Probabilities from 0 to 1.

    Attributes:
        flip: mirrored.
        rescale: resampled by a factor from 0.5 to 1.5.
        blur: blurred with a kernel of 3 or 5 pixels.
        history: given one more history (JPEG, WebP, grain).
        aligned: the crop starts on the 8×8 grid of the file's JPEG.
        first: pictures whose file is no JPEG are compressed like those of the other class, as many in all sources.
    """

    flip: Share = 0.5
    rescale: Share = 0.0
    blur: Share = 0.05
    history: Share = 0.5
    aligned: Share = 0.5
    first: bool = True


@dataclass(frozen=True, slots=True)
class _Keys(Keyed):
    """The top of the file."""

    sources: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    validation: Validation = field(default_factory=Validation)
    augment: SyntheticAugment = field(default_factory=SyntheticAugment)
    max_megapixels: Annotated[float, Between(0.01, 178)] = LARGEST_PICTURE


@dataclass(frozen=True, slots=True)
class SyntheticMix:
    """All of the file; attributes as of `model.data.mix.Mix`."""

    path: Path
    sources: tuple[SyntheticSource, ...]
    validation: Validation = field(default_factory=Validation)
    augment: SyntheticAugment = field(default_factory=SyntheticAugment)
    max_megapixels: float = LARGEST_PICTURE
    digest: str = ""
    file: ConfigFile | None = field(default=None, compare=False)

    def where(self, *at: str | int) -> str:
        """File, line and key of a value in words, for messages."""
        return self.file.where(*at) if self.file else str(self.path)

    def paths(self) -> list[tuple[SyntheticSource, Path]]:
        """The folders and lists that are looked through, each with its source."""
        return [(source, path) for source in self.sources for path in source.data.paths]


def load_synthetic_mix(path: Path) -> SyntheticMix:
    """Read and check a mix; folders and lists it names must exist, their content is not looked at.

    Raises:
        ConfigError: anything wrong, with file, line, key, what was found and what was expected; also a class missing.
    """
    file = read_yaml(path)
    keys = file.check(_Keys)
    expected = "exactly one of real, generated, laundered and align (--task synthetic)"
    sources = tuple(
        SyntheticSource(its.name, its.weight, kind, data, file.where("sources", number, kind))  # type: ignore[arg-type]
        for number, (its, kind, data) in enumerate(read_sources(file, keys.sources, _KINDS, expected, *_BESIDE))
    )
    used = {source.kind for source in sources if source.weight}
    if not used & {"real", "align"}:
        raise ConfigError(file.where("sources"), "no source has real pictures", "a source with `real` or `align`")
    if not used & {"generated", "laundered", "align"}:
        raise ConfigError(
            file.where("sources"),
            "no source has generated pictures",
            "a source with `generated`, `laundered` or `align`",
        )
    return SyntheticMix(path, sources, keys.validation, keys.augment, keys.max_megapixels, file.digest, file)


def list_pictures(source: SyntheticSource) -> tuple[list[Sample], list[str]]:
    """The pictures of a source, of all sides, and what is wrong with it, in words. Files are listed, not opened.

    Raises:
        ConfigError: a list that cannot be read.
    """
    samples: dict[Path, Sample] = {}
    problems: list[str] = []
    data, real = source.data, source.kind in ("real", "align")
    for path in data.paths:
        if path.is_dir():
            found = [
                Sample(p.name, p, (), not real, photos=(photo_name(data.photo, p.stem),))
                for p in find_pictures(path, problems, forged=False)
            ]
        else:
            listing = find_list(path, named=True, photo=lambda stem: photo_name(data.photo, stem))
            problems += [f"{path}: {one}" for one in listing.problems if one.kind is not Kind.MASK_MISSING]
            classed = any(sample.forged for sample in listing.samples)  # else the list has one class
            found = [sample for sample in listing.samples if sample.forged != real or not (classed or real)]
        samples |= {sample.image: sample for sample in found}
    kept = [s for s in samples.values() if data.fraction == 1 or place(f"fraction {s.image.name}") < data.fraction]
    if not kept:
        problems.append(f"{source.name}: no picture that can be used")
    return sorted(kept, key=lambda sample: sample.image), problems


def on_side(samples: list[Sample], side: Split, validation: Validation) -> list[Sample]:
    """Those of one side of the split; a picture made from photos of several sides is on none."""
    return [sample for sample in samples if split_of(sample, validation) == side]


def digest_of(names: object) -> str:
    """SHA-256, hex, of names in JSON types."""
    return sha256(json.dumps(names).encode()).hexdigest()
