"""What the predictor gives back; apart, so that whoever only handles results need not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Prediction(Generic[Key]):
    """What the network said of one image.

    Attributes:
        key: whatever the caller handed in.
        heatmap: H×W float32 in [0, 1].
        features: `model.calibration.FEATURES` of the heatmap as the network gave it, before it was drawn along the
            edges of the picture and weak regions were lowered (`model.predictor.complete`): they rank pictures better.
        seed: of the noise, from the content.
        tile_count: number of tiles.
        seconds: this image's share of the time that searching, the network and its heatmap took.
    """

    key: Key
    heatmap: NDArray[np.float32]
    features: NDArray[np.float64]
    seed: int
    tile_count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class OutOfMemory(Generic[Key]):
    """Not even one tile of this image at a time fits the memory there is."""

    key: Key
    message: str
