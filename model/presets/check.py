"""Whether the values of a preset make sense: each has its type and range, and they fit together.

A preset may come from a person's YAML file or from the description of a model somebody sent: what is wrong is named
by its key before anything is built.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from model.presets.spec import Preset

LARGEST = 1 << 16
"""Of any size, count or index: beyond what any of these networks has, and within what can be counted in seconds."""

MOST_BLOCKS = 1024
"""Of layers: they are built one by one."""

_ZERO_ALLOWED = {"view.channels", "tile.overlap", "lora.dropout", "vae.shift_factor", "noise.levels"}
_ZERO_ALLOWED |= {"regions.weaker", "edges.radius"}
_INDEXES = {"transformer.feature_blocks", "transformer.dual_attention_layers", "sam.global_attn_indexes"}
_MAY_BE_EMPTY = _INDEXES - {"transformer.feature_blocks"} | {"noise.levels", "view.steps"}


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON or YAML value is of the type that an attribute is declared with."""
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    if hint is float:  # compared and not converted: a whole number can be too large for a float
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint is types.NoneType else isinstance(value, hint)


def brief(value: Any) -> str:
    """A value of a file for a message, in 80 characters at most."""
    try:
        return str(value)[:80]
    except ValueError:  # a whole number that Python does not write out
        return "thousands of digits"


def in_words(hint: Any) -> str:
    """What a type expects, for a message."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(options)
    if origin in (Union, types.UnionType):
        return " or ".join(map(in_words, options))
    if origin is tuple:
        return f"a list, each item {in_words(options[0])}"
    known = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", types.NoneType: "nothing"}
    return known.get(hint, "a mapping")


def check(preset: Preset) -> None:
    """Check the ranges of a preset whose types are right.

    Raises:
        ValueError: naming the key, its value, and what was expected.
    """
    if not (0 < len(preset.name) <= 100 and preset.name.isprintable()):
        raise ValueError(f"preset.name is {preset.name[:120]!r}; expected 1 to 100 printable characters")
    for key, value in _leaves(preset, ""):
        low: float = 0 if key in _ZERO_ALLOWED | _INDEXES else 1
        items = value if isinstance(value, tuple) else (value,)
        if not items and key not in _MAY_BE_EMPTY:
            raise ValueError(f"preset.{key} is empty; expected at least one value")
        for item in items:
            if isinstance(item, int | float) and not isinstance(item, bool):
                above = isinstance(item, int) or key in _ZERO_ALLOWED
                if not ((item >= low if above else item > 0) and item <= LARGEST):
                    expected = f"{low} or more" if above else "above 0"
                    raise ValueError(f"preset.{key} is {brief(item)}; expected {expected}, at most {LARGEST}")
    for key, wrong, expected in _misfits(preset):
        value = preset
        for part in key.split("."):
            value = getattr(value, part)
        if wrong:
            raise ValueError(f"preset.{key} is {_shown(value)}; expected {expected}")


def _leaves(spec: Any, path: str) -> Iterator[tuple[str, Any]]:
    for field in fields(spec):
        value, key = getattr(spec, field.name), f"{path}.{field.name}" if path else field.name
        if is_dataclass(value):
            yield from _leaves(value, key)
        elif isinstance(value, Mapping):
            for name, item in value.items():
                yield from _leaves(item, f"{key}.{name}")
        else:
            yield key, value


def _misfits(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    """(key, whether it is wrong, what was expected), in an order in which a later one may rely on the earlier."""
    from model.branches import BRANCHES, branches_of  # which is made of this package

    names, head, tile = preset.backbones, preset.head, preset.tile
    known = set(names) <= set(BRANCHES) and len(set(names)) == len(names)
    yield "backbones", not known, f"names of branches, each once: {', '.join(BRANCHES)}"
    without = [name for name in names if name not in preset.specs and not hasattr(preset, f"adapt_{name}")]
    yield "backbones", bool(without), f"a mapping specs.{next(iter(without), '')} with its sizes"
    branches = branches_of(preset)
    for branch in branches:
        yield from branch.misfits(preset)
    noises = {shape for branch in branches if (shape := branch.noise_shape(preset, tile.multiple, tile.multiple))}
    yield "backbones", len(noises) > 1, "branches that need noise of the same shape"
    yield "view.frequencies", preset.view.frequencies > 63, "at most 63: so many AC frequencies has a block"
    yield "view.channels", preset.view.channels % 8 != 0, "a multiple of 8"
    yield "edges.radius", preset.edges.radius > 64, "at most 64"
    yield "noise.levels", preset.noise.schedule != "none" and not preset.noise.levels, "at least one level"
    yield "noise.levels", any(t > 1 for t in preset.noise.levels), "levels from 0 to 1"
    yield "lora.dropout", preset.lora.dropout >= 1, "below 1"
    yield "head.channels", head.channels % head.groups != 0, f"a multiple of groups, {head.groups}"
    yield "head.channels", head.channels < 2, "at least 2"
    cells = math.lcm(head.stride, *(branch.cell(preset) for branch in branches))
    yield "tile.multiple", tile.multiple % cells != 0, f"a multiple of {cells}, the cells of the networks in pixels"
    yield "tile.size", tile.size % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", tile.overlap % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", 2 * tile.overlap > tile.size, f"at most half of tile.size, {tile.size}"
    most = min((side for branch in branches if (side := branch.largest(preset)) is not None), default=LARGEST)
    yield "tile.size", tile.size > most, f"at most {most}, which the positional embeddings reach"


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
