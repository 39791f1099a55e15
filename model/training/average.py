"""An exponential moving average of the weights: what is validated and kept is smoother than what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARMUP = 20
"""In steps: the first averages must not remember the first, random weights."""


class Average:
    """The average of every parameter that learns; the others have no other average than themselves.

    Args:
        model: the network, before its first step.
        decay: share of the old average that stays at each step; 0: no average, `applied` changes nothing.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        learned = {name: p for name, p in model.named_parameters() if p.requires_grad} if decay else {}
        self._parameters = learned
        self.tensors: dict[str, Tensor] = {name: p.detach().clone() for name, p in learned.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, counted from 1."""
        keep = min(self.decay, step / (step + WARMUP))
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter, 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again afterwards, to the bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over averages that were saved."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self.tensors[name] = self.tensors[name], parameter.data
