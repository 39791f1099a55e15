"""The options of a training, and the recipes that hold their values.

A recipe is a YAML file. `recipes/default.yaml` says what every option is, and its value; other recipes, `--set` and the
command line change some of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from model.config import ConfigError, ConfigFile, Place, check, dotted, read_yaml
from model.data.making import Finish, Making, Share, Strict
from model.preset import Adapt, NoiseSchedule
from model.training.errors import OptionsError

RECIPES = Path(__file__).with_name("recipes")
DEFAULT = "default"
WITHOUT_EFFECT = frozenset({"workers", "save_every", "device", "calibration_samples", "finish"})
"""Options that may change when a training is resumed: the losses stay the same (on one kind of device)."""
NEWER = frozenset({"start_share", "record", "without_matches", "made", "queries"})
"""Options that version 0.1.0 did not have."""

Weight = Annotated[float, Field(ge=0, le=1e3)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Few = Annotated[int, Field(ge=1, le=10**5)]


class TrainingOptions(Strict):
    """Options of a training; `recipes/default.yaml` says what each is. `read_options` makes them."""

    steps: Count | None
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None
    batch: Few
    accumulate: Few
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    adapt_sd3: Adapt | None
    adapt_sam: Adapt | None
    branches: Literal["both", "sd3", "sam"]
    noise: NoiseSchedule | None
    shift: Annotated[float, Field(gt=0, le=1e3)] | None
    levels: Annotated[tuple[Share, ...], Field(min_length=1, max_length=64)] | None  # the transformer runs for each
    fresh_head: bool
    gradient_checkpointing: bool
    lr: Annotated[float, Field(gt=0, le=10)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup: Share
    clip: Annotated[float, Field(gt=0, le=1e6)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    start_share: Share
    record: bool
    precision: Literal["no", "bf16", "fp16"]
    bce_weight: Weight
    dice_weight: Weight
    dice: Literal["batch", "image"]
    weights_rate: Annotated[float, Field(ge=0, le=10)]
    without_matches: Share
    queries: Share
    made: Making | None
    finish: Finish | None
    validate_every: Count
    validation_samples: Annotated[int, Field(ge=1, le=10**7)]
    calibration_samples: Annotated[int, Field(ge=0, le=10**7)]
    save_every: Count
    device: Literal["auto", "cpu"]
    workers: Annotated[int, Field(ge=0, le=1024)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without what has no effect on the result, and without newer options that are off."""
        off = {name for name in NEWER if not getattr(self, name)}
        return self.model_dump(mode="json", exclude={*WITHOUT_EFFECT, *off})

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training is behind `step` steps and `seconds`, 0 to 1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(seconds / (60 * (self.minutes or math.inf)), 1.0)


def read_options(
    recipe: str = DEFAULT, changes: Sequence[str] = (), *, dry_run: bool = False, **typed: Any
) -> TrainingOptions:
    """The options of a training.

    Args:
        recipe: name of a recipe in the package, or a YAML file.
        changes: `key=value`, each of one option; parts of nested options are `key.part=value`.
        dry_run: the length may be missing, and is one step then.
        typed: options from the command line, which count more than both. Only one length counts: that which is typed.

    Raises:
        ConfigError: an option is wrong; names it, where it comes from, its value, and what is allowed.
        OptionsError: there is no such recipe, or options do not go together.
    """
    values: dict[str, Any] = _read_recipe(DEFAULT).value
    origins: dict[str, Callable[[Place], str]] = {}
    if recipe != DEFAULT:
        file = _read_recipe(recipe)
        values = _merged(values, file.value)
        origins |= dict.fromkeys(file.value, lambda place: file.where(*place))
    for change in changes:
        path, equals, value = change.partition("=")
        if not (equals and path.strip() and value.strip()):
            raise OptionsError(
                f"--set {change} has no {'value' if path.strip() else 'key'}.",
                "Write --set key=value, such as --set lr=1e-4.",
            )
        key, *rest = path.strip().split(".")
        origins[key] = lambda place: f"--set {dotted(place)}"
        nested: Any = value.strip()
        for part in reversed(rest):
            nested = {part: nested}
        values = _merged(values, {key: nested})
    if {"steps", "minutes"} & typed.keys():
        values |= {"steps": None, "minutes": None}
    elif dry_run and all(values[key] in (None, "null") for key in ("steps", "minutes")):
        values["steps"] = 1
    origins |= dict.fromkeys(typed, lambda place: "--" + str(place[0]).replace("_", "-"))

    def where(place: Place) -> str:
        return origins.get(str(place[0]), dotted)(place) if place else "The recipe"

    options = check(TrainingOptions, values | typed, where)
    if problem := _misfit(options):
        raise OptionsError(f"{problem}.")
    return options


def _misfit(options: TrainingOptions) -> str:
    """Which options do not go together; empty: all do."""
    if (options.steps is None) == (options.minutes is None):
        return "Exactly one of --steps and --minutes says how long to train"
    if options.start_share and not options.ema:
        return "start_share is of the average of the weights, and ema is 0: there is none"
    if options.queries and (options.made is not None or options.branches == "sam"):
        what = "made pictures have" if options.made is not None else "branches is sam, which has"
        return f"queries is {options.queries:g}, and {what} no text encoders or texts for them"
    if options.finish is not None and options.made is None:
        return "finish needs made, which says what pictures are made of"
    if not options.bce_weight + options.dice_weight > 0:
        return "bce_weight and dice_weight are both 0; at least one must be larger"
    return ""


def _read_recipe(name: str) -> ConfigFile:
    """A recipe, read; each single value is text or None.

    Raises:
        OptionsError: there is none.
        ConfigError: it is not YAML with keys, or has a key twice.
    """
    own = RECIPES / f"{name}.yaml"
    path = own if own.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.yaml")))
        raise OptionsError(f"There is no recipe {name}.", f"Recipes: {known}, or a YAML file.")
    file = read_yaml(path)
    if not isinstance(file.value, dict):
        raise ConfigError(str(path), "no mapping", "keys such as lr, with a value each")
    return file


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
