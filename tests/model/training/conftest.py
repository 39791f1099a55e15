"""Every test gets an accelerate of its own; one finished training is for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from model.training.task import Outcome
from model.training.trainer import train
from tests.model.training.made import task


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its choices for the whole process; a training is one process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the default training, unbroken: read it only."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train(task(folder)) == Outcome(6, pytest.approx(0, abs=1), False, 0)
    return folder
