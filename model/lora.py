"""Low-rank adaptation: peft's LoRA where the paper puts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from model.presets.spec import LoraSpec

ADAPTER = "clue"
SAM_TARGETS = ("qkv.q", "qkv.k", "qkv.v")


class FusedQKV(nn.Module):
    """SAM's fused `qkv` projection seen as three linear layers, so that LoRA on q, k and v has its own rank for each.

    Computes exactly what the fused layer computes: the three weights are its thirds.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        inputs, width = fused.in_features, fused.out_features // 3
        device, dtype = fused.weight.device, fused.weight.dtype
        parts = [nn.Linear(inputs, width, fused.bias is not None, device=device, dtype=dtype) for _ in range(3)]
        with torch.no_grad():
            for index, part in enumerate(parts):
                rows = slice(index * width, (index + 1) * width)
                part.weight.copy_(fused.weight[rows])
                if fused.bias is not None:
                    part.bias.copy_(fused.bias[rows])
        self.q, self.k, self.v = parts

    def forward(self, x: Tensor) -> Tensor:
        """x: …×C → …×3C, in the order q, k, v."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)


def adapt_sd3(transformer: nn.Module, spec: LoraSpec) -> None:
    """Freeze the MM-DiT and put LoRA on its joint-attention projections, in place."""
    _inject(transformer, spec, list(spec.sd3_targets))


def adapt_sam(encoder: nn.Module, spec: LoraSpec) -> None:
    """Freeze SAM's image encoder and put LoRA on q, k and v of every attention block, in place."""
    for block in cast(nn.ModuleList, encoder.blocks):
        attention = cast(nn.Module, block.attn)
        attention.qkv = FusedQKV(cast(nn.Linear, attention.qkv))
    _inject(encoder, spec, list(SAM_TARGETS))


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same model without adapters: W + (alpha / rank)·B·A, and q, k, v fused again.

    The model itself is left as it is. Tensors without an adapter are its own, not copies.
    """
    state: dict[str, Tensor] = dict(model.state_dict())
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):  # a layer of peft
            weight = state.pop(f"{name}.base_layer.weight")
            state[f"{name}.weight"] = weight + module.get_delta_weight(ADAPTER).to(weight)
            if f"{name}.base_layer.bias" in state:
                state[f"{name}.bias"] = state.pop(f"{name}.base_layer.bias")
            for key in [key for key in state if key.startswith(f"{name}.lora_")]:
                del state[key]
    for name, module in model.named_modules():
        if isinstance(module, FusedQKV):
            for part in ("weight", "bias"):
                thirds = [state.pop(f"{name}.{letter}.{part}", None) for letter in "qkv"]
                if all(third is not None for third in thirds):
                    state[f"{name}.{part}"] = torch.cat(cast(list[Tensor], thirds))
    return state


def freeze(module: nn.Module) -> None:
    """No gradient for any parameter of the module."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _inject(module: nn.Module, spec: LoraSpec, targets: list[str]) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and a scan with mini has no adapters

    freeze(module)
    config = LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=targets, bias="none"
    )
    with _shown_in_float32(module):
        inject_adapter_in_model(config, module, adapter_name=ADAPTER)


@contextmanager
def _shown_in_float32(module: nn.Module) -> Iterator[None]:
    """Weights in half the precision look like float32 inside the block, and cost nothing more.

    peft makes adapters in float32, but rounds their first values to the number format of the weight they adapt.
    """
    held = [(p, p.data) for p in module.parameters() if p.dtype in (torch.bfloat16, torch.float16)]
    for parameter, weight in held:
        parameter.data = torch.zeros((), device=weight.device).expand(weight.shape)
    try:
        yield
    finally:
        for parameter, weight in held:
            parameter.data = weight
