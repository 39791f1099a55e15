"""Options of a training: everything that decides its result, and a little that does not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from model.presets.spec import Adapt, NoiseSchedule
from model.training.errors import OptionsError

Precision = Literal["no", "bf16", "fp16"]
Branches = Literal["both", "sd3", "sam"]
DiceOver = Literal["batch", "image"]

WITHOUT_EFFECT = frozenset({"workers", "save_every", "device", "calibration_samples"})
"""Options that may change when a training goes on: the losses stay the same (on one kind of device)."""

_COUNTS = {
    "steps": (1, 10**9),
    "batch": (1, 10**5),
    "accumulate": (1, 10**5),
    "validate_every": (1, 10**9),
    "save_every": (1, 10**9),
    "validation_samples": (1, 10**7),
    "calibration_samples": (0, 10**7),
    "workers": (0, 1024),
    "seed": (0, 2**63 - 1),
}
"""Least and most of each whole number: beyond is a slip of the keys, or what torch takes no seed from."""
MOST_LEVELS = 64
"""Noise levels: the transformer runs once for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """Options of a training. What the shipped `mini` was trained with, and where that differs, is in its model card.

    Attributes:
        steps, minutes: how long, in optimizer steps or in minutes by the clock; exactly one is given. Over the clock
            the learning rate follows the time, so that the training ends annealed on any machine; only over steps do
            two trainings give the same losses.
        batch: pictures in a batch, in each process; of larger shapes than the mix's smallest fewer, so that the
            pixels are no more.
        accumulate: batches whose gradients make one step. BCE and Dice are of each batch, then averaged.
        lr: highest learning rate of AdamW.
        weight_decay: on weight matrices only.
        warmup: share of the training over which the learning rate rises.
        clip: largest norm of the gradient; longer ones are shortened.
        ema: decay of the average of the weights that is validated and kept; 0: no average.
        seed: of the first weights, the samples, the noise.
        precision: `no` float32; `bf16`, `fp16` mixed. On a GPU, `bf16` also holds base weights in it that do not learn.
        device: `auto` a GPU where there is one, `cpu`.
        adapt_sd3, adapt_sam: what of each branch learns; None: as the preset says.
        noise, shift, levels: of the latent (`NoiseSpec`); None: as the preset says.
        branches: `both`, or one alone.
        fresh_head: of a model to start from, take the branches only; fusion and localization start anew. For ablations,
            whose rows differ in what the fusion joins.
        gradient_checkpointing: compute the blocks of both branches twice, and keep less.
        bce_weight, dice_weight: λ1 and λ2 at the start.
        dice: what the sums of Dice are over: the whole `batch`, as in the paper, or each `image`
            (`model.losses.dice_loss_per_image`).
        weights_rate: how fast these follow the validation (`model.training.loss_weights`); 0: not at all.
        validate_every, save_every: in steps.
        validation_samples: pictures of the validation, at least.
        calibration_samples: pictures that the score is fitted and measured on in the end, at most; 0: it is not.
        workers: processes that make batches; 0: the training process itself.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 16
    accumulate: int = 1
    lr: float = 6e-4
    weight_decay: float = 0.03
    warmup: float = 0.015
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 1
    precision: Precision = "no"
    device: Literal["auto", "cpu"] = "auto"
    adapt_sd3: Adapt | None = None
    adapt_sam: Adapt | None = None
    noise: NoiseSchedule | None = None
    shift: float | None = None
    levels: tuple[float, ...] | None = None
    branches: Branches = "both"
    fresh_head: bool = False
    gradient_checkpointing: bool = False
    bce_weight: float = 0.4
    dice_weight: float = 1.0
    dice: DiceOver = "batch"
    weights_rate: float = 0.2
    validate_every: int = 500
    save_every: int = 500
    validation_samples: int = 192
    calibration_samples: int = 400
    workers: int = 2

    def __post_init__(self) -> None:
        """Check what can be checked without the preset.

        Raises:
            OptionsError: naming the option, its value, and what was expected.
        """
        if (self.steps is None) == (self.minutes is None):
            raise OptionsError("Exactly one of --steps and --minutes says how long to train.")
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise OptionsError(f"{_option(name)} is {value}; expected at least {least}, at most {most}.")
        ranges = {"warmup": (0.0, 1.0), "ema": (0.0, 1.0), "weights_rate": (0.0, 10.0), "weight_decay": (0.0, 10.0)}
        ranges |= {"bce_weight": (0.0, 1e3), "dice_weight": (0.0, 1e3), "lr": (0.0, 10.0), "clip": (0.0, 1e6)}
        ranges |= {"minutes": (0.0, 1e6), "shift": (0.0, 1e3)}
        above_zero = {"lr", "clip", "minutes", "shift"}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and (value > low or name not in above_zero)):
                expected = f"above {low:g}" if name in above_zero else f"{low:g} or more"
                raise OptionsError(f"{_option(name)} is {value}; expected {expected}, at most {high:g}.")
        if self.ema == 1:
            raise OptionsError("--ema is 1; the average would never learn. Expected below 1.")
        if not self.bce_weight + self.dice_weight > 0:
            raise OptionsError("--bce-weight and --dice-weight are both 0; at least one must be larger.")
        if self.levels is not None and (not self.levels or not all(0 <= t <= 1 for t in self.levels)):
            raise OptionsError(f"--levels is {self.levels}; expected noise levels from 0 to 1, at least one.")
        if self.levels is not None and len(self.levels) > MOST_LEVELS:
            raise OptionsError(f"--levels has {len(self.levels)} noise levels; expected at most {MOST_LEVELS}.")
        choices = {"precision": Precision, "branches": Branches, "adapt_sd3": Adapt, "adapt_sam": Adapt}
        for name, kind in (choices | {"noise": NoiseSchedule, "dice": DiceOver}).items():
            value, known = getattr(self, name), get_args(kind)
            if value is not None and value not in known:
                raise OptionsError(f"{_option(name)} is {value!r}; expected one of {', '.join(known)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without what has no effect on the result."""
        values = {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training is behind `step` steps and `seconds`, 0 to 1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(seconds / (60 * (self.minutes or math.inf)), 1.0)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
