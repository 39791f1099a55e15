"""A run on many machines: workers on the nodes of a Ray cluster do the middle of it (`engine.Part`).

    driver:  source ─ item ─┐                                ┌─ output ─ sink
    worker:                 └─ decode ─ network ─ finish ────┘

The driver is the process of the command. It alone reads evidence and writes results, so that a results folder and its
log have one writer. Workers are Ray actors, one for each GPU or group of cores, and each runs a `Flow` of its own. What
a worker was given stays at the driver until all outputs of it have come: a lost worker, or a lost node, costs a retry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from clue_cli.engine import Part, Pool
from clue_cli.networks import NetworkOptions

if TYPE_CHECKING:
    import torch

    from model.checkpoint import Checkpoint
    from model.synthetic import Method

_Item = TypeVar("_Item", contravariant=True)
_Out = TypeVar("_Out", covariant=True)


class ItemLost(Exception):
    """An item during which worker processes died again and again, alone in their hands; the message says how."""


class Workers(Pool, Protocol[_Item, _Out]):
    """Workers that run a part. A context manager and a `Pool`: workers start with the first item; `close` ends them.

    Attributes:
        at_once: how many threads should call `run`: enough to keep all workers busy.
        loading: seconds that loading the network took, of the slowest worker; 0 before.
    """

    at_once: int
    loading: float

    def run(self, item: _Item, size: int) -> Iterator[_Out]:
        """The outputs of one item, each once, in any order, as they are finished; from any thread.

        Args:
            size: bytes of the item, for the bound on what is under way.

        Raises:
            ItemLost: worker processes died with this item; what came of it before has been yielded, nothing else will.
            ClueError: no worker is left, or none can load the network.
            Aborted: `close` was called.
        """


class Cluster(Protocol):
    """A cluster that this process is connected to."""

    def find_device(self, options: NetworkOptions) -> tuple[str, torch.dtype]:
        """Where workers run the network, `cpu` or `cuda`, and in which number format; the same for all of them.

        Raises:
            UsageError: the cluster does not have it.
        """

    def workers(
        self, part: Part[Any, Any, Any], checkpoint: Checkpoint, options: NetworkOptions, method: Method | None = None
    ) -> Workers[Any, Any]:
        """Workers that run a part with a network of their own; arguments as of `networks_for`."""


def connect(options: NetworkOptions, warn: Any) -> Cluster:
    """Connect to the cluster that the options name, or start one on this machine; the same one when repeated.

    It is left when the process ends.

    Raises:
        UsageError: Ray is not installed, nothing answers at the address, or versions of Python, Ray or clue differ.
    """
    from clue_cli.cluster.connection import connected

    return connected(options.ray_address, warn)
