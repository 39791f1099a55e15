"""How a training is started: on which device, in how many processes, with which settings.

accelerate also reads environment variables, which `accelerate launch` sets from its own configuration and which may be
left over from another project. Options of `clue train` overrule them (`overruled` lists which); what would change the
result and cannot be overruled is refused.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs, GradientAccumulationPlugin

from model.branches import from_scratch
from model.checkpoint import Checkpoint
from model.preset import Preset
from model.storage import find_base
from model.training.errors import OptionsError
from model.training.options import TrainingOptions
from model.training.task import Task

_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How launchers say how many processes there are; accelerate looks at the same."""
_SHARDED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism of several kinds",
}
"""Ways to shard one network: no process has all of the weights to save."""
_TORCHRUN = "torchrun --nproc_per_node N -m clue_cli train … starts N processes, on CPUs too."


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """The accelerator for the options.

    Raises:
        OptionsError: fp16 without a GPU, another number of processes than were asked for, a sharded network, or another
            setting of the environment that cannot be followed.
    """
    _check_launch()
    _check_environment()
    try:
        accelerator = Accelerator(
            mixed_precision=options.precision,
            cpu=options.device == "cpu",
            # `Steps` divides by the number of batches; accelerate's plain argument would give way to the environment.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            dynamo_backend="no",
            # The last blocks of the transformer, which no feature needs, never get a gradient. Buffers are constants:
            # sent around at every forward pass, they would have a process with fewer validation batches waited for.
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False),
                # A recorded update rounds its weights itself.
                AutocastKwargs(
                    cache_enabled=not options.record or options.device == "cpu" or not torch.cuda.is_available()
                ),
            ],
        )
    except (ImportError, RuntimeError, ValueError) as error:
        raise OptionsError(
            f"accelerate cannot start: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Look at environment variables that begin with ACCELERATE_; `accelerate launch` sets some.",
        ) from error
    asked, there = os.environ.get("WORLD_SIZE", "1"), accelerator.num_processes
    if asked != str(there):
        raise OptionsError(f"{asked} processes were started (WORLD_SIZE), and {there} found each other.", _TORCHRUN)
    if options.device == "cpu" and accelerator.device.type != "cpu":
        raise OptionsError(
            f"--device is cpu, and ACCELERATE_TORCH_DEVICE is {accelerator.device}.", "Unset one of them."
        )
    if options.precision == "fp16" and accelerator.device.type == "cpu":
        raise OptionsError("--precision fp16 needs a GPU.", "On a CPU use bf16 or no.")
    return accelerator


def recorded(options: TrainingOptions, accelerator: Accelerator) -> bool:
    """Whether updates are recorded: on one GPU, one batch a step, without the loss scaling of fp16."""
    alone = accelerator.num_processes == 1 and options.accumulate == 1
    plain = not options.queries  # what is recorded has one prompt
    return options.record and alone and plain and options.precision != "fp16" and accelerator.device.type == "cuda"


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


def _check_environment() -> None:
    for name, kind in _SHARDED.items():
        if os.environ.get(name, "").lower() == "true":
            raise OptionsError(
                f"accelerate is configured for {kind} ({name}), which shards the network.",
                "Here each process holds all of it: `accelerate config`, or `accelerate launch --multi_gpu`.",
            )
    backend = os.environ.get("ACCELERATE_FP8_BACKEND", "no")
    if backend.lower() != "no":
        raise OptionsError(
            f"ACCELERATE_FP8_BACKEND is {backend}, and nothing is trained in fp8 here.",
            "Unset it. --precision offers bf16 and fp16.",
        )


def overruled(options: TrainingOptions) -> list[str]:
    """The environment variables that options overrule: a sentence each."""
    ours = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (str(options.accumulate), f"--accumulate is {options.accumulate}"),
        "ACCELERATE_MIXED_PRECISION": (options.precision, f"--precision is {options.precision}"),
        "ACCELERATE_DYNAMO_BACKEND": ("no", "the option compile says what is compiled"),
    }
    return [
        f"{name} is {asked}, which has no effect: {instead}."
        for name, (done, instead) in ours.items()
        if (asked := os.environ.get(name, "no")).lower() not in (done, "no")  # `accelerate launch` says no by itself
    ]


def settings(task: Task, preset: Preset, source: Checkpoint | None, processes: int) -> dict[str, Any]:
    """All that decides the result of a training, which resumes with the same settings only."""
    return {
        "options": task.options.to_dict(),
        "preset": preset.to_dict(),
        "data": task.data,
        "init": source.digest if source is not None else None,
        "bases": find_base(preset).digests() if source is None and not from_scratch(preset) else None,
        "processes": processes,
    }
