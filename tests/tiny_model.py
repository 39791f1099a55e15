"""A CLUE small enough to build in milliseconds, with every part of the real ones, and a folder that holds one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from model.calibration import Calibration
from model.clue import build
from model.preset import TileSpec
from model.presets.mini import MINI
from model.storage import save

TINY = dataclasses.replace(
    MINI,
    name="tiny",
    vae=dataclasses.replace(MINI.vae, block_out_channels=(8, 16)),
    transformer=dataclasses.replace(
        MINI.transformer, num_layers=2, num_attention_heads=2, attention_head_dim=32, feature_blocks=(0, 1)
    ),
    sam=dataclasses.replace(MINI.sam, embed_dim=32, depth=2, num_heads=2, out_chans=16),
    view=dataclasses.replace(MINI.view, channels=16),
    head=dataclasses.replace(MINI.head, channels=16),
    tile=TileSpec(size=128, overlap=32, multiple=16),
)


def write_tiny_model(folder: Path, calibration: Calibration | None = None) -> Path:
    """Random weights, the same every time."""
    torch.manual_seed(0)
    save(folder, build(TINY), calibration or Calibration(name="tiny"), {"seed": 0}, dtype=torch.float32)
    return folder
