"""The tiny model, as a preset and as a network."""

from __future__ import annotations

import pytest
import torch

from model.clue import CLUE, build
from model.preset import Preset
from tests.tiny_model import TINY


@pytest.fixture(scope="session")
def tiny() -> Preset:
    return TINY


@pytest.fixture
def network(tiny: Preset) -> CLUE:
    """Random weights, the same every time."""
    torch.manual_seed(0)
    return build(tiny).eval()
