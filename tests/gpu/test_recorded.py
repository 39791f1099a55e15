"""Updates recorded as CUDA graphs: the losses of the same updates without, and exact after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training.trainer import train
from tests.model.training.made import Squares, Stopper, rows, task
from tests.tiny_model import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out, "step")]


def test_recorded_updates(tmp_path: Path) -> None:
    """Two sizes of pictures; from the second batch of a size on, each update is a replay."""
    both = Squares(1, sizes=((64, 64), (64, 96)))
    words = {"training": both, "device": "auto", "precision": "bf16", "steps": 8, "save_every": 1, "dice": "image"}
    train(task(tmp_path / "plain", TINY, **words))
    train(task(tmp_path / "recorded", TINY, record=True, **words))
    assert losses(tmp_path / "recorded") == pytest.approx(losses(tmp_path / "plain"), rel=0.05)
    stopper = Stopper(5)
    train(task(tmp_path / "run", TINY, record=True, **words), stopper, stopper.stop)
    train(task(tmp_path / "run", TINY, record=True, **words))
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "recorded"), rel=1e-3)
