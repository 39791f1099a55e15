"""What makes a network faster without changing what it computes, and what it costs: compiled blocks, counted work."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.clue import CLUE, build
from model.device import require_compiler
from model.presets import Preset
from model.rectified_flow import noise_levels
from model.sam_attention import restore_attention

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
    """torch.compile for the repeated blocks of both branches and the VAE's encoder, in place; the first tiles are slow.

    Blocks and not the whole: equal blocks share one compilation.

    Args:
        model: in evaluation mode, on its device.
        options: of torch.compile, such as `mode` or `backend`.
    """
    parts: list[nn.Module] = []
    if model.sd3 is not None:
        parts += [model.sd3.vae.encoder, *model.sd3.transformer.transformer_blocks]
    if model.sam is not None:
        parts += list(model.sam.encoder.blocks)
    for part in parts:
        part.compile(**options)
    return model


def flops(preset: Preset, height: int, width: int) -> dict[str, int]:
    """What one image costs by part, multiply and add as two, counted on the meta device: nothing is computed.

    SAM is counted with segment_anything's own attention: what ours widens (`model.sam_attention`) is no work done.

    The early view keeps its full precision by a switch that the meta device does not have: presets that have one are
    counted on the CPU.

    Args:
        preset: which network.
        height, width: of the image in pixels, multiples of `preset.tile.multiple`.

    Returns:
        `vae`, `mmdit` (all noise levels), `sam`, `head` and `total`.
    """
    device = "cpu" if preset.view.channels else "meta"
    model = build(preset, device).eval().requires_grad_(False)
    if model.sam is not None:
        restore_attention(model.sam.encoder)
    x = torch.zeros(1, 3, height, width, device=device)
    noise = torch.zeros(1, *model.latent_shape(height, width), device=device)
    with torch.inference_mode(), FlopCounterMode(display=False) as whole:
        model(x, noise)
    counts = {"vae": 0, "mmdit": 0, "sam": 0}
    with torch.inference_mode():
        if model.sd3 is not None:
            with FlopCounterMode(display=False) as vae:
                latent = model.sd3.encode(x)
            levels = len(noise_levels(preset.noise))
            with FlopCounterMode(display=False) as mmdit:
                model.sd3.tokens(latent.expand(levels, -1, -1, -1), torch.zeros(levels, device=device))
            counts |= {"vae": vae.get_total_flops(), "mmdit": mmdit.get_total_flops()}
        if model.sam is not None:
            with FlopCounterMode(display=False) as sam:
                model.sam(model.view(x) if model.view is not None else x)
            counts["sam"] = sam.get_total_flops()
    total = whole.get_total_flops()
    return counts | {"head": total - sum(counts.values()), "total": total}
