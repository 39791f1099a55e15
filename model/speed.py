"""What makes a network faster without changing what it computes, and what it costs: compiled blocks, counted work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.branches.network import BranchNetwork
from model.branches.sam_attention import restore_attention
from model.clue import CLUE, build
from model.device import require_compiler
from model.presets import Preset

Compile = Literal["blocks", "graphs"]


def compile_network(model: CLUE, how: Compile) -> CLUE:
    """Compile a network, in place. Every new shape of tile is compiled anew, which takes a minute or more.

    Args:
        model: in evaluation mode, on its device.
        how: `blocks` as in `compile_blocks`; `graphs` is the whole of it in one piece, replayed on a GPU as one CUDA
            graph: slower to compile, and nothing is launched kernel by kernel.

    Raises:
        CompilerMissing: there is no C++ compiler.
    """
    require_compiler()
    if how == "blocks":
        return compile_blocks(model, dynamic=False)
    model.compile(mode="reduce-overhead", dynamic=False)
    return model


def compile_blocks(model: CLUE, **options: Any) -> CLUE:
    """torch.compile for the repeated blocks of every branch, in place; the first tiles are slow.

    Blocks and not the whole: equal blocks share one compilation.

    Args:
        model: in evaluation mode, on its device.
        options: of torch.compile, such as `mode` or `backend`.
    """
    for block in (block for network in model.networks.values() for block in network.blocks()):
        block.compile(**options)
    return model


def flops(preset: Preset, height: int, width: int) -> dict[str, int]:
    """What one image costs by part, multiply and add as two, counted on the meta device: nothing is computed.

    SAM is counted with segment_anything's own attention: what ours widens (`model.branches.sam_attention`) is no work
    done.

    The early view keeps its full precision by a switch that the meta device does not have: presets that have one are
    counted on the CPU.

    Args:
        preset: which network.
        height, width: of the image in pixels, multiples of `preset.tile.multiple`.

    Returns:
        By branch, or its stages: `vae`, `mmdit` (all noise levels), `sam`; `head` and `total`.
    """
    device = "cpu" if preset.view.channels else "meta"
    model = build(preset, device).eval().requires_grad_(False)
    restore_attention(model)
    x = torch.zeros(1, 3, height, width, device=device)
    noise = torch.zeros(1, *model.latent_shape(height, width), device=device)
    with torch.inference_mode(), FlopCounterMode(display=False) as whole:
        model(x, noise)
    counts = {}
    for name, run in stages(model, x, noise).items():
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            run()
        counts[name] = counter.get_total_flops()
    total = whole.get_total_flops()
    return counts | {"head": total - sum(counts.values()), "total": total}


def stages(model: CLUE, x: Tensor, noise: Tensor) -> dict[str, Callable[[], object]]:
    """The forward pass before the fusion, stage by stage: a function for each branch, or for each stage of it."""
    found: dict[str, Callable[[], object]] = {}
    for name, network in model.networks.items():
        found |= network.stages(x, noise) or {name: partial(_alone, model, network, x, noise)}
    return found


def _alone(model: CLUE, network: BranchNetwork, x: Tensor, noise: Tensor) -> Tensor:
    features: Tensor = network(x, noise, model.view(x) if model.view is not None and network.sees_view else None)
    return features
