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
        """The feature map.

        Args:
            x: B×3×H×W in [0, 1], float32.
            noise: B×`Branch.noise_shape`.
            view: the early forensic view, for a branch that has `sees_view`.
        """

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
        """Find pretrained weights and compare them with this network's tensors.

        Args:
            preset: what they should be.
            places: files and folders by option: under the branch's name those of its weights.

        Returns:
            The files of each part, and every tensor that is missing, unexpected or of another shape.

        Raises:
            BasesError: damaged, or of another model altogether.
        """
        raise NotImplementedError

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        """Load pretrained weights into this network, which is on the meta device.

        Args:
            base: the registered files.
            device: where the tensors go.
            dtype: number format of the weights.
            rest: number format of buffers and other constants.

        Raises:
            BasesError: a file is damaged or does not fit, or a value in it does not fit the number format.
        """
        raise NotImplementedError
