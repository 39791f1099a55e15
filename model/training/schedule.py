"""The learning rate: a linear warm-up and a half cosine (Loshchilov and Hutter 2017), of nothing but the progress."""

from __future__ import annotations

import math

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
