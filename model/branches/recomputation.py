"""Gradient checkpointing of a block: what of it is kept for the backward pass, and what is computed again there."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, noop_context_fn

Keeps = Literal["nothing", "attention"]
"""Beside a block's inputs: nothing, or the outputs of its attention, a tenth of what a block keeps by itself.

The outputs of the other products are no choice: they are as large as all that a block keeps without checkpointing.
"""
_ATTENTION = [
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}").default
    for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
]


def recompute(block: nn.Module, keeps: Keeps = "nothing") -> None:
    """Have a block's `forward` computed again in the backward pass, in place; its gradients stay the same to the bit.

    A block that is compiled afterwards (`nn.Module.compile`) is compiled with this in it.

    Raises:
        ValueError: `keeps` is none of `Keeps`.
    """
    if keeps not in get_args(Keeps):
        raise ValueError(f"keeps is {keeps!r}; expected one of {', '.join(get_args(Keeps))}")
    context = noop_context_fn
    if keeps == "attention":
        context = partial(create_selective_checkpoint_contexts, _ATTENTION)
    # The state of a generator cannot be read while a CUDA graph is recorded, and is needed only where dropout draws.
    draws = any(isinstance(part, nn.Dropout) and part.p for part in block.modules())
    inner = block.forward

    def forward(*inputs: Any, **named: Any) -> Any:  # a partial of torch's function would not be compiled
        return checkpoint(inner, *inputs, use_reentrant=False, context_fn=context, preserve_rng_state=draws, **named)

    block.forward = forward


def spread(blocks: list[nn.Module], share: float) -> list[nn.Module]:
    """A share of the blocks, evenly spread."""
    return [block for index, block in enumerate(blocks) if int((index + 1) * share) > int(index * share)]
