"""Feature Fusion Module: a projection with GroupNorm per branch, concatenate, conv → GroupNorm → SiLU → conv."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.presets.spec import HeadSpec


def projection(inputs: int, spec: HeadSpec) -> nn.Sequential:
    """1×1 convolution and GroupNorm: B×inputs×h×w → B×channels×h×w."""
    return nn.Sequential(nn.Conv2d(inputs, spec.channels, 1), nn.GroupNorm(spec.groups, spec.channels))


class FeatureFusion(nn.Module):
    """Feature maps of the branches → fused map, B×channels×H/stride×W/stride.

    Args:
        spec: widths.
        inputs: channels of each branch's feature map, by its name.
    """

    def __init__(self, spec: HeadSpec, inputs: Mapping[str, int]) -> None:
        super().__init__()
        if not inputs:
            raise ValueError("at least one branch is needed")
        for name, channels in inputs.items():
            self.add_module(name, projection(channels, spec))
        width = spec.channels * len(inputs)
        self.mix = nn.Sequential(
            nn.Conv2d(width, spec.channels, 3, padding=1),
            nn.GroupNorm(spec.groups, spec.channels),
            nn.SiLU(),
            nn.Conv2d(spec.channels, spec.channels, 3, padding=1),
        )

    def forward(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps of any stride, brought to `size` cells (rows, columns) by bilinear interpolation."""
        projected = [_to_size(self.get_submodule(name)(found), size) for name, found in features.items()]
        fused: Tensor = self.mix(torch.cat(projected, 1))
        return fused


def _to_size(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
