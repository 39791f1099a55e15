"""The split by source photo: which photos are trained on, validated on, and left for the score's calibration."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

from model.data.mix import Validation
from model.datasets.sample import Sample

Split = Literal["train", "validation", "calibration"]


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
