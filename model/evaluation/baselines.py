"""The trivial baselines that stand in every table: what a figure is worth is seen beside them.

Each is a map H×W float32 in [0, 1] from pixels H×W×3 uint8, like the classical methods.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.evaluation.classical.error_level_analysis import error_level_analysis
from model.evaluation.classical.jpeg_ghosts import jpeg_ghosts
from model.evaluation.classical.noise_inconsistency import noise_inconsistency

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
Method = Callable[[Pixels], Map]


def all_forged(pixels: Pixels) -> Map:
    """Every pixel is forged: F1 = 2a/(1 + a) for a forged area a."""
    return np.ones(pixels.shape[:2], np.float32)


def none_forged(pixels: Pixels) -> Map:
    """No pixel is forged: F1 = 0, and no false alarm ever."""
    return np.zeros(pixels.shape[:2], np.float32)


def centre_box(pixels: Pixels) -> Map:
    """The middle half of each side, a quarter of the area: photographers and forgers put things in the middle."""
    height, width = pixels.shape[:2]
    out = np.zeros((height, width), np.float32)
    out[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return out


TRIVIAL: dict[str, Method] = {
    "all forged": all_forged,
    "none forged": none_forged,
    "centre box": centre_box,
}
CLASSICAL: dict[str, Method] = {
    "error level analysis": error_level_analysis,
    "JPEG ghosts": jpeg_ghosts,
    "noise inconsistency": noise_inconsistency,
}
"""Aids to look at, not verdicts."""
