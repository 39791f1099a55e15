"""Which model runs where: from the options to a checkpoint, a device, a number format, and the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clue_cli.errors import UsageError, WeightsError
from clue_cli.scan.options import DType, ScanOptions
from model.checkpoint import Checkpoint, CheckpointError, inspect
from model.device import DeviceError, resolve

if TYPE_CHECKING:  # diffusers and segment_anything take seconds to import; a resumed scan may not need them
    import torch

    from model.predictor import Predictor


def find_model(name_or_path: str) -> Checkpoint:
    """What is known of a model before its network is built.

    Raises:
        WeightsError: the model is missing or damaged.
    """
    try:
        return inspect(name_or_path)
    except CheckpointError as error:
        raise WeightsError(f"{error}.", "Name a model folder with --model, or leave --model out.") from error


def find_device(device: str, dtype: DType) -> tuple[str, torch.dtype]:
    """Where the network runs, and in which number format.

    Raises:
        UsageError: this machine does not have it.
    """
    try:
        return resolve(device, dtype.value)
    except DeviceError as error:
        raise UsageError(f"{error}.", "Choose another --device or --dtype, or leave them out.") from error


def load_predictor(checkpoint: Checkpoint, device: str, dtype: torch.dtype, options: ScanOptions) -> Predictor:
    """Build the network, ready to run.

    Raises:
        WeightsError: the weights are damaged.
    """
    from model.predictor import Predictor
    from model.storage import load

    # One tile at a time on the CPU: larger batches are no faster there, and would change the last bits of a mask.
    batch = 1 if device == "cpu" else options.batch or 4
    try:
        return Predictor(load(checkpoint, device, dtype), batch)
    except CheckpointError as error:
        raise WeightsError(f"{error}.", "Install clue again, or name another model with --model.") from error
