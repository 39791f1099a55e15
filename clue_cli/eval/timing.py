"""Where the time of a measurement went."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timing:
    """Where the time of this run went. Threads overlap: the sums of several can exceed the wall clock.

    Attributes:
        wall: seconds from the first picture at the network to the last line in the log; loading the model is before.
        network: seconds of it in the network.
        pictures: predictions of the network in this run.
        steps: seconds of all threads by step.
    """

    wall: float = 0.0
    network: float = 0.0
    pictures: int = 0
    loading: float = 0.0
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "attack", "measure"), 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def outside(self) -> float | None:
        """Share of the wall clock in which the network did not run; None if it did not run at all."""
        return max(0.0, 1 - self.network / self.wall) if self.network and self.wall else None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a step; from any thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.steps[name] += time.perf_counter() - start
