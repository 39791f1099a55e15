"""The training objective: per-pixel binary cross-entropy and Dice (clue-method, equations 4 to 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Equation 4: mean binary cross-entropy over all pixels. Both B×1×H×W; target in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, target)


def dice_loss(logits: Tensor, target: Tensor, epsilon: float = 1.0) -> Tensor:
    """Equation 5: 1 - (2·Σ p·g + ε) / (Σ p + Σ g + ε), the sums over all pixels in the batch."""
    p = torch.sigmoid(logits)
    return 1 - (2 * (p * target).sum() + epsilon) / (p.sum() + target.sum() + epsilon)


def clue_loss(logits: Tensor, target: Tensor, bce_weight: float, dice_weight: float) -> Tensor:
    """Equation 6: λ1·L_bce + λ2·L_dice."""
    return bce_weight * bce_loss(logits, target) + dice_weight * dice_loss(logits, target)
