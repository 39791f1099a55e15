"""A network's process that fails as the images in it say: `python -m tests.faults.dying_network`. It has no network.

The red of an image's first pixel is its probability, or what happens when its batch of two is computed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError, WeightsError
from clue_cli.networks.worker import main
from model.predictor import OutOfMemory, Prediction
from model.score import image_features

KILLS, RAISES, FILLS_MEMORY, KILLS_ONCE = 254, 253, 252, 251
Image = tuple[int, NDArray[np.uint8]]


class Network:
    def __init__(self, marker: Path | None) -> None:
        self.batch, self.holds, self.marker = 2, 4, marker

    def predict(self, images: Iterable[Image | None]) -> Iterator[Prediction[int] | OutOfMemory[int]]:
        pending: list[Image] = []
        for image in images:
            pending += [] if image is None else [image]
            if image is None or len(pending) == self.batch:
                yield from self.compute(pending)
                pending.clear()
        yield from self.compute(pending)

    def compute(self, batch: list[Image]) -> Iterator[Prediction[int] | OutOfMemory[int]]:
        reds = [int(pixels[0, 0, 0]) for _, pixels in batch]
        if KILLS in reds:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISES in reds:
            raise RuntimeError("shape mismatch")
        if KILLS_ONCE in reds and self.marker is not None and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for (key, pixels), red in zip(batch, reds, strict=True):
            if red == FILLS_MEMORY:
                self.batch = 1
                yield OutOfMemory(key, "no room")
            else:
                heatmap = np.full(pixels.shape[:2], red / 255, np.float32)
                yield Prediction(key, heatmap, image_features(heatmap, pixels), 7, 1, 0.5)


def load(setup: dict[str, Any]) -> Any:
    what = Path(str(setup["model"])).name
    if what == "missing":
        raise WeightsError("There is no model.", "Look for it.")
    if what == "too-large":
        raise UsageError("The model does not fit.", "Take another device.")
    if what == "unstartable":
        sys.exit("no driver")
    marker = os.environ.get("CLUE_TEST_MARKER")
    return Network(Path(marker) if marker else None)


if __name__ == "__main__":
    main(load)
