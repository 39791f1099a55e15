"""How a training is started: what the environment asks accelerate for is done, refused, or said to have no effect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from accelerate.utils import DynamoBackend

from model.training.errors import OptionsError
from model.training.launch import make_accelerator, overruled
from model.training.trainer import train
from tests.model.training.made import Stopper, figures, options, task

LAUNCHED = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
"""What `accelerate launch --cpu --num_processes 2` sets for the one process that it starts."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    launched = {"MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}
    for name in launched | {name for name in os.environ if name.startswith("ACCELERATE_")}:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_where_several_were_asked_for(environment: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHED.items():
        environment.setenv(name, value)
    with pytest.raises(OptionsError, match="asked for several processes and started one") as raised:
        make_accelerator(options())
    assert "torchrun --nproc_per_node" in (raised.value.advice or "")


def test_other_processes_than_were_started(environment: pytest.MonkeyPatch) -> None:
    class Alone:
        num_processes = 1

    environment.setenv("WORLD_SIZE", "2")
    environment.setattr("model.training.launch.Accelerator", lambda **_: Alone())
    with pytest.raises(OptionsError, match=r"2 processes were started \(WORLD_SIZE\), and 1 found"):
        make_accelerator(options())


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, r"DeepSpeed \(ACCELERATE_USE_DEEPSPEED\), which shards the network"),
        ({"ACCELERATE_USE_FSDP": "True"}, "configured for FSDP .* shards the network"),
        ({"ACCELERATE_FP8_BACKEND": "TE"}, "ACCELERATE_FP8_BACKEND is TE, and nothing is trained in fp8"),
        ({"ACCELERATE_TORCH_DEVICE": "meta"}, "--device is cpu, and ACCELERATE_TORCH_DEVICE is meta"),
        ({"ACCELERATE_TORCH_DEVICE": "toaster"}, "accelerate cannot start: .*toaster"),
        ({"ACCELERATE_USE_CPU": "perhaps"}, "accelerate cannot start: .*perhaps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused(environment: pytest.MonkeyPatch, variables: dict[str, str], said: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(OptionsError, match=said):
        make_accelerator(options())


def test_options_count_and_the_environment_does_not(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    environment.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    environment.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    accelerator = make_accelerator(options(accumulate=2))
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.mixed_precision == "no"
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.NO
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward((3 * weight).sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3
    assert overruled(options(accumulate=2)) == [
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 4, which has no effect: --accumulate is 2.",
        "ACCELERATE_MIXED_PRECISION is bf16, which has no effect: --precision is no.",
        "ACCELERATE_DYNAMO_BACKEND is INDUCTOR, which has no effect: the option compile says what is compiled.",
    ]


def test_a_training_gives_the_same_losses_and_says_so(
    environment: pytest.MonkeyPatch, finished: Path, tmp_path: Path
) -> None:
    environment.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    listener = Stopper(0)
    train(task(tmp_path / "run"), listener)
    assert listener.said[0] == "ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 4, which has no effect: --accumulate is 1."
    assert figures(tmp_path / "run") == figures(finished)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"},
        {"MASTER_ADDR": "node7", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"},
        {"WORLD_SIZE": "1"},
    ],
    ids=["alone", "what accelerate launch always sets", "an address, and what is done", "torchrun"],
)
def test_one_process_and_nothing_overruled(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert make_accelerator(options(accumulate=2)).num_processes == 1
    assert overruled(options(accumulate=2)) == []
