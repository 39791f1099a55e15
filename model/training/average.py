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
        start_share: share of the model's weights of now in what `applied` gives it.
    """

    def __init__(self, model: nn.Module, decay: float, start_share: float = 0.0) -> None:
        self.decay, self.start_share = decay, start_share
        learned = {name: p for name, p in model.named_parameters() if p.requires_grad} if decay else {}
        self._start = {name: p.detach().clone() for name, p in learned.items()} if start_share else {}
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
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            average = self.tensors[name]
            parameter.data = average.lerp(self._start[name], self.start_share) if self._start else average
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over averages that were saved."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
