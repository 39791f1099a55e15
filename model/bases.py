"""Base weights against a preset: check the files before they are registered, and load them into a network.

A network is built on the meta device, where it costs nothing, and each tensor takes its place there as it comes from
the file, on the device and in the dtype it is wanted in: nothing is ever held twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from model.branches import branches_of
from model.clue import CLUE, build, place_constants
from model.presets import Preset
from model.registry import Base, BasesError, find, registered


def examine(preset: Preset, places: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Find the base weights of a preset and compare every tensor's name and shape.

    Args:
        preset: what they should be.
        places: where the weights of each branch are, by its name (`BranchNetwork.examine`).

    Returns:
        The files of each part.

    Raises:
        BasesError: damaged, of another model, or incomplete; `problems` lists all that is missing, unexpected or of
            another shape.
    """
    files: dict[str, tuple[Path, ...]] = {}
    problems: list[str] = []
    for network in build(preset, "meta").networks.values():
        found, wrong = network.examine(preset, places)
        files |= found
        problems += wrong
    if problems:
        raise BasesError(f"the base weights do not fit {preset.name}", tuple(problems))
    return files


def find_base(preset: Preset) -> Base:
    """The registered base weights for a preset: those of its name, or else the first that fit.

    Raises:
        BasesError: there are none, or a file is missing or changed.
    """
    bases = registered()
    fitting = [name for name, base in bases.items() if preset.name == name or not _misfit(base.preset, preset)]
    return find(preset.name if preset.name in bases or not fitting else fitting[0])


def _misfit(base: Preset, preset: Preset) -> str | None:
    """The first part whose pretrained weights are of other sizes."""
    for branch in branches_of(preset):
        if branch.name not in base.backbones:
            return branch.name
        one, other = branch.sizes(base), branch.sizes(preset)
        for part in other:
            if one[part] != other[part]:
                return part
    return None


def with_bases(
    preset: Preset,
    base: Base,
    device: str,
    dtype: torch.dtype,
    branches: str = "both",
    rest: torch.dtype | None = None,
) -> CLUE:
    """A network with base weights, and with new, random weights where nothing is learned yet (fusion, head).

    Args:
        preset: its sizes are those of the base's preset; the rest may differ.
        base: from `model.registry.find`.
        device: where it goes.
        dtype: its number format.
        branches: as in `model.clue.build`.
        rest: number format of what is no weight of the base: its buffers (positions), the prompt's embeddings, and
            what is new; None: the same.

    Raises:
        BasesError: a file is damaged or does not fit, or a value in it does not fit the dtype.
    """
    rest = rest or dtype
    part = _misfit(base.preset, preset)
    if part is not None:
        raise BasesError(f"{preset.name} has another {part} than the base weights of {base.name}")
    for branch in branches_of(preset, branches):
        preset = branch.fitted(preset, base)
    model = build(preset, "meta", branches)
    model.base = base
    for network in model.networks.values():
        network.load(base, device, dtype, rest)
    for new in (model.view, model.fusion, model.localization):
        if new is not None:
            _initialize(new, device, rest)
    place_constants(model, device)
    return model


def _initialize(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a module from the meta device the weights that its layers begin with."""
    module.to_empty(device=device).to(dtype)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.GroupNorm | nn.Linear):
            layer.reset_parameters()
