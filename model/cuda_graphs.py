"""CUDA graphs for a network that runs eagerly: one launch in the place of some two thousand.

A graph holds the kernels of one call, with the places of their inputs and results. It is captured from the same calls
on the same shapes, so that it starts the same kernels; before a graph is used its first result is compared with the
eager one, bit by bit.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from model.device import ran_out_of_memory

EAGER_CALLS = 2
"""Of each shape before its graph is captured: libraries are loaded and kernels chosen in them."""
MOST_GRAPHS = 8
"""Held at a time. They share one pool of memory, which is as large as the largest of them needs."""
Run = Callable[..., Tensor]
_Key = tuple[tuple[tuple[int, ...], torch.dtype] | None, ...]


class Captured(Protocol):
    """A captured call.

    Attributes:
        inputs: as in the call; what stands in them is computed with.
        result: overwritten by each replay.
    """

    inputs: tuple[Tensor | None, ...]
    result: Tensor

    def replay(self) -> None:
        """Compute `result` from `inputs`, in the current stream."""


class CudaGraph:
    """A call captured on the device of its inputs.

    Args:
        run: called once; nothing is computed.
        inputs: of the shapes and formats that all replays have.
        pool: memory, from `torch.cuda.graph_pool_handle`. Graphs may share it if none of their results is needed once
            another of them is replayed.
    """

    def __init__(self, run: Run, inputs: tuple[Tensor | None, ...], pool: Any) -> None:
        self.inputs = tuple(None if tensor is None else torch.zeros_like(tensor) for tensor in inputs)
        device = next(tensor.device for tensor in inputs if tensor is not None)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            # What other threads do meanwhile, such as pinning memory, is no part of it and does not disturb it.
            aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            capture = torch.cuda.graph(self._graph, pool=pool, stream=aside, capture_error_mode="thread_local")
            try:
                # The outer stream is what comes back even where torch does not leave its own.
                with torch.cuda.stream(torch.cuda.current_stream(device)), capture:
                    self.result = run(*self.inputs)
            except BaseException:
                # Where the capture cannot be ended, torch leaves the allocator in the middle of it.
                with suppress(Exception):
                    torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
                raise

    def replay(self) -> None:
        """As of `Captured`."""
        self._graph.replay()


class Graphs:
    """A function of tensors that is replayed from the third call of each shape on.

    Nothing is captured while less than half of the device's memory is free: other work there comes first. Where a graph
    cannot be captured, or gives other bits than the eager call, all calls are eager from then on, with one warning;
    where memory runs out, the graphs are given up for good, silently. A shape whose graph had to make room for others
    needs four times as many calls until it is captured again.

    Args:
        run: tensors, or None, to a tensor, in inference mode. It keeps no state that a later call changes, and its
            weights stay where and as they are: what is computed from them once is in the graph by its address.
        capture: makes a graph; None: `CudaGraph` in a pool of memory of its own.

    Attributes:
        held: the graphs, the least recently used first.
    """

    def __init__(self, run: Run, capture: Callable[[Run, tuple[Tensor | None, ...]], Captured] | None = None) -> None:
        self._run = run
        self._capture = capture
        self.held: OrderedDict[_Key, Captured] = OrderedDict()
        self._calls: dict[_Key, int] = {}
        self._due: dict[_Key, int] = {}
        self._off = False

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """The result of `run`, in memory of its own."""
        if self._off:
            return self._run(*inputs)
        key: _Key = tuple(None if tensor is None else (tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        if (graph := self.held.get(key)) is not None:
            self.held.move_to_end(key)
            return _replayed(graph, inputs)
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        try:
            result = self._run(*inputs)
        except (MemoryError, RuntimeError) as error:
            if not (self.held and ran_out_of_memory(error)):
                raise
        else:
            if calls > self._due.get(key, EAGER_CALLS):
                if _spare_memory():
                    self._add(key, inputs, result)
                else:
                    self._due[key] = 4 * calls
            return result
        self._give_up()  # only here: the exception held on to what was allocated
        return self._run(*inputs)

    def _add(self, key: _Key, inputs: tuple[Tensor | None, ...], expected: Tensor) -> None:
        while len(self.held) >= MOST_GRAPHS:
            _wait()
            oldest, _ = self.held.popitem(last=False)
            self._due[oldest] = 4 * self._calls[oldest]
        try:
            if self._capture is None:
                pool = torch.cuda.graph_pool_handle()
                self._capture = lambda run, given: CudaGraph(run, given, pool)
            graph = self._capture(self._run, inputs)
            same = torch.equal(_replayed(graph, inputs), expected)
        except (MemoryError, RuntimeError) as error:
            reason = None if ran_out_of_memory(error) else next(iter(str(error).splitlines()), type(error).__name__)
        else:
            if same:
                self.held[key] = graph
                return
            reason = "its result differs from that of single launches"
            del graph
        if reason is not None:
            said = f"The network runs without CUDA graphs, which is slower: {reason}."
            warnings.warn(said, RuntimeWarning, stacklevel=2)
        self._give_up()

    def _give_up(self) -> None:
        self._off = True
        _wait()
        self.held.clear()
        torch.cuda.empty_cache()  # nothing where there is no card


def _replayed(graph: Captured, inputs: tuple[Tensor | None, ...]) -> Tensor:
    for place, tensor in zip(graph.inputs, inputs, strict=True):
        if place is not None and tensor is not None:
            place.copy_(tensor)
    graph.replay()
    return graph.result.clone()  # in the same stream: no other replay comes between


def _spare_memory() -> bool:
    """Whether half of the device's memory is free, when what torch keeps for later is given back."""
    if not torch.cuda.is_available():
        return True
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return free >= total / 2


def _wait() -> None:
    """Until no graph is running that is to be given up."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
