"""The options of `clue forge`, and which of them decide the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clue_cli.terminal import printable

if TYPE_CHECKING:
    from model.registry import Base

DEFAULT_KINDS = ("splice", "copy_move", "removal", "local_edit")
KINDS = {
    "splice": 0.5,
    "copy_move": 0.3,
    "removal": 0.1,
    "local_edit": 0.1,
    "resynthesis": 0.1,
    "text": 0.1,
    "splices": 0.1,
    "document": 0.1,
}
"""Kinds of forgery and their proportions; `model.data.forge.EDITS` with its shares among the forged."""


@dataclass(frozen=True, slots=True)
class ForgeOptions:
    """All options but the photos and the output folder.

    Attributes:
        count: pictures to make.
        masks: folder of object masks, white = object, named after their photos.
        seed: the same seed, photos and settings, the same pictures.
        size: (width, height) of the pictures; None for whole photos at their own resolution.
        kinds: of forgeries, some of KINDS.
        authentic: share of authentic pictures.
        workers: processes; None for one a core, or one with a model of the user's.
        inpainter: folder of a diffusers inpainting pipeline.
        autoencoder: folder of a diffusers AutoencoderKL, or the name of registered base weights.
        max_megapixels: larger photos are left out undecoded.
        hidden: also hidden photos.
    """

    count: int = 100
    masks: Path | None = None
    seed: int = 0
    size: tuple[int, int] | None = None
    kinds: tuple[str, ...] = DEFAULT_KINDS
    authentic: float = 0.2
    workers: int | None = None
    inpainter: Path | None = None
    autoencoder: Path | None = None
    max_megapixels: float = 100.0
    hidden: bool = False

    def settings(self) -> dict[str, Any]:
        """What decides each picture beside the photos, as JSON types. Not the count: more can be made later."""
        base = registered_autoencoder(self.autoencoder)
        return {
            "seed": self.seed,
            "size": None if self.size is None else list(self.size),
            "kinds": {kind: KINDS[kind] for kind in self.kinds},
            "authentic": self.authentic,
            "inpainter": _shown(self.inpainter),
            "autoencoder": _shown(self.autoencoder) if base is None else base.name,
            "max_megapixels": self.max_megapixels,
            **({} if base is None else {"autoencoder_sha256": base.digests()["vae"]}),
        }


def registered_autoencoder(path: Path | None) -> Base | None:
    """The registered base weights that a word names where it is no folder; None: it is a folder, or nothing.

    Raises:
        BasesError: it is neither a folder nor registered, or has no decoder.
    """
    if path is None or path.is_dir() or len(path.parts) != 1:
        return None
    from model.branches.sd3 import with_decoder
    from model.registry import BasesError

    try:
        return with_decoder(str(path))
    except BasesError as error:
        raise BasesError(f"{path} is not a folder, and as a name of base weights: {error}") from error


def _shown(path: Path | None) -> str | None:
    return None if path is None else printable(str(path.resolve()))
