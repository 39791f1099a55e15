"""A method of the second question in this process; from any thread, one picture at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError
from clue_cli.machine import cores

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    from model.synthetic import Detection, Detector, Method


class LocalDetector:
    """A method that is loaded when the first picture comes.

    Args:
        method: as `model.synthetic.describe` gives it.
        device, dtype: where it runs, and in which number format.
    """

    def __init__(self, method: Method, device: str, dtype: torch.dtype) -> None:
        self.method, self.device, self.dtype = method, device, dtype
        self._lock = threading.Lock()
        self._detector: Detector | None = None

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """What the method says of one picture, H×W×3 uint8 as stored.

        Raises:
            MethodError: its weights are damaged.
            UsageError: the device has not the memory for it.
            ValueError: it cannot judge this picture; the message says why.
            RuntimeError, MemoryError: the device has not the memory for this picture.
        """
        with self._lock:
            if self._detector is None:
                self._detector = self._load()
            return self._detector.detect(pixels)

    def _load(self) -> Detector:
        import torch

        from model.device import ran_out_of_memory
        from model.synthetic import load

        if (allowed := cores()) < torch.get_num_threads():  # a container's share of the processor
            torch.set_num_threads(allowed)
        torch.backends.cudnn.allow_tf32 = False  # convolutions in TensorFloat-32 are no float32
        try:
            return load(self.method, self.device, self.dtype)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise UsageError(
                f"The method {self.method.name} does not fit into the memory of {self.device}.",
                "Choose another --device, or --dtype bfloat16, which takes half of it.",
            ) from error
