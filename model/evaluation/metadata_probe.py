"""How well the files alone tell the classes of a set apart: a probe for shortcuts, not a method.

A set whose forged files went through another program than its authentic ones can be "solved" without a look at a
pixel: in CASIA v1 the quantization tables do it. The image-level AUC of this probe stands beside every image-level
figure; where it is high, re-encode both classes alike before such a figure is believed.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from model.evaluation.layouts import Entry
from model.evaluation.problems import UnreadablePicture
from model.evaluation.truth import FORMATS

Traits = tuple[str, ...]


def metadata_scores(entries: Sequence[Entry]) -> dict[str, float]:
    """Key → share of forged files among those of the other half of the set with the same traits, smoothed, 0 to 1.

    The set is halved by a hash of the keys, and each half is scored by the other: no file counts for its own score.
    Where no file of the other half has all four `file_traits`, the first three count, then two, then one; else it is
    0.5. Files that cannot be read are left out.
    """
    traits: dict[str, Traits] = {}
    for entry in entries:
        try:
            traits[entry.key] = file_traits(entry.image)
        except UnreadablePicture:
            traits[entry.key] = ("unreadable",)
    half = {entry.key: hashlib.sha256(os.fsencode(entry.key)).digest()[0] & 1 for entry in entries}
    seen: tuple[Counter[Traits], Counter[Traits]] = (Counter(), Counter())
    forged: tuple[Counter[Traits], Counter[Traits]] = (Counter(), Counter())
    for entry in entries:
        for length in range(1, len(traits[entry.key]) + 1):
            seen[half[entry.key]][traits[entry.key][:length]] += 1
            forged[half[entry.key]][traits[entry.key][:length]] += entry.forged
    scores = {}
    for entry in entries:
        own = traits[entry.key]
        if own == ("unreadable",):
            continue
        other = 1 - half[entry.key]
        known = next((own[:n] for n in range(len(own), 0, -1) if seen[other][own[:n]]), None)
        count, hits = (seen[other][known], forged[other][known]) if known else (0, 0)
        scores[entry.key] = (hits + 0.5) / (count + 1)
    return scores


def file_traits(path: Path) -> Traits:
    """What a file shows before its pixels are decoded, from the coarse to the fine.

    Format and mode; quantization tables and chroma layout; which kinds of metadata there are; the size in pixels.

    Raises:
        UnreadablePicture: not a picture, or not there.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            tables = getattr(image, "quantization", {})
            layers = getattr(image, "layer", [])
            kinds = sorted(str(key) for key in image.info if key not in ("dpi", "jfif_density"))
            return (
                f"{image.format} {image.mode}",
                hashlib.sha256(repr((sorted(tables.items()), layers)).encode()).hexdigest()[:16],
                " ".join(kinds),
                f"{image.width}×{image.height}",
            )
    except Exception as error:  # decoders raise anything on damaged bytes
        raise UnreadablePicture(f"{path}: {error}") from error
