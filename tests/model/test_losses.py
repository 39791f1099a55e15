"""The objective against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch

from model.losses import bce_loss, clue_loss, dice_loss, dice_loss_per_image

LOGITS = torch.tensor([[[[0.0, math.log(3.0)]]]])  # p = 0.5, 0.75
TARGET = torch.tensor([[[[0.0, 1.0]]]])


def test_bce() -> None:
    assert float(bce_loss(LOGITS, TARGET)) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)


def test_dice_sums_over_the_whole_batch() -> None:
    expected = 1 - (2 * 0.75 + 1) / (1.25 + 1 + 1)
    assert float(dice_loss(LOGITS, TARGET)) == pytest.approx(expected)
    twice = dice_loss(torch.cat([LOGITS, LOGITS]), torch.cat([TARGET, TARGET]))
    assert float(twice) == pytest.approx(1 - (2 * 1.5 + 1) / (2.5 + 2 + 1))


def test_dice_of_nothing_found_where_nothing_is() -> None:
    assert float(dice_loss(torch.full((1, 1, 4, 4), -20.0), torch.zeros(1, 1, 4, 4))) == pytest.approx(0, abs=1e-4)


def test_weights() -> None:
    combined, *terms = clue_loss(LOGITS, TARGET, 0.3, 0.7)
    assert terms == [bce_loss(LOGITS, TARGET), dice_loss(LOGITS, TARGET)]
    assert float(combined) == pytest.approx(
        0.3 * float(bce_loss(LOGITS, TARGET)) + 0.7 * float(dice_loss(LOGITS, TARGET))
    )


def test_dice_per_image_against_the_sums_by_hand() -> None:
    """One small region, one large one: each weighs a third; one authentic picture: half of that."""
    torch.manual_seed(0)
    logits, target = torch.randn(3, 1, 10, 20), torch.zeros(3, 1, 10, 20)
    target[0, 0, 2, 3], target[1, 0, :, 4:] = 1, 1
    expected = []
    for p, g in zip(torch.sigmoid(logits).double(), target.double(), strict=True):
        marked, forged, both = float(p.sum()), float(g.sum()), float((p * g).sum())
        allowed = 0.05 * 200
        authentic = 0.5 * (1 - allowed / (marked + allowed))
        expected.append(1 - (2 * both + 1) / (marked + forged + 1) if forged else authentic)
    assert float(dice_loss_per_image(logits, target)) == pytest.approx(sum(expected) / 3, abs=1e-6)
    whole, *_ = clue_loss(logits, target, 0.4, 1.0, "image")
    assert float(whole) == pytest.approx(0.4 * float(bce_loss(logits, target)) + sum(expected) / 3, abs=1e-6)


@pytest.mark.parametrize(("marked", "loss"), [(0, 0.0), (5, 0.25), (15, 0.375), (100, 0.5 * (1 - 5 / 105))])
def test_an_authentic_image_costs_what_is_marked_on_it(marked: int, loss: float) -> None:
    logits = torch.full((1, 1, 10, 10), -100.0)
    logits.view(-1)[:marked] = 100.0
    assert float(dice_loss_per_image(logits, torch.zeros_like(logits))) == pytest.approx(loss, abs=1e-6)


def test_dice_per_image_has_a_gradient_where_nothing_is_marked() -> None:
    logits = torch.full((2, 1, 4, 4), -30.0, requires_grad=True)
    target = torch.zeros(2, 1, 4, 4)
    target[0, 0, 0, 0] = 1
    dice_loss_per_image(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
