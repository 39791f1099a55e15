"""From a preset and the options to a network that is ready to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.bases import find_base, needs_bases, with_bases
from model.checkpoint import CheckpointError, inspect
from model.clue import CLUE, adapt, build
from model.presets import Preset
from model.storage import load
from model.training.options import TrainingOptions


def with_options(preset: Preset, options: TrainingOptions) -> Preset:
    """The preset with the noise and the adaptation that the options ask for."""
    noise = dataclasses.replace(
        preset.noise,
        schedule=options.noise or preset.noise.schedule,
        shift=options.shift or preset.noise.shift,
        levels=options.levels or preset.noise.levels,
    )
    return dataclasses.replace(
        preset,
        noise=noise,
        adapt_sd3=options.adapt_sd3 or preset.adapt_sd3,
        adapt_sam=options.adapt_sam or preset.adapt_sam,
    )


def prepare_network(preset: Preset, options: TrainingOptions, init: str | None = None) -> CLUE:
    """The network on the CPU, in training mode.

    Its first weights are those of a checkpoint; or, for a preset that stands on weights of others, these, with new
    ones in fusion and localization; or new ones.

    Args:
        preset: with the options applied (`with_options`).
        options: of the training.
        init: a model of the package or a folder, whose weights are the first ones.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another preset; the message says what differs.
        BasesError: the weights of others are not registered, damaged, or do not fit.
    """
    torch.manual_seed(options.seed)
    if init is None and needs_bases(preset):
        model = with_bases(preset, find_base(preset), "cpu", torch.float32, options.branches)
    else:
        model = build(preset, "cpu", options.branches)
    if init is not None:
        _load_weights(model, init, keep_head=not options.fresh_head)
    adapt(model, preset.adapt_sd3, preset.adapt_sam)
    if options.gradient_checkpointing:
        keep_less(model)
    return model.to(memory_format=torch.channels_last).train()


def _load_weights(model: CLUE, init: str, *, keep_head: bool) -> None:
    source = inspect(init)
    theirs = load(source, "cpu", torch.float32).state_dict()
    ours = model.state_dict()
    if not keep_head:
        ours = {name: tensor for name, tensor in ours.items() if not name.startswith(("fusion.", "localization."))}
    wrong = sorted(name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape)
    if wrong:
        differ = differences(source.preset.to_dict(), model.preset.to_dict())
        told = "; ".join(differ) if differ else f"its {wrong[0]} is missing or of another shape"
        raise CheckpointError(f"{source.folder} is a checkpoint of another preset, {source.preset.name}: {told}")
    model.load_state_dict({name: theirs[name] for name in ours}, strict=keep_head)


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """What differs between two trees of JSON values, one sentence each: `sam.depth is 3 there, 2 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(there.keys() | here.keys()):
            found += differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if there == here else [f"{path} is {there} there, {here} here"]


def keep_less(model: CLUE) -> None:
    """Gradient checkpointing in the blocks of both branches, in place: computed twice, not kept in between."""
    if model.sd3 is not None:
        model.sd3.transformer.gradient_checkpointing = True
    if model.sam is not None:
        for block in cast(nn.ModuleList, model.sam.encoder.blocks):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What learns, for AdamW: weights of linear and convolutional layers decay; norms, biases, positions do not."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in _learning(model):
        (matrices if name.endswith("weight") and parameter.ndim > 1 else rest).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(parameters that learn, all parameters)."""
    return sum(p.numel() for _, p in _learning(model)), sum(p.numel() for p in model.parameters())


def _learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)
