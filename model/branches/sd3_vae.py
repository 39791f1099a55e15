"""The layers of the encoder of SD3's autoencoder, under the names of diffusers; `vae_encoder` computes with them.

They are here because diffusers imports every model it has, transformers, peft and torch's compiler for this one: six
seconds of processor time at the start of each scan.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

EPS = 1e-6


class ResnetBlock2D(nn.Module):
    """B×in×h×w → B×out×h×w."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)


class Downsample2D(nn.Module):
    """B×C×h×w → B×C×⌊h/2⌋×⌊w/2⌋, padded at the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)


class DownEncoderBlock2D(nn.Module):
    """Residual blocks, and half the size unless it is the last block."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, *, halves: bool) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(ResnetBlock2D(a, b, groups) for a, b in pairwise(widths))
        self.downsamplers = nn.ModuleList([Downsample2D(out_channels)]) if halves else None


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


class UNetMidBlock2D(nn.Module):
    """A residual block, attention unless the spec does without, and a residual block."""

    def __init__(self, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        first = ResnetBlock2D(channels, channels, groups)
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList([first, ResnetBlock2D(channels, channels, groups)])
