"""The options of a training, and the recipes that hold their values.

A recipe is a YAML file for one task: its key `task` names it, `localization` where it is left out.
`recipes/default.yaml` says what every option of the localization is, and its value, `recipes/synthetic.yaml` those of
the second question; other recipes, `--set` and the command line change some of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from model.config import ConfigError, ConfigFile, Place, check, dotted, read_yaml
from model.data.making import Finish, Making, Share, Strict
from model.preset import Adapt, NoiseSchedule
from model.synthetic.options import SyntheticOptions
from model.training.errors import OptionsError

Task = Literal["localization", "synthetic"]
RECIPES = Path(__file__).with_name("recipes")
DEFAULT = "default"
DEFAULTS: dict[Task, str] = {"localization": DEFAULT, "synthetic": "synthetic"}
"""The recipe of each task that holds the values which another recipe leaves out."""
Options = TypeVar("Options", bound=Strict)
WITHOUT_EFFECT = frozenset(
    {"workers", "save_every", "device", "calibration_samples", "finish", "checkpoint_keeps", "checkpoint_share"}
)
"""Options that may change when a training is resumed: the losses stay the same (on one kind of device)."""
NEWER = frozenset({"start_share", "record", "without_matches", "made", "queries", "compile"})
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
    checkpoint_keeps: Literal["nothing", "attention"]
    checkpoint_share: Share
    compile: bool
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
    """The options of a training of the localization.

    Args:
        recipe: name of a recipe in the package, or a YAML file.
        changes: `key=value`, each of one option; parts of nested options are `key.part=value`.
        dry_run: the length may be missing, and is one step then.
        typed: options from the command line, which count more than both. Only one length counts: that which is typed.

    Raises:
        ConfigError: an option is wrong; names it, where it comes from, its value, and what is allowed.
        OptionsError: there is no such recipe, it is of another task, or options do not go together.
    """
    options = _read(TrainingOptions, "localization", recipe, changes, ("steps", "minutes"), typed, dry_run)
    if problem := _misfit(options):
        raise OptionsError(f"{problem}.")
    return options


def read_synthetic_options(
    recipe: str = DEFAULTS["synthetic"], changes: Sequence[str] = (), **typed: Any
) -> SyntheticOptions:
    """The options of a training of the second question; arguments and errors as of `read_options`."""
    options = _read(SyntheticOptions, "synthetic", recipe, changes, ("steps", "epochs"), typed, False)
    if (options.steps is None) == (options.epochs is None):
        raise OptionsError("Exactly one of steps and epochs says how long to train.")
    if options.base is None:
        raise OptionsError("There is no base model to adapt.", "Give --base: its registered name, or its folder.")
    return options


def _read(
    kind: type[Options],
    task: Task,
    recipe: str,
    changes: Sequence[str],
    lengths: tuple[str, str],
    typed: dict[str, Any],
    dry_run: bool,
) -> Options:
    values: dict[str, Any] = dict(_read_recipe(DEFAULTS[task], task).value)
    origins: dict[str, Callable[[Place], str]] = {}
    if recipe != DEFAULTS[task]:
        file = _read_recipe(recipe, task)
        values = _merged(values, _one_length(file.value, lengths))
        origins |= dict.fromkeys(file.value, lambda place: file.where(*place))
    values.pop("task", None)
    changed: dict[str, Any] = {}
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
        changed = _merged(changed, {key: nested})
    values = _merged(values, _one_length(changed, lengths))
    if set(lengths) & typed.keys():
        values |= dict.fromkeys(lengths)
    elif dry_run and all(values[key] in (None, "null") for key in lengths):
        values["steps"] = 1
    origins |= dict.fromkeys(typed, lambda place: "--" + str(place[0]).replace("_", "-"))

    def where(place: Place) -> str:
        return origins.get(str(place[0]), dotted)(place) if place else "The recipe"

    return check(kind, values | typed, where)


def _one_length(values: dict[str, Any], lengths: tuple[str, str]) -> dict[str, Any]:
    """The same values; if they give one of two lengths, the other one counts no more."""
    given = [key for key in lengths if values.get(key) not in (None, "null")]
    return dict.fromkeys(lengths) | values if len(given) == 1 else values


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


def _read_recipe(name: str, task: Task) -> ConfigFile:
    """A recipe, read; each single value is text or None.

    Raises:
        OptionsError: there is none, or it is of another task.
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
    its = file.value.get("task", "localization")
    if its not in DEFAULTS:
        raise ConfigError(file.where("task"), f"found `{its}`", " or ".join(DEFAULTS))
    if its != task:
        raise OptionsError(
            f"The recipe {name} is for --task {its}, not for {task}.", f"Give --task {its}, or a recipe for {task}."
        )
    return file


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
