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

from clue_cli.engine import Budget


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
