"""Linear layers in float8: weights, and each row of what comes in, rounded to float8_e4m3fn with a scale of its own.

The layers of the transformer blocks of MM-DiT and SAM, except those of the modulation, which have one row a sample.
Norms, attention, the VAE, fusion and head stay in bfloat16. It is what torchao calls dynamic activations and float8
weights by row, with the same product of torch's, for GPUs of compute capability 8.9; sums are in float32 throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from model.clue import CLUE

FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FLOAT8).max
_MULTIPLE = 16
"""Of inputs and outputs, which the product asks for."""


def weights_format(dtype: torch.dtype) -> torch.dtype:
    """The number format of what is not rounded to float8 or int8 (`model.int8`); any other format is itself."""
    return {FLOAT8: torch.bfloat16, torch.int8: torch.float32}.get(dtype, dtype)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """x ≈ values · scale; the largest number of each row becomes the largest of float8.

    Args:
        x: …×n.

    Returns:
        …×n in float8, and …×1 float32.
    """
    scale = (x.detach().abs().amax(-1, keepdim=True).float() / _LARGEST).clamp_min(1e-12)
    return (x.float() / scale).clamp(-_LARGEST, _LARGEST).to(FLOAT8), scale


class Float8Linear(nn.Module):
    """A linear layer for inference: …×in → …×out, in the number format of its input.

    On a GPU the input is bfloat16. On the CPU the same rounded numbers are multiplied in float32, which takes longer
    than the layer itself: to measure what is lost.

    Args:
        layer: the layer it takes the place of.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight, scale = rounded(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.T.contiguous())
        bias: Tensor | None = layer.bias
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        rows, scale = rounded(x.reshape(-1, self.in_features))
        if x.device.type == "cuda":
            y = torch._scaled_mm(rows, self.weight.T, scale, self.scale, bias=self.bias, out_dtype=x.dtype)
        else:
            y = (rows.float() @ self.weight.float().T * scale * self.scale).to(x.dtype)
            y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)


def use_float8(model: CLUE) -> int:
    """Put float8 layers in the place of linear ones, in place; returns how many.

    Args:
        model: without adapters, on its device.
    """
    count = 0
    for network in model.networks.values():
        adapted = getattr(network, network.adapted)
        repeated = {module for block in network.blocks() for module in block.modules()}
        for name, layer in list(adapted.named_modules()):
            fits = type(layer) is nn.Linear and not (layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE)
            if fits and layer in repeated and "norm" not in name:
                adapted.set_submodule(name, Float8Linear(layer))
                count += 1
    return count
