"""Load and save the weights of a model, and pick where it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from model import lora
from model.base_files import learned_tensors, safetensors_shapes
from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, FORMAT, WEIGHTS_FILE, Checkpoint, CheckpointError
from model.clue import CLUE, build, place_constants
from model.registry import BasesError
from model.whole_file import whole_folder, write_text, write_whole


def load(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> CLUE:
    """Build the network with the checkpoint's weights, in evaluation mode.

    Raises:
        CheckpointError: the weights are damaged or belong to another preset.
    """
    if checkpoint.base:
        from model.adapter import load_adapter

        return load_adapter(checkpoint, device, dtype)
    path = checkpoint.folder / WEIGHTS_FILE
    model = build(checkpoint.preset, "meta", checkpoint.branches)
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        shapes = safetensors_shapes((path,))
        problems = [f"{name} is missing" for name in expected.keys() - shapes.keys()]
        problems += [f"{name} is unknown" for name in shapes.keys() - expected.keys()]
        problems += [
            f"{name} is {shapes[name]}, not {expected[name]}"
            for name in expected.keys() & shapes.keys()
            if shapes[name] != expected[name]
        ]
        if problems:
            raise CheckpointError(
                f"{path} does not fit the preset {checkpoint.preset.name}: {sorted(problems)[0]} "
                f"({len(problems)} differences)"
            )
        model.load_state_dict(dict(learned_tensors(path, device, dtype)), assign=True)
    except BasesError as error:
        raise CheckpointError(str(error)) from error
    place_constants(model, device)
    return model.eval()


def save(
    folder: Path,
    model: CLUE,
    calibration: Calibration,
    training: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    *,
    as_one: bool = False,
) -> None:
    """Write a model, each file atomically: an interrupted save leaves the previous file whole.

    What stands on others' weights is written as adapters (`model.adapter`), in the place of the folder. Else adapters
    are merged into the weights they adapt: what is written is a plain model.

    Args:
        dtype: number format of the stored weights; a tensor with a value that it does not hold is stored as it is.
        as_one: a plain model, too, takes the place of the folder with all that is in it (`whole_folder`): its weights
            and what is said of them are never of two saves.

    Raises:
        OSError: the folder cannot be written.
    """
    if model.kept_as_adapters and model.base is not None:
        from model.adapter import save_adapter

        save_adapter(folder, model, model.base, calibration, training)
        return
    if as_one:
        with whole_folder(folder) as place:
            save(place, model, calibration, training, dtype)
        return
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _rounded(tensor.detach(), dtype) for name, tensor in lora.merged_state(model).items()}
    config = {
        "format": FORMAT,
        "preset": model.preset.to_dict(),
        "branches": model.branches,
        "calibration": calibration.to_dict(),
        "training": training,
    }
    write_whole(folder / WEIGHTS_FILE, lambda path: _write_tensors(path, state))
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1, ensure_ascii=False) + "\n")


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In another number format, unless a value would become infinite there."""
    rounded = tensor.to(dtype).contiguous()
    overflows = not bool(rounded.isfinite().all()) and bool(tensor.isfinite().all())
    return tensor.contiguous() if overflows else rounded


def _write_tensors(path: str, state: dict[str, Tensor]) -> None:
    try:
        save_file(state, path)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error
