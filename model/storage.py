"""Load and save the weights of a model, and pick where it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import lora
from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, FORMAT, WEIGHTS_FILE, Checkpoint, CheckpointError
from model.clue import CLUE, build
from model.whole_file import write_text, write_whole


def load(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> CLUE:
    """Build the network with the checkpoint's weights, in evaluation mode.

    Raises:
        CheckpointError: the weights are damaged or belong to another preset.
    """
    path = checkpoint.folder / WEIGHTS_FILE
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    model = build(checkpoint.preset, "meta", checkpoint.branches)
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the preset {checkpoint.preset.name}: {sorted(problems)[0]} "
            f"({len(problems)} differences)"
        )
    # Buffers that are not saved are constants computed at construction, so the network is built for real, once.
    model = build(checkpoint.preset, "cpu", checkpoint.branches)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model.to(device=device, dtype=dtype).eval()


def save(
    folder: Path,
    model: CLUE,
    calibration: Calibration,
    training: dict[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model, each file atomically: an interrupted save leaves the previous file whole.

    Adapters are merged into the weights they adapt: what is written is a plain model.

    Args:
        dtype: number format of the stored weights.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().to(dtype).contiguous() for name, tensor in lora.merged_state(model).items()}
    config = {
        "format": FORMAT,
        "preset": model.preset.to_dict(),
        "branches": model.branches,
        "calibration": calibration.to_dict(),
        "training": training,
    }
    write_whole(folder / WEIGHTS_FILE, lambda path: _write_tensors(path, state))
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1, ensure_ascii=False) + "\n")


def _write_tensors(path: str, state: dict[str, Tensor]) -> None:
    try:
        save_file(state, path)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error
