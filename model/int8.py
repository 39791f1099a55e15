"""Linear layers and convolutions in 8-bit integers on a CPU: three or more products in the time of one in float32.

Of the transformer blocks the linear layers, except those of the modulation, and 3×3 convolutions but those of the early
view, in which half a grey level counts, and the last two, behind which a marked region is dropped or kept. Weights are
rounded for each output channel, what comes in for each sample by its own range, so that nothing depends on what else is
in a batch. Norms, attention and 1×1 convolutions stay in float32. The products are oneDNN's, by the names that torch's
compiler calls; their sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from model.clue import CLUE

ROWS = 64
"""Rows of a sample below which a product in float32 takes no longer, the rounding included."""
CHANNELS = 32
"""The same of a convolution."""


INT8 = "int8"
"""The attribute of a module whose products `model.branches.inference.product` computes here."""


class Rounded(NamedTuple):
    """Weights: values·scale, out×… in int8 as oneDNN packs them, out float32, and out zeros in int32."""

    values: Tensor
    scale: Tensor
    zero: Tensor


def rounded_weight(weight: Tensor) -> Rounded:
    """The weight with a scale for each output channel, not packed. weight: out×…, float32."""
    scale = (weight.detach().abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
    values = (weight.detach() / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
    return Rounded(values, scale, torch.zeros(len(weight), dtype=torch.int32))


def packed_linear(weight: Tensor) -> Rounded:
    """The weight of a linear layer, out×in, for `product`."""
    made = rounded_weight(weight)
    return made._replace(values=torch.ops.onednn.qlinear_prepack(made.values, None))


AT_ONCE = 1 << 18
"""Numbers that are rounded at a time: they stay in the processor's cache meanwhile."""


def rounded(x: Tensor) -> tuple[Tensor, float, int]:
    """x ≈ (values - zero)·scale, with one scale for all of it: uint8 values, scale and zero. x is contiguous."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 254, 1e-12)  # not 255: zero is rounded, too
    # Up from a little less than one half: what float32 loses would take the lowest number below -128, and so to 127.
    zero = math.floor(-low / scale + 0.501) if math.isfinite(scale) else 0  # not finite: so is what comes of it
    shift = torch.tensor(zero - 128.0)
    parts = [  # by way of int8, which torch writes six times as fast as uint8
        torch.add(shift, part, alpha=1 / scale).round_().to(torch.int8) for part in torch.split(x.view(-1), AT_ONCE)
    ]
    values = parts[0] if len(parts) == 1 else torch.cat(parts)
    return values.view(torch.uint8).bitwise_xor_(128).view(x.shape), scale, zero


def product(x: Tensor, weight: Rounded, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """x·Wᵀ + b, and the activation: B×…×in → B×…×out, float32; `gelu` as `approximate` of torch's."""
    multiply, none = torch.ops.onednn.qlinear_pointwise, list[float]()

    def one(sample: Tensor) -> Tensor:
        values = rounded(sample.contiguous())
        made: Tensor = multiply(
            *values, *weight, bias, 1.0, 0, torch.float32, "gelu" if gelu else "none", none, gelu or ""
        )
        return made

    return _each(one, x)


def _each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x) if len(x) == 1 else torch.cat([function(sample[None]) for sample in x])


class Int8Conv2d(nn.Conv2d):
    """The convolution for inference, of rounded numbers; parameters and their names are the same."""

    packed: Rounded

    def forward(self, x: Tensor) -> Tensor:
        """B×C×H×W → B×out×H'×W', float32, channels-last."""
        convolve, place = torch.ops.onednn.qconv2d_pointwise, _place(self)

        def one(sample: Tensor) -> Tensor:
            values, *affine = rounded(sample.permute(0, 2, 3, 1).contiguous())
            given = values.permute(0, 3, 1, 2), *affine, *self.packed, self.bias
            made: Tensor = convolve(*given, *place, 1.0, 0, torch.float32, "none", [], "")
            return made

        return _each(one, x)


def _place(layer: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    assert not isinstance(layer.padding, str)
    return [*layer.stride], [*layer.padding], [*layer.dilation], layer.groups


def _with_integers(layer: nn.Conv2d) -> None:
    weight = rounded_weight(layer.weight)
    packed = torch.ops.onednn.qconv_prepack(weight.values, weight.scale, 1.0, 0, *_place(layer), None)
    layer.__class__ = Int8Conv2d
    layer.__dict__["packed"] = weight._replace(values=packed)


def use_int8(model: CLUE) -> int:
    """Let a network compute in integers, in place; returns how many convolutions do.

    Args:
        model: without adapters, in float32, on the CPU.
    """
    for block in (block for network in model.networks.values() for block in network.blocks()):
        for module in block.modules():
            module.__dict__[INT8] = True
    exact: set[object] = {*model.localization.modules(), model.fusion.mix[-1]}
    exact |= set() if model.view is None else {*model.view.modules()}
    convolutions = [
        layer
        for layer in model.modules()
        if type(layer) is nn.Conv2d and layer not in exact
        if layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.in_channels >= CHANNELS
    ]
    for layer in convolutions:
        _with_integers(layer)
    return len(convolutions)


@lru_cache
def works() -> bool:
    """Whether torch has these names here and their results are right.

    Without instructions of their own the sums of two products are cut off at 16 bits, which the largest numbers show.
    """
    conv = nn.Conv2d(64, 64, 3, bias=False, device="meta").to_empty(device="cpu")  # draws no random numbers
    with torch.inference_mode():
        conv.weight.fill_(1)
        ones = torch.ones(1, 64, 3, 3)
        try:
            _with_integers(conv)
            made = product(ones.flatten(2).mT, packed_linear(conv.weight[..., 0, 0]), None)
            return bool((made - 64).abs().max() < 1 and (conv(ones) - 576).abs().max() < 1)
        except (RuntimeError, AttributeError, NotImplementedError):
            return False
