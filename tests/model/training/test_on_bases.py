"""A training on weights of others that are held in bfloat16: what is learned is not, and goes on exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import CONFIG_FILE, inspect
from model.storage import load
from model.training.run_folder import read_log
from model.training.task import Task
from model.training.trainer import train
from tests.base_layouts import SMALL, register_small
from tests.model.training.made import Stopper, task


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    register_small(tmp_path / "bases")


def of_small(out: Path) -> Task:
    quick: dict[str, Any] = {"steps": 2, "save_every": 1, "validate_every": 2, "validation_samples": 3}
    return task(out, SMALL, precision="bf16", gradient_checkpointing=True, **quick)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a model on the disk, by file and name."""
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def test_base_weights_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(of_small(tmp_path / "exact"))
    monkeypatch.setattr("model.training.trainer.frozen_format", lambda options, device: torch.bfloat16)
    train(of_small(tmp_path / "held"))
    steps = [row for row in read_log(tmp_path / "held" / "log.jsonl") if row["kind"] == "step"]
    assert len(steps) == 2
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["gradient"]) for row in steps)

    state = torch.load(tmp_path / "held" / "state.pt", weights_only=True)
    learned = set(state["average"])
    assert {tensor.dtype for tensor in state["average"].values()} == {torch.float32}
    assert set(state["model"]) == learned  # nothing of the base is stored again at every save
    assert {tensor.dtype for tensor in state["model"].values()} == {torch.float32}

    exact, held = (stored(tmp_path / name / "last") for name in ("exact", "held"))
    assert {name: (t.shape, t.dtype) for name, t in held.items()} == {n: (t.shape, t.dtype) for n, t in exact.items()}
    assert all((held[name] - exact[name]).abs().max() < 0.05 for name in exact)
    assert (tmp_path / "held" / "last" / CONFIG_FILE).is_file()
    network = load(inspect(str(tmp_path / "held" / "last")), "cpu", torch.float32)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}

    stopper = Stopper(1)
    assert train(of_small(tmp_path / "again"), stopper, stopper.stop).interrupted
    train(of_small(tmp_path / "again"))
    again = stored(tmp_path / "again" / "last")
    assert all(torch.equal(again[name], tensor) for name, tensor in held.items())
