"""The flow of every run of the network, on one page.

    source ─ decode ─┬─ network ─┬─ sink
                     └───────────┘ what the network need not see

Threads joined by bounded channels, so that reading, decoding, the network and the sink overlap and memory stays flat:
one thread reads, some wait for decoding processes, the caller's runs the network, some run the sink. With several
devices each has a network of its own and a thread here that feeds it; all share the pictures.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import Aborted, ClueError
from clue_cli.machine import cores, memory
from clue_cli.networks import Network, NetworkLost, Unpredicted
from model.predictor import OutOfMemory, Prediction


def pixel_budget(share: int = 1) -> int:
    """`PIXEL_BUDGET` of one of `share` processes on this machine, which have a fifth of its memory together."""
    return min(1200 << 20, (memory() or 8 << 30) // 5 // share)


PIXEL_BUDGET = pixel_budget()
"""Bytes of pixels and heatmaps in memory at once, from behind the decoder to the end of the sink; each decoder may hold
the pixels of one more image that waits to be let in. It is a fifth of what a small machine, or a container, has."""

BYTES_PER_PIXEL = 20
"""Of one image that is judged: 3 of pixels, 4 of heatmap, 1 of mask, up to 4 of region labels, and what encoders
copy."""


class Work(Protocol):
    """One picture between the decoder and the sink."""

    @property
    def for_network(self) -> NDArray[np.uint8] | None:
        """H×W×3 as stored; None for what the network need not see."""

    @property
    def cost(self) -> int:
        """Bytes of the budget that it holds."""


class Pool(AbstractContextManager[Any], Protocol):
    """Processes that read archives or decode."""

    def close(self) -> None:
        """End them: whoever waits for one stops waiting."""


Item = TypeVar("Item")
Out = TypeVar("Out")
T = TypeVar("T")
W = TypeVar("W", bound=Work)
Answer = Prediction[W] | OutOfMemory[W] | Unpredicted[W]

_Item = TypeVar("_Item", contravariant=True)
_Out = TypeVar("_Out", covariant=True)


class Part(Protocol[_Item, W, _Out]):
    """The middle of a run: from an item of the source to what the sink takes, by way of the network.

    It runs in the process of the command or, pickled, in workers on other machines (`clue_cli.cluster`). So it holds
    values only; what it starts, it starts in `open`.
    """

    def open(self, decoders: int) -> Pool:
        """The processes that `decode` needs, not started yet; as many as threads will call `decode`."""

    def decode(self, item: _Item, pool: Any, budget: Budget) -> Iterator[W]:
        """The work of one item, in an order that follows from the item alone.

        Args:
            pool: from `open`, started.
            budget: of bytes in memory; each work's `cost` has been acquired of it before it is yielded.
        """

    def finish(self, work: W, answer: Answer[W] | None, device: str) -> _Out:
        """What the sink takes: complete, picklable, and with nothing of this machine in it.

        Args:
            answer, device: of the network; None and an empty name for what passed it by.
        """


class Flow(Generic[Item, W]):
    """The threads of one run and what they share.

    Args:
        networks: none: all work passes them by.
        source: yields items; runs in one thread.
        decode: yields the work of one item; runs in several threads. For each it acquires `cost` bytes of `budget`,
            which come back after the sink.
        sink: takes work, the network's answer and device; None and an empty name for what passed it by; runs in several
            threads.
        warn: called with a sentence about the run as a whole.
        stop: set to end early: what is in the network is finished, the rest is dropped.
        decoders: threads that decode, None for automatic.
        budget: bytes in memory at once.
        lost: advice for when no device is left.

    Attributes:
        budget: of bytes in memory.
        decoders: how many processes `run` needs.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        source: Callable[[], Iterator[Item]],
        decode: Callable[[Item], Iterator[W]],
        sink: Callable[[W, Answer[W] | None, str], None],
        warn: Callable[[str], None],
        *,
        stop: threading.Event | None = None,
        decoders: int | None = None,
        budget: int | None = None,
        lost: str | None = "What was finished is recorded; the same command continues from there.",
    ) -> None:
        self.networks, self.stop = networks, stop or threading.Event()
        self._source, self._decode, self._sink, self._warn, self._advice = source, decode, sink, warn, lost
        consumers = max(1, len(networks))
        self._sinks = max(1, min(4 * consumers, cores() // 2))
        self.decoders = decoders or self._sinks
        self.budget = Budget(budget or PIXEL_BUDGET)
        self._items: Channel[Item] = Channel(2)
        self._ready: Channel[W] = Channel(32, self.decoders + consumers)
        self._done: Channel[tuple[W, Answer[W] | None, str]] = Channel(32, self.decoders + 1)
        self._aborts = [self._items.abort, self._ready.abort, self._done.abort, self.budget.abort]
        self._aborts += [network.abort for network in networks]
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._lost: list[str] = []

    @property
    def failed(self) -> bool:
        """Whether the run is being cut short: what fails now may fail because of that."""
        return bool(self._errors)

    def run(self, *pools: Pool) -> None:
        """Run all steps to the end, or to the first error, which is raised.

        Args:
            pools: of the processes that `source` and `decode` need, of the latter as many as `decoders`.

        Raises:
            ClueError: no device is left, the network cannot be loaded, or the decoders cannot run here at all.
        """
        with ExitStack() as stack:
            for pool in pools:
                stack.enter_context(pool)
            self._start("clue-read", self._read, self._items)
            for _ in range(self.decoders):
                self._start("clue-decode", self._decode_items, self._ready, self._done)
            for _ in range(self._sinks):
                self._start("clue-sink", self._finish)
            with self._guarded():
                self._predict()
                self._done.close()
            if self.failed:
                for pool in pools:
                    pool.close()  # whoever waits for one of its processes stops waiting
            for thread in self._threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def _start(self, name: str, work: Callable[[], None], *feeds: Channel[Any]) -> threading.Thread:
        """Start a thread, and return it. However it ends, it has closed the channels that it feeds."""

        def body() -> None:
            try:
                with self._guarded():
                    work()
            finally:
                for channel in feeds:
                    channel.close()

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Note an error of the block, and wake every thread that waits for what will not come."""
        try:
            yield
        except Aborted:
            return  # the reason is in the errors already
        except BaseException as error:
            self._errors.append(error)
            for abort in self._aborts:
                abort()

    def _read(self) -> None:
        for item in self._source():
            if self.stop.is_set() or self.failed:
                return
            self._items.put(item)

    def _decode_items(self) -> None:
        for item in self._items:
            if self.stop.is_set():
                continue
            for work in self._decode(item):
                if self.stop.is_set():
                    self.budget.release(work.cost)
                elif work.for_network is None:
                    self._done.put((work, None, ""))
                else:
                    self._ready.put(work)

    def _predict(self) -> None:
        if not self.networks:
            self._ready.take()  # nothing comes, but the end
        elif len(self.networks) == 1:
            self._share(self.networks[0])
        else:
            threads = [self._start("clue-network", partial(self._share, network)) for network in self.networks]
            for thread in threads:
                thread.join()

    def _share(self, network: Network) -> None:
        """Run a network over its share of the work; what it cannot compute is left to the others."""
        try:
            self._run_network(network)
        except NetworkLost as error:
            self._lost.append(network.device)
            if len(self._lost) == len(self.networks):
                raise ClueError(f"{error}. No device is left.", self._advice) from error
            self._warn(f"{error}. {network.device} is given up; the others go on.")
            self._ready.give_back(error.keys)
            self._ready.close()

    def _run_network(self, network: Network) -> None:
        first = self._ready.take()
        if first is None:
            return

        def images() -> Iterator[tuple[W, NDArray[np.uint8]] | None]:
            work: W | None = first
            while work is not None:
                pixels = work.for_network
                if self.stop.is_set() or pixels is None:
                    self.budget.release(work.cost)
                else:
                    yield work, pixels
                work = self._ready.poll()
                if work is None:
                    # The next image may wait for the memory of this one: what is begun must not wait for the next.
                    yield None
                    work = self._ready.take()

        warned = False
        for answer in network.predict(images()):
            self._done.put((answer.key, answer, network.device))
            if network.batch < network.asked and not warned:
                warned = True
                where, now = network.device, network.batch
                self._warn(f"Memory ran out on {where}: {now} tiles are computed at once from here on.")

    def _finish(self) -> None:
        for work, answer, device in self._done:
            self._sink(work, answer, device)
            self.budget.release(work.cost)


class Channel(Generic[T]):
    """A bounded first-in-first-out queue that knows when nothing more will come.

    Args:
        size: most things in it; `put` waits beyond that.
        producers: how many threads will call `close`, each once, when they have no more.
    """

    def __init__(self, size: int, producers: int = 1) -> None:
        self._size, self._open = size, producers
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._aborted = False

    def put(self, item: T) -> None:
        """Add one thing, waiting for room.

        Raises:
            Aborted: the channel was cut.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._items) < self._size)
            if self._aborted:
                raise Aborted
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """One producer has no more."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop everything and wake whoever waits."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()

    def take(self) -> T | None:
        """The next thing for a consumer that may give things back, None at the end of all.

        Such a consumer counts as a producer while it holds something: it is one of `producers`, comes here with empty
        hands, and the end has come when the others have none either.

        Raises:
            Aborted: the channel was cut.
        """
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._aborted or self._items or self._open <= 0)
            if self._aborted:
                raise Aborted
            if not self._items:
                return None
            self._open += 1
            return self._next()

    def poll(self) -> T | None:
        """The next thing if there is one; the same consumer, with things in its hands. Raises Aborted."""
        with self._changed:
            if self._aborted:
                raise Aborted
            return self._next() if self._items else None

    def give_back(self, items: list[T]) -> None:
        """Put things first in the row that were taken and not used; never waits."""
        with self._changed:
            self._items.extendleft(reversed(items))
            self._changed.notify_all()

    def _next(self) -> T:
        item = self._items.popleft()
        self._changed.notify_all()
        return item

    def __iter__(self) -> Iterator[T]:
        """Everything that is put in, until all producers have closed. Several consumers share the things.

        Raises:
            Aborted: the channel was cut.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._aborted or self._items or self._open <= 0)
                if self._aborted:
                    raise Aborted
                if not self._items:
                    return
                item = self._next()
            yield item


class Budget:
    """How many bytes of pixels and heatmaps may be in memory at once; one image larger than that may, alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()
        self._aborted = False

    def acquire(self, size: int) -> None:
        """Wait until `size` bytes fit, or nothing else is in memory.

        Raises:
            Aborted: the run was cut short.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._used == 0 or self._used + size <= self._limit)
            if self._aborted:
                raise Aborted
            self._used += size

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class Pending:
    """Counts the pages of a file still in flight.

    Args:
        finished: called once, when `done` has been called once for the file itself and once for each `add`.
    """

    def __init__(self, finished: Callable[[], None]) -> None:
        self._finished, self._open = finished, 1
        self._lock = threading.Lock()

    def add(self) -> Self:
        """One more page is in flight."""
        with self._lock:
            self._open += 1
        return self

    def done(self) -> None:
        """A page, or the reading of the file, is finished."""
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._finished()
