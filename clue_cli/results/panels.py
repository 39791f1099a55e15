"""Maps of classical methods beside the network's: aids for an examiner to look at, no part of a verdict.

A panel that cannot be made costs the panel and not the image: its record says why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from clue_cli.evidence.item import Photo

Method = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

SUFFIXES = {"error_level_analysis": ".ela.png", "jpeg_ghosts": ".ghosts.png", "noise_inconsistency": ".noise.png"}
"""The methods, by the names of their fields in the record, and how their files end."""

MAX_MEGAPIXELS = 64.0
"""Larger images get no panels: the methods need several copies of an image in memory."""

BYTES_PER_PIXEL = 64
"""What a method may need beside the image: signed and float copies of three channels."""


def panels(photo: Photo) -> Iterator[tuple[str, NDArray[np.float32] | str]]:
    """Each method's name with its map, H×W float32 in [0, 1] as displayed, or with why there is none.

    The methods see the image as stored, like the network: some look at the 8×8 grid of a JPEG. Where an image was not
    examined, its maps are 0.
    """
    pixels = photo.examined
    height, width = pixels.shape[:2]
    if height * width > MAX_MEGAPIXELS * 1e6:
        yield from ((name, f"larger than {MAX_MEGAPIXELS:g} megapixels") for name in SUFFIXES)
        return
    for name, method in _methods().items():
        try:
            found = method(pixels)
            broken = found.shape != (height, width) or not (float(found.min()) >= 0 and float(found.max()) <= 1)
            yield name, "the method gave no map" if broken else photo.in_full(photo.displayed(found))
        except MemoryError:
            yield name, "out of memory"
        except (ValueError, ArithmeticError, OSError) as error:  # pictures of one pixel's width, and the like
            yield name, f"the method failed: {error}"


def _methods() -> dict[str, Method]:
    from model.evaluation.classical.error_level_analysis import error_level_analysis
    from model.evaluation.classical.jpeg_ghosts import jpeg_ghosts
    from model.evaluation.classical.noise_inconsistency import noise_inconsistency

    return {
        "error_level_analysis": error_level_analysis,
        "jpeg_ghosts": jpeg_ghosts,
        "noise_inconsistency": noise_inconsistency,
    }
