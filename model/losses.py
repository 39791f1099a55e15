"""The training objective: per-pixel binary cross-entropy and Dice (clue-method, equations 4 to 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AUTHENTIC_SHARE, AUTHENTIC_WEIGHT = 0.05, 0.5
"""Of an authentic image's pixels: where so much is marked, `dice_loss_per_image` is half of what it can be; and the
most that it can be there."""


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Equation 4: mean binary cross-entropy over all pixels. Both B×1×H×W; target in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, target)


def dice_loss(logits: Tensor, target: Tensor, epsilon: float = 1.0) -> Tensor:
    """Equation 5: 1 - (2·Σ p·g + ε) / (Σ p + Σ g + ε), the sums over all pixels in the batch."""
    p = torch.sigmoid(logits)
    return 1 - (2 * (p * target).sum() + epsilon) / (p.sum() + target.sum() + epsilon)


def dice_loss_per_image(
    logits: Tensor, target: Tensor, epsilon: float = 1.0, authentic_share: float = AUTHENTIC_SHARE
) -> Tensor:
    """The mean over the images of each one's own Dice; not the paper's.

    With sums over the batch a region of a hundred pixels beside one of a hundred thousand weighs next to nothing; here
    all images weigh alike. Dice says little of an authentic image: with ε = 1 it is near 1 whether ten pixels are
    marked or all of them. There the loss is w·(1 - e / (Σ p + e)), e = `authentic_share` of the pixels and w =
    AUTHENTIC_WEIGHT, which rises with the marked area.

    Args:
        logits, target: B×1×H×W; an image whose target is 0 everywhere is authentic.
        epsilon: as in equation 5.
        authentic_share: of the pixels, above 0.
    """
    p, g = torch.sigmoid(logits).flatten(1), target.flatten(1)
    marked, forged = p.sum(1), g.sum(1)
    dice = 1 - (2 * (p * g).sum(1) + epsilon) / (marked + forged + epsilon)
    allowed = authentic_share * g.shape[1]
    authentic = AUTHENTIC_WEIGHT * (1 - allowed / (marked + allowed))
    return torch.where(forged > 0, dice, authentic).mean()


DICE = {"batch": dice_loss, "image": dice_loss_per_image}
"""Dice losses by what their sums are over."""


def clue_loss(
    logits: Tensor, target: Tensor, bce_weight: float | Tensor, dice_weight: float | Tensor, dice: str = "batch"
) -> tuple[Tensor, Tensor, Tensor]:
    """Equation 6: λ1·L_bce + λ2·L_dice, and its two terms L_bce and L_dice.

    Args:
        logits, target: B×1×H×W.
        bce_weight, dice_weight: λ1 and λ2.
        dice: a key of `DICE`.
    """
    terms = bce_loss(logits, target), DICE[dice](logits, target)
    return bce_weight * terms[0] + dice_weight * terms[1], *terms
