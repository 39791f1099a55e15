"""Feature Fusion Module: a projection with GroupNorm per branch, concatenate, conv → GroupNorm → SiLU → conv."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.presets.spec import HeadSpec


def projection(inputs: int, spec: HeadSpec) -> nn.Sequential:
    """1×1 convolution and GroupNorm: B×inputs×h×w → B×channels×h×w."""
    return nn.Sequential(nn.Conv2d(inputs, spec.channels, 1), nn.GroupNorm(spec.groups, spec.channels))


class FeatureFusion(nn.Module):
    """F_sd3, F_sam → fused map, B×channels×H/stride×W/stride. A branch may be absent (ablation)."""

    def __init__(self, spec: HeadSpec, sd3_channels: int | None, sam_channels: int | None) -> None:
        super().__init__()
        if sd3_channels is None and sam_channels is None:
            raise ValueError("at least one branch is needed")
        self.sd3 = projection(sd3_channels, spec) if sd3_channels else None
        self.sam = projection(sam_channels, spec) if sam_channels else None
        width = spec.channels * ((self.sd3 is not None) + (self.sam is not None))
        self.mix = nn.Sequential(
            nn.Conv2d(width, spec.channels, 3, padding=1),
            nn.GroupNorm(spec.groups, spec.channels),
            nn.SiLU(),
            nn.Conv2d(spec.channels, spec.channels, 3, padding=1),
        )

    def forward(self, f_sd3: Tensor | None, f_sam: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Feature maps of any stride, brought to `size` cells (rows, columns) by bilinear interpolation."""
        projected = []
        for features, project in ((f_sd3, self.sd3), (f_sam, self.sam)):
            if project is not None and features is not None:
                projected.append(_to_size(project(features), size))
        fused: Tensor = self.mix(torch.cat(projected, 1))
        return fused


def _to_size(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
