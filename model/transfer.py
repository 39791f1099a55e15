"""Copies between the host and a device that wait for nobody: pinned memory, and streams beside the network's own.

A batch goes up while the one before it is computed, and comes down while the next one is. On the CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer:
    """The two directions of one device.

    Args:
        device: where the network runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            torch.cuda.set_device(device)  # pinned memory is the current device's: nothing is to be set up on another
            up, down = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
            self._streams = up, down

    def up(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; whatever the network does next waits for the copy, the caller does not."""
        if self._streams is None:
            return tensor.to(self.device)
        network = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._streams[0]):
            there = tensor.pin_memory().to(self.device, non_blocking=True)
        network.wait_stream(self._streams[0])
        there.record_stream(network)  # its memory is not given away before the network is done with it
        return there

    def down(self, tensor: Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to bring a result back; the function that is returned waits for it and gives it as an array."""
        if self._streams is None:
            array: NDArray[Any] = tensor.cpu().numpy()
            return lambda: array
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._streams[1].wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._streams[1]):
            host.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._streams[1])
            arrived = self._streams[1].record_event()

        def wait() -> NDArray[Any]:
            arrived.synchronize()
            return host.numpy()

        return wait
