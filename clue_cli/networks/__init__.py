"""Where images go to be predicted: this process (`local`), or one process for each device (`processes`).

Another place, such as a cluster, is one more module with a class that is a `Network`, and a line in `networks_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from clue_cli.machine import cores

if TYPE_CHECKING:  # torch takes seconds to import, and `options` is needed for --help
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from clue_cli.networks.options import NetworkOptions
    from model.checkpoint import Checkpoint
    from model.prediction import OutOfMemory, Prediction

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Unpredicted(Generic[Key]):
    """An image that could not be predicted although memory sufficed; the message says why."""

    key: Key
    message: str


class NetworkLost(Exception):
    """A network that is of no more use.

    Attributes:
        keys: of the images it still held.
    """

    def __init__(self, message: str, keys: list[Any]) -> None:
        super().__init__(message)
        self.keys = keys


class Network(Protocol):
    """Predicts images. Nothing is loaded or started before the first image comes.

    Attributes:
        device: where it runs, e.g. `cpu`, `cuda:0`.
        loading: seconds that loading it took; 0 before.
    """

    device: str
    loading: float

    @property
    def asked(self) -> int:
        """Tiles in a batch as asked for; 0 before the first image."""

    @property
    def batch(self) -> int:
        """The same, smaller once memory ran out."""

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """One answer for each image, H×W×3 uint8 as stored, by its key. None: answer what is begun before the next.

        Raises:
            NetworkLost: it is of no more use, but others may be.
            WeightsError, UsageError: it cannot be loaded.
        """

    def abort(self) -> None:
        """Called from another thread: `predict` ends soon, in whatever way."""

    def stop(self) -> None:
        """End what was started; harmless when repeated."""


@contextmanager
def networks_for(
    checkpoint: Checkpoint,
    devices: tuple[str, ...],
    dtype: torch.dtype,
    options: NetworkOptions,
    warn: Callable[[str], None],
) -> Iterator[list[Network]]:
    """One network for each device: in this process if there is one device, else in a process each, which the end ends.

    Args:
        warn: called with a sentence when a process died.
    """
    import torch

    if (allowed := cores()) < torch.get_num_threads():  # a container's share of the processor; torch counts the cores
        torch.set_num_threads(allowed)
    made: list[Network]
    if len(devices) == 1:
        from clue_cli.networks.local import LocalNetwork

        made = [LocalNetwork(checkpoint, devices[0], dtype, options)]
    else:
        from clue_cli.networks.processes import processes

        made = [*processes(checkpoint, devices, dtype, options, warn)]
    try:
        yield made
    finally:
        for network in made:
            network.stop()
