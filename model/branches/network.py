"""What the rest of the program asks of a branch's network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model import lora
from model.presets.spec import LoraSpec, Preset
from model.registry import Base

Files = dict[str, tuple[Path, ...]]
"""The files of each part of registered weights."""


class BranchNetwork(nn.Module):
    """Image → feature map, B×channels×h×w at any stride.

    Attributes:
        adapted: name of the module inside that gets adapters.
        sees_view: whether it needs the early forensic view.
    """

    adapted: ClassVar[str]
    sees_view: bool = False

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the feature map."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, view: Tensor | None = None) -> Tensor:
        """From the image, B×3×H×W float32 in [0, 1], noise, B×`Branch.noise_shape`, and the view if it `sees_view`."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The repeated blocks: what is compiled, and computed twice to save memory."""

    def stages(self, x: Tensor, noise: Tensor) -> dict[str, Callable[[], object]]:
        """Parts of the forward pass whose cost is counted, by name; empty: it is counted as a whole."""
        return {}

    def add_adapters(self, spec: LoraSpec, targets: tuple[str, ...], *, empty: bool = False) -> None:
        """Freeze it and put LoRA on the targets, in place; `empty` leaves the adapters on the meta device."""
        lora.freeze(self)
        lora.inject(self.get_submodule(self.adapted), spec, targets, empty=empty)

    def keep_less(self) -> None:
        """Gradient checkpointing, in place."""
        for block in self.blocks():
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def place_constants(self, device: str | None = None) -> None:
        """Compute the buffers that are not saved; again where it was built on the meta device."""

    def examine(self, preset: Preset, places: Mapping[str, Path]) -> tuple[Files, list[str]]:
        """The files of each part, and each of their tensors that is missing, unexpected or of another shape.

        Args:
            preset: what they should be.
            places: under the branch's name its file or folder; under the name of a part one that was chosen for it.

        Raises:
            BasesError: damaged, or of another model altogether.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretrained weights")

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        """Put registered weights in `dtype`, and constants in `rest`, into this network, which is on the meta device.

        Raises:
            BasesError: a file is damaged or does not fit, or a value in it does not fit the number format.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretrained weights")
