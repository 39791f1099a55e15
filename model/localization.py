"""Localization Module: conv → ReLU → conv to one channel → logits, bilinear to the size of the image (equation 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Localization(nn.Module):
    """Fused map B×C×h×w → logits B×1×H×W, float32; sigmoid(logits) is the mask probability M."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1), nn.ReLU(), nn.Conv2d(channels // 2, 1, 1)
        )

    def forward(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        """`size` is (H, W) of the image in pixels, a fixed multiple of the fused map's."""
        return F.interpolate(self.head(fused).float(), size=size, mode="bilinear", align_corners=False)
