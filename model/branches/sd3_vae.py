"""The encoder of SD3's autoencoder, with the names, shapes and arithmetic of diffusers.

Written after diffusers (Apache-2.0), and equal to it bit for bit: `tests/model/branches/test_sd3_vae.py`. It is here
because diffusers imports every model it has, transformers, peft and torch's compiler for this one: six seconds of
processor time at the start of each scan.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from model.preset import VaeSpec

EPS = 1e-6


class ResnetBlock2D(nn.Module):
    """B×in×h×w → B×out×h×w."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nonlinearity = nn.SiLU()
        self.conv_shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×in×h×w."""
        hidden = self.conv1(self.nonlinearity(self.norm1(x)))
        hidden = self.conv2(self.nonlinearity(self.norm2(hidden)))
        if self.conv_shortcut is not None:
            # In a training, the gradient gets the strides that distributed training expects.
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        summed: Tensor = x + hidden
        return summed


class Downsample2D(nn.Module):
    """B×C×h×w → B×C×⌊h/2⌋×⌊w/2⌋, padded at the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×C×h×w."""
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class DownEncoderBlock2D(nn.Module):
    """Residual blocks, and half the size unless it is the last block."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, *, halves: bool) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(ResnetBlock2D(a, b, groups) for a, b in pairwise(widths))
        self.downsamplers = nn.ModuleList([Downsample2D(out_channels)]) if halves else None

    def forward(self, x: Tensor) -> Tensor:
        """x: B×in×h×w."""
        for block in self.resnets:
            x = block(x)
        for block in self.downsamplers or ():
            x = block(x)
        return x


class SpatialAttention(nn.Module):
    """Attention between all cells of a map, one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.heads = 1
        self.group_norm = nn.GroupNorm(groups, channels, EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels), nn.Dropout(0.0)])

    def forward(self, x: Tensor) -> Tensor:
        """x: B×C×h×w."""
        batch, channels, height, width = x.shape
        cells = self.group_norm(x.view(batch, channels, height * width)).transpose(1, 2)  # B×h·w×C
        q, k, v = (to(cells)[:, None] for to in (self.to_q, self.to_k, self.to_v))
        attended: Tensor = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return attended.transpose(-1, -2).reshape(x.shape) + x


class UNetMidBlock2D(nn.Module):
    """A residual block, attention unless the spec does without, and a residual block."""

    def __init__(self, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        first = ResnetBlock2D(channels, channels, groups)
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList([first, ResnetBlock2D(channels, channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        """x: B×C×h×w."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        found: Tensor = self.resnets[1](x)
        return found


class Encoder(nn.Module):
    """Mean and log variance of the latent: B×C×H×W → B×2·latent×H/s×W/s, s the stride without `pixel_unshuffle`."""

    def __init__(self, spec: VaeSpec, in_channels: int) -> None:
        super().__init__()
        widths, groups = spec.block_out_channels, spec.norm_num_groups
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownEncoderBlock2D(before, width, spec.layers_per_block, groups, halves=place < len(widths) - 1)
            for place, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.mid_block = UNetMidBlock2D(widths[-1], groups, attention=spec.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[-1], 2 * spec.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×C×H×W in [-1, 1]."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        moments: Tensor = self.conv_out(self.conv_act(self.conv_norm_out(self.mid_block(x))))
        return moments


class VaeEncoder(nn.Module):
    """AutoencoderKL without its decoder."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        folded = spec.pixel_unshuffle**2
        self.encoder = Encoder(spec, 3 * folded + (folded if spec.residual else 0))
