"""Whether the values of a preset make sense: each has its type and range, and they fit together.

A preset may come from a person's YAML file or from the description of a model somebody sent: what is wrong is named
by its key before anything is built.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
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
        else:
            yield key, value


def _misfits(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    """(key, whether it is wrong, what was expected), in an order in which a later one may rely on the earlier."""
    vae, mmdit, sam, head, tile = preset.vae, preset.transformer, preset.sam, preset.head, preset.tile
    groups = [channels % vae.norm_num_groups for channels in vae.block_out_channels]
    yield "vae.block_out_channels", any(groups), f"multiples of norm_num_groups, {vae.norm_num_groups}"
    yield "vae.block_out_channels", len(groups) > 8, "at most 8 blocks"
    yield "vae.pixel_unshuffle", vae.pixel_unshuffle > 64, "at most 64"
    for key, count in (
        ("vae.layers_per_block", vae.layers_per_block),
        ("transformer.num_layers", mmdit.num_layers),
        ("sam.depth", sam.depth),
    ):
        yield key, count > MOST_BLOCKS, f"at most {MOST_BLOCKS}"
    last = mmdit.num_layers - 1
    taps = mmdit.feature_blocks
    yield "transformer.feature_blocks", list(taps) != sorted(set(taps)) or taps[-1] > last, f"rising, 0 to {last}"
    dual = mmdit.dual_attention_layers
    yield "transformer.dual_attention_layers", any(layer > last for layer in dual), f"blocks from 0 to {last}"
    yield "transformer.qk_norm", mmdit.qk_norm not in (None, "rms_norm"), "nothing or rms_norm"
    yield "transformer.attention_head_dim", mmdit.width % 4 != 0, "num_attention_heads times this a multiple of 4"
    yield "transformer.attention_head_dim", mmdit.width > LARGEST, f"num_attention_heads times this at most {LARGEST}"
    yield "sam.num_heads", sam.embed_dim % sam.num_heads != 0, f"a divisor of embed_dim, {sam.embed_dim}"
    last = sam.depth - 1
    yield "sam.global_attn_indexes", any(i > last for i in sam.global_attn_indexes), f"blocks from 0 to {last}"
    yield "sam.patch_size", sam.img_size % sam.patch_size != 0, f"a divisor of img_size, {sam.img_size}"
    yield "view.frequencies", preset.view.frequencies > 63, "at most 63: so many AC frequencies has a block"
    yield "view.channels", preset.view.channels % 8 != 0, "a multiple of 8"
    yield "view.channels", sam.input == "view" and not preset.view.channels, "above 0, as sam.input is view"
    yield "edges.radius", preset.edges.radius > 64, "at most 64"
    yield "noise.levels", preset.noise.schedule != "none" and not preset.noise.levels, "at least one level"
    yield "noise.levels", any(t > 1 for t in preset.noise.levels), "levels from 0 to 1"
    yield "lora.dropout", preset.lora.dropout >= 1, "below 1"
    yield "head.channels", head.channels % head.groups != 0, f"a multiple of groups, {head.groups}"
    yield "head.channels", head.channels < 2, "at least 2"
    cells = math.lcm(vae.stride * mmdit.patch_size, head.stride, 8 if sam.input == "view" else sam.patch_size)
    yield "tile.multiple", tile.multiple % cells != 0, f"a multiple of {cells}, the cells of the networks in pixels"
    yield "tile.size", tile.size % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", tile.overlap % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", 2 * tile.overlap > tile.size, f"at most half of tile.size, {tile.size}"
    most = mmdit.pos_embed_max_size * vae.stride * mmdit.patch_size
    if sam.use_abs_pos:
        most = min(most, sam.img_size * (8 if sam.input == "view" else 1))
    yield "tile.size", tile.size > most, f"at most {most}, which the positional embeddings reach"


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
