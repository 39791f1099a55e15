"""Which model runs where: from the options to a checkpoint, devices and a number format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clue_cli.errors import UsageError, WeightsError
from clue_cli.networks.options import Compile, DType, NetworkOptions
from clue_cli.terminal import sentence
from model.checkpoint import BaseWeightsError, Checkpoint, CheckpointError, inspect
from model.device import CompilerMissing, DeviceError, require_compiler, resolve

if TYPE_CHECKING:  # diffusers and segment_anything take seconds to import; a resumed run may not need them
    import torch


def find_model(name_or_path: str) -> Checkpoint:
    """What is known of a model before its network is built.

    Raises:
        WeightsError: the model is missing or damaged.
    """
    try:
        return inspect(name_or_path)
    except BaseWeightsError as error:
        command = f"clue models add {error.base} --sd3 DIR --sam FILE"
        advice = f"Put the files back, or register where they are now: {command}"
        raise WeightsError(sentence(error), advice) from error
    except CheckpointError as error:
        raise WeightsError(sentence(error), "Name a model folder with --model, or leave --model out.") from error


def find_device(device: str, dtype: DType) -> tuple[str, torch.dtype]:
    """Where the network runs, and in which number format.

    Raises:
        UsageError: this machine does not have it.
    """
    try:
        return resolve(device, dtype.value)
    except DeviceError as error:
        raise UsageError(f"{error}.", "Choose another --device or --dtype, or leave them out.") from error


def find_devices(options: NetworkOptions, dtype: DType) -> tuple[tuple[str, ...], torch.dtype]:
    """Where the network runs, once or several times, and in which number format.

    Raises:
        UsageError: this machine does not have it, or the devices are of different kinds; or --compile needs a compiler.
    """
    found = [find_device(name, dtype) for name in options.devices or (options.device,)]
    names = tuple(name for name, _ in found)
    if len({name.split(":")[0] for name in names}) > 1:
        raise UsageError(f"--devices names both the CPU and a GPU: {', '.join(names)}.", "Name devices of one kind.")
    twice = [name for name in names if name != "cpu" and names.count(name) > 1]
    if twice:
        raise UsageError(f"--devices names {twice[0]} twice.", "Each GPU has one process; --batch gives it more to do.")
    check_compile(options.compile)
    return names, found[0][1]


def check_compile(how: Compile | None) -> None:
    """Raise UsageError for --compile where there is no compiler: torch would say so only in the middle of a run."""
    if how is not None:
        try:
            require_compiler()
        except CompilerMissing as error:
            raise UsageError(sentence(error), "Leave --compile out, or set CXX.") from error
