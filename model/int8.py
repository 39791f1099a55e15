"""Linear layers and convolutions in 8-bit integers on a CPU: three or more products in the time of one in float32.

Of the transformer blocks the linear layers, except those of the modulation, and the convolutions but those of the early
view, in which half a grey level counts, the first layer on it, the fusion's last one, behind which a marked region is
dropped or kept, and the one to a single channel. Weights are rounded for each output channel, what comes in for each
tile by its own range, so that nothing depends on what else is in a batch; pixels are bytes already. Norms and attention
stay in float32. The products are oneDNN's, by the names that torch's compiler calls; their sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from model.rectified_flow import noise_levels

if TYPE_CHECKING:
    from model.clue import CLUE

ROWS = 64
"""Rows of a sample below which a product in float32 takes no longer, the rounding included."""
CHANNELS = 32
"""The same of a convolution."""


INT8 = "int8"
"""The attribute of a module whose products `model.branches.inference.product` computes here: `levels` of `product`."""


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


def rounded(x: Tensor) -> tuple[Tensor, float, int]:
    """x ≈ (values - zero)·scale, with one scale for all of it: uint8 values, scale and zero. x is contiguous."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 254, 1e-12)  # not 255: zero is rounded, too
    # Up from a little less than one half: what float32 loses would take the lowest number below -128, and so to 127.
    zero = math.floor(-low / scale + 0.501) if math.isfinite(scale) else 0  # not finite: so is what comes of it
    return _bytes(x, 1 / scale, zero), scale, zero


AT_ONCE = 1 << 20
"""Numbers that are rounded at a time: they stay in the processor's cache meanwhile."""


def _bytes(x: Tensor, factor: float, zero: float) -> Tensor:
    """x·factor + zero, which lies between 0 and 255, to the nearest. x is contiguous."""
    if x.numel() > AT_ONCE:
        return torch.cat([_bytes(part, factor, zero) for part in torch.split(x.view(-1), AT_ONCE)]).view(x.shape)
    values = torch.add(torch.scalar_tensor(zero - 128.0), x, alpha=factor).round_()
    return values.to(torch.int8).view(torch.uint8).bitwise_xor_(128)  # torch writes int8 six times as fast as uint8


def product(x: Tensor, weight: Rounded, bias: Tensor | None, gelu: str | None = None, levels: int = 1) -> Tensor:
    """x·Wᵀ + b, and the activation: B×…×in → B×…×out, float32.

    Args:
        x: each sample has a range of its own.
        weight: of `packed_linear`.
        bias: out.
        gelu: the activation, as `approximate` of torch's.
        levels: into how many parts x falls that have one sample of each tile: the samples of a tile share a range.
    """
    multiply, none = torch.ops.onednn.qlinear_pointwise, list[float]()

    def one(sample: Tensor) -> Tensor:
        values = rounded(sample.contiguous())
        made: Tensor = multiply(
            *values, *weight, bias, 1.0, 0, torch.float32, "gelu" if gelu else "none", none, gelu or ""
        )
        return made

    if levels == 1:
        return _each(one, x)
    tiles = x.reshape(levels, -1, *x.shape[1:]).transpose(0, 1)
    return _each(one, tiles).transpose(0, 1).flatten(0, 1)


def _each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x) if len(x) == 1 else torch.cat([function(sample[None]) for sample in x])


class Int8Conv2d(nn.Conv2d):
    """The convolution for inference, of rounded numbers; parameters and their names are the same.

    Of pixels, from -1 to 1 in steps of 2/255, the numbers are the bytes again, and exact; that zero is half a step off,
    the bias makes good, but where the map ends. The high-pass residual that comes with them lies from -1 to 1 as well,
    and is rounded to the same steps: one of exactly 0 counts as 1/255. A zero of its own gained nothing on 59 pictures.
    """

    packed: Rounded
    of_pixels: bool
    offset: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """B×C×H×W → B×out×H'×W', float32, channels-last."""
        convolve, place = torch.ops.onednn.qconv2d_pointwise, _place(self)

        def one(sample: Tensor) -> Tensor:
            sample = sample.permute(0, 2, 3, 1).contiguous()
            values, *affine = (_bytes(sample, 127.5, 127.5), 2 / 255, 128) if self.of_pixels else rounded(sample)
            given = values.permute(0, 3, 1, 2), *affine, *self.packed, self.offset
            made: Tensor = convolve(*given, *place, 1.0, 0, torch.float32, "none", [], "")
            return made

        return _each(one, x)


def _place(layer: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    assert not isinstance(layer.padding, str)
    return [*layer.stride], [*layer.padding], [*layer.dilation], layer.groups


def _with_integers(layer: nn.Conv2d, of_pixels: bool = False) -> None:
    weight, bias = rounded_weight(layer.weight), layer.bias
    if of_pixels:
        half = weight.values.flatten(1).sum(1) * weight.scale / 255
        bias = half if bias is None else bias.detach() + half
    packed = torch.ops.onednn.qconv_prepack(weight.values, weight.scale, 1.0, 0, *_place(layer), None)
    layer.__class__ = Int8Conv2d
    layer.__dict__.update(packed=weight._replace(values=packed), of_pixels=of_pixels, offset=bias)


def use_int8(model: CLUE) -> int:
    """Let a network compute in integers, in place; returns how many convolutions do.

    Args:
        model: without adapters, in float32, on the CPU.
    """
    from model.branches.sd3_transformer import JointTransformerBlock

    levels = len(noise_levels(model.preset.noise))
    for block in (block for network in model.networks.values() for block in network.blocks()):
        for module in block.modules():
            module.__dict__[INT8] = levels if isinstance(block, JointTransformerBlock) else 1
    convolutions = {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) is nn.Conv2d and layer.in_channels >= CHANNELS
        if not name.startswith("view.") and not name.endswith("patch_embed.proj") and layer is not model.fusion.mix[-1]
    }
    for layer in convolutions.values():
        layer.__dict__[INT8] = 1
    spatial = {name: layer for name, layer in convolutions.items() if layer.kernel_size == (3, 3)}
    for name, layer in spatial.items():
        _with_integers(layer, of_pixels=name.endswith("vae.encoder.conv_in"))
    return len(spatial)


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
