"""Which source photos are trained on, which are validated on, and which are left for the score's calibration."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Literal

from model.data.entries import Entry
from model.data.mix import Validation

Side = Literal["train", "validation", "calibration"]


def side_of_photo(photo: str, split: Validation) -> Side:
    """The side of a source photo: decided by its name and the seed alone, whatever else is in the mix."""
    at = place(f"{split.seed} {photo}")
    if at < split.share:
        return "validation"
    # from the other end: neither share moves photos of the other
    return "calibration" if at >= 1 - split.calibration_share else "train"


def side_of(entry: Entry, split: Validation) -> Side | None:
    """The side of an image. None: it was made from photos of several, and would carry one side into the other."""
    sides = {side_of_photo(photo, split) for photo in entry.photos}
    return None if len(sides) > 1 else sides.pop()


def place(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, and not on how a disk or a list composes its accents."""
    composed = unicodedata.normalize("NFC", name)
    digest = hashlib.sha256(composed.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
