"""A part that is fast, and does what its items say: to the worker, too."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clue_cli.engine import Budget
from clue_cli.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Toy:
    """An item: how many outputs it has, and what happens before each."""

    name: str
    outputs: int = 1
    seconds: float = 0.0
    does: str = ""
    padding: bytes = b""


@dataclass(frozen=True, slots=True)
class ToyWork:
    text: str
    cost: int = 1000

    @property
    def for_network(self) -> None:
        """Nothing: these tests are about the cluster."""


class _Pool(nullcontext[Any]):
    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class ToyPart:
    """Notes the process of each worker in `folder`."""

    folder: Path

    def open(self, decoders: int) -> _Pool:
        (self.folder / str(os.getpid())).touch()
        if (self.folder / "refuse").exists():
            raise ValueError("no pool today")
        if "TOY_WITHOUT_WEIGHTS" in os.environ:
            raise WeightsError("No model at /models/x.", "Copy it.")
        return _Pool()

    def decode(self, item: Toy, pool: Any, budget: Budget) -> Iterator[ToyWork]:
        for number in range(item.outputs):
            time.sleep(item.seconds)
            if item.does == "exit":
                os._exit(9)
            if item.does == "killed once" and not (self.folder / "killed").exists():
                (self.folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if item.does == "raise":
                raise ValueError("a bug in the part")
            budget.acquire(1000)
            yield ToyWork(f"{item.name}/{number}")

    def finish(self, work: ToyWork, answer: Any, device: str) -> str:
        assert answer is None and device == ""
        return work.text


@dataclass(frozen=True, slots=True)
class Picture:
    for_network: NDArray[np.uint8]
    cost: int = 1000


@dataclass(frozen=True, slots=True)
class PicturePart:
    """From pixels, H×W×3 uint8, to their heatmap."""

    def open(self, decoders: int) -> _Pool:
        return _Pool()

    def decode(self, item: NDArray[np.uint8], pool: Any, budget: Budget) -> Iterator[Picture]:
        budget.acquire(1000)
        yield Picture(item)

    def finish(self, work: Picture, answer: Any, device: str) -> NDArray[np.float32]:
        assert answer.key is work and device == "cpu"
        heatmap: NDArray[np.float32] = answer.heatmap
        return heatmap
