"""A cluster in this process: everything that would travel is pickled, there and back."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from typing import Any, Self

import torch

from clue_cli.engine import Flow, Part
from clue_cli.errors import Aborted
from clue_cli.networks import NetworkOptions, find_device
from clue_cli.networks.local import LocalNetwork
from model.checkpoint import Checkpoint
from model.synthetic import Method


class FakeCluster:
    """A `Cluster` with one worker, which takes turns.

    Attributes:
        made: the workers that were asked for.
    """

    def __init__(self) -> None:
        self.made: list[FakeWorkers] = []

    def find_device(self, options: NetworkOptions) -> tuple[str, torch.dtype]:
        return find_device(options.device, options.dtype)

    def workers(
        self, part: Part[Any, Any, Any], checkpoint: Checkpoint, options: NetworkOptions, method: Method | None = None
    ) -> FakeWorkers:
        self.made.append(FakeWorkers(pickle.dumps((part, checkpoint, options, method))))
        return self.made[-1]


class FakeWorkers:
    """`Workers` that run a part with a network of their own."""

    at_once = 3

    def __init__(self, setup: bytes) -> None:
        self.loading, self.items, self.entered, self.exited = 0.0, 0, 0, 0
        self.part, checkpoint, self.options, method = pickle.loads(setup)
        device, dtype = find_device(self.options.device, self.options.dtype)
        self.network = LocalNetwork(checkpoint, device, dtype, self.options, method)
        self.closed, self.turn = threading.Event(), threading.Lock()

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.exited += 1

    def close(self) -> None:
        self.closed.set()

    def run(self, item: Any, size: int) -> Iterator[Any]:
        assert size == item.nbytes
        if self.closed.is_set():
            raise Aborted
        with self.turn:
            self.items += 1
            outputs = self._computed(pickle.loads(pickle.dumps(item)))
        yield from (pickle.loads(output) for output in outputs)

    def _computed(self, item: Any) -> list[bytes]:
        outputs: list[bytes] = []
        part = self.part
        with part.open(1) as pool:
            flow: Flow[Any, Any] = Flow(
                [self.network],
                lambda: iter([item]),
                lambda one: part.decode(one, pool, flow.budget),
                lambda work, answer, device: outputs.append(pickle.dumps(part.finish(work, answer, device))),
                lambda text: None,
                decoders=1,
            )
            flow.run()
        self.loading = self.network.loading
        return outputs
