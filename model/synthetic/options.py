"""The options of `clue train --task synthetic`; `recipes/synthetic.yaml` in `model.training` says what each is."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from model.data.making import Share, Strict

WITHOUT_EFFECT = frozenset({"workers", "save_every", "device", "calibration_samples"})
"""Options that may change when a training is resumed: the losses stay the same (on one kind of device)."""

Count = Annotated[int, Field(ge=1, le=10**9)]


class SyntheticOptions(Strict):
    """Options of a training; `model.training.options.read_synthetic_options` makes them."""

    kind: Literal["bi-lora", "vision"]
    base: Annotated[str, Field(min_length=1, max_length=4096)] | None
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None
    steps: Count | None
    batch: Annotated[int, Field(ge=2, le=10**5, multiple_of=2)]
    accumulate: Annotated[int, Field(ge=1, le=10**5)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    adapt: Literal["lora", "svd"]
    rank: Annotated[int, Field(ge=1, le=4096)]
    alpha: Annotated[float, Field(gt=0, le=1e4)]
    targets: Annotated[tuple[str, ...], Field(max_length=64)] | None
    crop: Annotated[int, Field(ge=32, le=4096)] | None
    optimizer: Literal["adam", "adamw"]
    lr: Annotated[float, Field(gt=0, le=10)]
    schedule: Literal["constant", "cosine"]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    clip: Annotated[float, Field(gt=0, le=1e6)] | None
    precision: Literal["no", "bf16"]
    laundered: Literal["generated", "left_out"]
    validate_every: Count
    validation_samples: Annotated[int, Field(ge=2, le=10**7)]
    calibration_samples: Annotated[int, Field(ge=0, le=10**7)]
    save_every: Count
    device: Literal["auto", "cpu"]
    workers: Annotated[int, Field(ge=0, le=1024)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without what has no effect on the result."""
        return self.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))

    def length(self, pictures: int) -> int:
        """Optimizer steps, for this number of pictures in an epoch."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((self.epochs or 0) * pictures / (self.batch * self.accumulate)))
