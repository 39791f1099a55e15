"""A CLUE small enough to build in milliseconds, with every part of the real ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.clue import CLUE, build
from model.presets.mini import MINI
from model.presets.spec import Preset, TileSpec

TINY = dataclasses.replace(
    MINI,
    name="tiny",
    vae=dataclasses.replace(MINI.vae, block_out_channels=(8, 16)),
    transformer=dataclasses.replace(MINI.transformer, num_layers=2, num_attention_heads=2, feature_blocks=(0, 1)),
    sam=dataclasses.replace(MINI.sam, embed_dim=32, depth=2, num_heads=2, out_chans=16),
    view=dataclasses.replace(MINI.view, channels=16),
    head=dataclasses.replace(MINI.head, channels=16),
    tile=TileSpec(size=128, overlap=32, multiple=16),
)


@pytest.fixture(scope="session")
def tiny() -> Preset:
    return TINY


@pytest.fixture
def network(tiny: Preset) -> CLUE:
    """Random weights, the same every time."""
    torch.manual_seed(0)
    return build(tiny).eval()
