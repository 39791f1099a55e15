"""How a training is started: alone where several were asked for is refused."""

from __future__ import annotations

import pytest
from accelerate.utils import DistributedType

from model.training.errors import OptionsError
from model.training.launch import make_accelerator
from tests.model.training.made import options

LAUNCHED = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
"""What `accelerate launch --cpu --num_processes 2` sets for the one process that it starts."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*LAUNCHED, "WORLD_SIZE", "RANK", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
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


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM])
def test_a_network_that_is_shared_out(environment: pytest.MonkeyPatch, kind: DistributedType) -> None:
    class Sharing:
        num_processes = 1
        distributed_type = kind

    environment.setattr("model.training.launch.Accelerator", lambda **_: Sharing())
    with pytest.raises(OptionsError, match=rf"configured for .*{kind.value}, which shares the network out"):
        make_accelerator(options())


@pytest.mark.parametrize(
    "variables",
    [{}, {"ACCELERATE_USE_CPU": "True"}, {"MASTER_ADDR": "node7"}, {"WORLD_SIZE": "1"}],
    ids=["alone", "accelerate launch", "an address alone", "torchrun"],
)
def test_one_process(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert make_accelerator(options()).num_processes == 1
