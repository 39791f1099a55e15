"""Builds the network to train from a preset and the options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.branches import BRANCHES, from_scratch
from model.branches.network import BranchNetwork, adapters_in
from model.branches.recomputation import Keeps
from model.checkpoint import Checkpoint, CheckpointError, inspect
from model.clue import CLUE, adapt, build
from model.device import CompilerMissing, compile_blocks, require_compiler
from model.preset import Preset
from model.registry import find
from model.storage import find_base, load, load_learned, with_bases
from model.training.errors import OptionsError
from model.training.options import TrainingOptions


def with_options(preset: Preset, options: TrainingOptions) -> Preset:
    """The preset with the noise and the adaptation that the options ask for."""
    noise = dataclasses.replace(
        preset.noise,
        schedule=options.noise or preset.noise.schedule,
        shift=options.shift or preset.noise.shift,
        levels=options.levels or preset.noise.levels,
    )
    asked = {f"adapt_{name}": getattr(options, f"adapt_{name}", None) for name in preset.backbones}
    adapt: dict[str, Any] = {key: how for key, how in asked.items() if how is not None}
    return dataclasses.replace(preset, noise=noise, **adapt)


def frozen_format(options: TrainingOptions, device: torch.device) -> torch.dtype:
    """The number format of base weights that do not learn: bfloat16 on a GPU that computes in it, else float32."""
    return torch.bfloat16 if options.precision == "bf16" and device.type == "cuda" else torch.float32


def prepare_network(
    preset: Preset, options: TrainingOptions, init: str | None = None, frozen: torch.dtype = torch.float32
) -> CLUE:
    """The network on the CPU, in training mode.

    Its initial weights are those of a checkpoint; or, for a preset with base weights, these, with random ones in fusion
    and localization; or random ones. Adapters of a checkpoint stay adapters where the preset has the same; else they
    are merged, and the result is a whole model.

    Args:
        preset: with the options applied (`with_options`).
        options: of the training.
        init: a model of the package or a folder, whose weights are the first ones.
        frozen: number format of base weights of which nothing is stored (`frozen_format`).

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another preset; the message says what differs.
        BasesError: the base weights are not registered, damaged, or do not fit.
    """
    torch.manual_seed(options.seed)
    source = inspect(init) if init is not None else None
    adapters = source if source is not None and _same_adapters(source, preset) else None
    if adapters is not None or (source is None and not from_scratch(preset)):
        base = find(adapters.base) if adapters is not None else find_base(preset)
        held = torch.float32 if "full" in map(preset.adapt, preset.backbones) else frozen
        model = with_bases(preset, base, "cpu", held, options.branches, rest=torch.float32)
    else:
        model = build(preset, "cpu", options.branches)
        if source is not None:
            _load_weights(model, source, keep_head=not options.fresh_head)
    adapt(model)
    if adapters is not None:
        _load_adapters(model, adapters, keep_head=not options.fresh_head)
    run_as_held(model)
    if options.gradient_checkpointing:
        keep_less(model, options.checkpoint_keeps, options.checkpoint_share)
    return model.to(memory_format=torch.channels_last).train()


def hold_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights that do not learn in a number format, in place; what learns stays as it is.

    For a network that is there already: `prepare_network` loads registered base weights so from the start.

    In bfloat16 they take half the memory, and autocast would round them at each use; norms are rounded with them, as
    they are where the network is run in bfloat16.
    """
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    run_as_held(model)


def run_as_held(model: nn.Module) -> None:
    """Compute around frozen weights in bfloat16 as inference does, in place; for a network that autocast runs.

    Autocast would compute each norm in float32, and peft would turn the input of each adapter into float32 for autocast
    to turn it back: at 1024² three copies of every block's activations more, some of them kept for the backward pass.
    Networks without such weights stay as they are.
    """
    for branch in (one for one in model.children() if isinstance(one, BranchNetwork)):
        held = {parameter.dtype for parameter in branch.parameters() if not parameter.requires_grad}
        if held != {torch.bfloat16}:
            continue
        for part in branch.modules():
            if isinstance(part, nn.LayerNorm) and not any(p.requires_grad for p in part.parameters()):
                part.__dict__["forward"] = partial(_without_autocast, part.forward, torch.bfloat16)
            if hasattr(part, "cast_input_dtype_enabled"):
                part.__dict__["cast_input_dtype_enabled"] = False


def _without_autocast(forward: Callable[[Tensor], Tensor], dtype: torch.dtype, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.to(dtype))


def stored_weights(model: CLUE) -> dict[str, Tensor]:
    """The weights that a resumed training needs: with base weights those that learn, else all."""
    weights: dict[str, Tensor] = model.state_dict()
    if not model.kept_as_adapters:
        return weights
    return {name: weights[name] for name in {name: None for name, _ in _learning(model)} | adapters_in(model)}


def _same_adapters(source: Checkpoint, preset: Preset) -> bool:
    """Whether a checkpoint holds adapters, and the preset asks for such."""
    if not source.base or from_scratch(preset) or "full" in map(preset.adapt, preset.backbones):
        return False
    there, here = (
        {
            name: (how := one.adapt(name), set(BRANCHES[name].lora_targets(one)))
            + ((one.svd.rank,) if how == "svd" else (one.lora.rank, one.lora.alpha))
            for name in one.backbones
        }
        for one in (source.preset, preset)
    )
    return there == here


_SAME_PRESET = "--init needs a model of the same preset."


def _load_adapters(model: CLUE, source: Checkpoint, *, keep_head: bool) -> None:
    try:
        load_learned(model, source, keep_head=keep_head)
    except CheckpointError as error:
        differ = differences(source.preset.to_dict(), model.preset.to_dict())
        raise CheckpointError(f"{error}: {'; '.join(differ)}" if differ else str(error), _SAME_PRESET) from error


def _load_weights(model: CLUE, source: Checkpoint, *, keep_head: bool) -> None:
    theirs = load(source, "cpu", torch.float32).state_dict()
    ours = model.state_dict()
    if not keep_head:
        ours = {name: tensor for name, tensor in ours.items() if not name.startswith(("fusion.", "localization."))}
    wrong = sorted(name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape)
    if wrong:
        differ = differences(source.preset.to_dict(), model.preset.to_dict())
        how = "; ".join(differ) if differ else f"its {wrong[0]} is missing or of another shape"
        other = f"{source.folder} is a checkpoint of another preset, {source.preset.name}: {how}"
        raise CheckpointError(other, _SAME_PRESET)
    model.load_state_dict({name: theirs[name] for name in ours}, strict=keep_head)


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """What differs between two trees of JSON values, one sentence each: `sam.depth is 3 there, 2 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(there.keys() | here.keys()):
            found += differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if there == here else [f"{path} is {there} there, {here} here"]


def keep_less(model: CLUE, keeps: Keeps = "attention", share: float = 1.0) -> None:
    """Gradient checkpointing in the blocks of every branch, in place: computed twice, not kept in between.

    Args:
        model: the network.
        keeps: what is kept of a block all the same (`model.branches.recomputation`).
        share: of the blocks of each branch.
    """
    for network in model.networks.values():
        network.keep_less(keeps, share)


SHAPES = 64
"""Compilations of one piece of code, before it runs as it is: blocks of two kinds, sizes of batches, with and without
gradients."""


def compile_parts(model: CLUE) -> None:
    """torch.compile for what a training computes in many small steps, in place: blocks, early view and fusion.

    Each is compiled when it first runs; a second size of picture makes sizes variable. After `keep_less`, whose
    computing again is then compiled with the block.

    Raises:
        OptionsError: there is no C++ compiler.
    """
    try:
        require_compiler()
    except CompilerMissing as error:
        raise OptionsError(f"compile is true, and {error}.", "Set compile to false, or CXX to a compiler.") from error
    compile_blocks(model)
    for part in (model.view, model.fusion):
        if part is not None:
            part.compile()


@contextmanager
def compiling(options: TrainingOptions) -> Iterator[None]:
    """Inside the block, what cannot be compiled runs as it is, with a warning of torch's."""
    if not options.compile:
        yield
        return
    import torch._dynamo  # seconds

    with torch._dynamo.config.patch(suppress_errors=True, recompile_limit=SHAPES):
        yield


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What learns, for AdamW: weights of linear and convolutional layers decay; norms, biases, positions do not."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in _learning(model):
        (matrices if name.endswith("weight") and parameter.ndim > 1 else rest).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def planned(preset: Preset, options: TrainingOptions) -> CLUE:
    """The network that would be trained, on the meta device: which parameters learn, without any weights.

    Args:
        preset: with the options applied (`with_options`).
        options: of the training.
    """
    model = build(preset, "meta", options.branches)
    adapt(model)
    return model


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(parameters that learn, all parameters)."""
    return sum(p.numel() for _, p in _learning(model)), sum(p.numel() for p in model.parameters())


def _learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)
