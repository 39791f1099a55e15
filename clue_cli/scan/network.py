"""Which model runs where: from the options to a checkpoint, a device, a number format, and the network itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clue_cli.errors import UsageError, WeightsError
from clue_cli.models.sources import REGISTER
from clue_cli.scan.network_process import NetworkProcess
from clue_cli.scan.options import Compile, DType, ScanOptions
from clue_cli.terminal import sentence
from model.checkpoint import BaseWeightsError, Checkpoint, CheckpointError, inspect
from model.device import CompilerMissing, DeviceError, require_compiler, resolve

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
    except BaseWeightsError as error:
        raise WeightsError(sentence(error), REGISTER.format(error.base)) from error
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


def find_devices(options: ScanOptions, dtype: DType) -> tuple[tuple[str, ...], torch.dtype]:
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


def processes(
    checkpoint: Checkpoint,
    devices: tuple[str, ...],
    dtype: torch.dtype,
    options: ScanOptions,
    told: Callable[[str], None],
) -> list[NetworkProcess[Any]]:
    """A process with the network for each of several devices, started when its first image comes.

    Args:
        told: called with a sentence when one of them died.
    """
    setup = {
        "model": options.model,
        "digest": checkpoint.digest,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": options.batch,
        "compile": None if options.compile is None else options.compile.value,
    }
    return [NetworkProcess(setup | {"device": device}, told) for device in devices]


def load_predictor(checkpoint: Checkpoint, device: str, dtype: torch.dtype, options: ScanOptions) -> Predictor:
    """Build the network, ready to run.

    Raises:
        WeightsError: the weights are damaged.
        UsageError: the device has not the memory for them.
    """
    import torch

    from model.predictor import Predictor, ran_out_of_memory
    from model.speed import compile_network
    from model.storage import load

    # Convolutions in TensorFloat-32, torch's default on a GPU, are no float32.
    torch.backends.cudnn.allow_tf32 = False

    # Threads that prepare, compute and write take turns in the interpreter; the network's thousands of short calls must
    # not wait the usual 5 ms for each of theirs.
    sys.setswitchinterval(0.0005)

    # One tile at a time on the CPU: larger batches are no faster there, and would change the last bits of a mask.
    batch = 1 if device == "cpu" else options.batch or 4
    try:
        model = load(checkpoint, device, dtype)
        if options.compile is not None:
            compile_network(model, options.compile.value)
        return Predictor(model, batch)
    except CheckpointError as error:
        raise WeightsError(f"{error}.", "Install clue again, or name another model with --model.") from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise UsageError(
            f"{checkpoint.preset.name} does not fit into the memory of {device}.",
            "Choose another --device, or --dtype bfloat16, which takes half of it.",
        ) from error
