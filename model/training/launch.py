"""How a training is started: on which device, in how many processes, with which settings."""

from __future__ import annotations

import os
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from model.bases import find_base, needs_bases
from model.checkpoint import Checkpoint
from model.presets import Preset
from model.training.errors import OptionsError
from model.training.options import TrainingOptions
from model.training.task import Task

_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How launchers say how many processes there are; accelerate looks at the same."""
_SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM")
"""Ways of accelerate to share out one network, of which no process has all that a state and a model are made of."""
_TORCHRUN = "torchrun --nproc_per_node N -m clue_cli train … starts N processes, on CPUs too."


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """The accelerator for the options.

    Raises:
        OptionsError: fp16 without a GPU, other processes than the launcher was asked for, or a network shared out
            among them.
    """
    _check_launch()
    accelerator = Accelerator(
        mixed_precision=options.precision,
        cpu=options.device == "cpu",
        # The last blocks of the transformer, which no feature needs, never get a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    asked, there = os.environ.get("WORLD_SIZE", "1"), accelerator.num_processes
    if asked != str(there):
        raise OptionsError(f"{asked} processes were started (WORLD_SIZE), and {there} found each other.", _TORCHRUN)
    if accelerator.distributed_type in _SHARDED:
        raise OptionsError(
            f"accelerate is configured for {accelerator.distributed_type.value}, which shares the network out.",
            "Here each process has all of it: `accelerate config`, or `accelerate launch --multi_gpu`.",
        )
    if options.precision == "fp16" and accelerator.device.type == "cpu":
        raise OptionsError("--precision fp16 needs a GPU.", "On a CPU use bf16 or no.")
    return accelerator


def _check_launch() -> None:
    """Refuse to train alone where several processes were asked for.

    `accelerate launch --cpu --num_processes 2` prepares for two processes and then starts one, as it starts several on
    CPUs through MPI only; the address for them to meet at is all that shows it. `torchrun` starts as many as asked.
    """
    alone = not any(os.environ.get(name) for name in _WORLD_SIZES)
    if alone and "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ:
        raise OptionsError(
            "`accelerate launch` was asked for several processes and started one: on CPUs it needs MPI for them.",
            f"{_TORCHRUN} For one process, --num_processes 1 and no MASTER_ADDR.",
        )


def settings(task: Task, preset: Preset, source: Checkpoint | None, processes: int) -> dict[str, Any]:
    """All that decides the result of a training: one goes on with the same only."""
    return {
        "options": task.options.to_dict(),
        "preset": preset.to_dict(),
        "data": task.data,
        "init": source.digest if source is not None else None,
        "bases": find_base(preset).digests() if source is None and needs_bases(preset) else None,
        "processes": processes,
    }
