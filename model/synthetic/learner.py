"""What a method must have so that `clue train --task synthetic` can train it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from model.calibration import Calibration

Inputs = Callable[[NDArray[np.uint8]], dict[str, Tensor]]
"""From one crop, crop×crop×3 uint8, to what the network takes, without a batch dimension."""


class Learner(Protocol):
    """A network with adapters on a frozen base. The trainer takes it through batches of crops.

    Attributes:
        network: holds all parameters; those that learn have `requires_grad`.
        crop: side of the square crops that it is trained on, pixels.
        base_digest: SHA-256 of the base, hex: a training resumes on the same base only.
    """

    network: nn.Module
    crop: int
    base_digest: str

    @property
    def inputs(self) -> Inputs:
        """Worker processes get it, where need be as a pickle: it must not hold the network."""

    def loss(self, inputs: dict[str, Tensor], generated: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            inputs: of `inputs`, stacked, on the network's device.
            generated: B, bool.
        """

    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """P(generated) of each crop of a batch: B float32 in [0, 1]."""

    def stored(self) -> dict[str, Tensor]:
        """The tensors that learn (adapters, head), by name, for a checkpoint; `load_stored` takes them back."""

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `stored`.

        Raises:
            ValueError: names or shapes do not fit.
        """

    def save(self, folder: Path, calibration: Calibration, training: dict[str, Any]) -> None:
        """Write the method into a folder: `method.json` and its tensors as safetensors, each atomically.

        Args:
            folder: empty; the trainer puts it in the place of an earlier one when it is whole.
            training: what it learned from, in JSON types; with `generators`, the names of those it has seen.
        """
