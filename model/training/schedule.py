"""What changes during a training by a rule of its own: the learning rate, the weights of the losses, the average.

The paper (clue-method, equation 6) says that the weights of BCE and Dice are "adjusted during training by validation
performance" and not how; the rule is ours. BCE counts every pixel alike, so that with small regions it is content to
mark nothing; Dice counts the overlap, so that it is content to mark generously. Hence, after each validation, with
precision and recall of the marked pixels over all validation pictures (marks on authentic ones cost precision):

    share of Dice  d = λ2 / (λ1 + λ2)
    logit(d) ← logit(d) + rate · clip(ln(precision / recall), -1, 1)      then d is kept within [0.1, 0.9]

If recall lags, Dice gains; if precision lags, BCE gains; λ1 + λ2 stays what it was. A weight that starts at 0 stays 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FLOOR = 0.01
"""Share of the highest rate at which a training starts and ends."""


def learning_rate(highest: float, progress: float, warmup: float) -> float:
    """The learning rate at one point of the training.

    A function of the progress alone: it has no state that a resumed training could lose, and works over steps and
    over the clock.

    Args:
        highest: the rate at the end of the warm-up.
        progress: share of the training that is done, 0 to 1.
        warmup: share of the training over which the rate rises from FLOOR.
    """
    if progress < warmup:
        return highest * (FLOOR + (1 - FLOOR) * progress / warmup)
    falling = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return highest * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * falling)))


LEAST, MOST = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class LossWeights:
    """λ1 (BCE) and λ2 (Dice)."""

    bce: float
    dice: float

    def after(self, precision: float, recall: float, rate: float) -> LossWeights:
        """The weights after a validation.

        Args:
            precision, recall: of the marked pixels, above 0 (`model.training.validation` smooths them), to 1.
            rate: how far one validation can move logit(d); 0: not at all.
        """
        if rate == 0 or self.bce == 0 or self.dice == 0:
            return self
        total = self.bce + self.dice
        moved = math.log(self.dice / self.bce) + rate * min(max(math.log(precision / recall), -1.0), 1.0)
        share = 1 / (1 + math.exp(-moved))
        start = self.dice / total
        share = min(max(share, min(LEAST, start)), max(MOST, start))
        return LossWeights(total * (1 - share), total * share)


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
        if self.tensors:  # one launch on a GPU for all of them
            torch._foreach_lerp_(list(self.tensors.values()), list(self._parameters.values()), 1 - keep)

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
