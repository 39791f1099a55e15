"""The objective against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch

from model.losses import bce_loss, clue_loss, dice_loss

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
    combined = clue_loss(LOGITS, TARGET, 0.3, 0.7)
    assert float(combined) == pytest.approx(
        0.3 * float(bce_loss(LOGITS, TARGET)) + 0.7 * float(dice_loss(LOGITS, TARGET))
    )
