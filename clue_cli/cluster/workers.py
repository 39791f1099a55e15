"""The workers of one run, as the driver sees them: items go to them, what is lost goes to another one.

Each thread of the driver that calls `run` has one item, and keeps it until all outputs have come. A worker that goes
with its node costs a retry. One whose process crashed or ran out of memory may have died of one of its items: each of
them is computed again alone, so that the one that kills workers is known, and it alone gets a failure.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clue_cli import __version__
from clue_cli.cluster import ItemLost
from clue_cli.cluster.slots import CONTINUES, Crew, Loss, Node, Slot, Slots, how_lost
from clue_cli.cluster.worker import Failed
from clue_cli.engine import Budget
from clue_cli.errors import Aborted, ClueError

_ALONE = 2
"""How many workers may die of an item that was alone in them."""
_LOSSES = 10
"""How many workers may be lost with an item in whatever way."""
_INLINE = 64 << 10  # bytes that go with the call; more goes through the object store, once
_AHEAD = 4  # outputs of one item on their way to the driver
_FULL = 6  # how often in a row the object store may be full


class _Lost(Exception):
    """The worker that had an item was lost."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss


class _Full(Exception):
    """The object store had no room."""


@dataclass(slots=True, eq=False)
class _Trouble:
    """What has happened to one item."""

    suspect: bool = False
    losses: int = 0
    crashes: int = 0  # alone
    alone: list[Slot] = field(default_factory=list)
    reserved: Crew | None = None


class RayWorkers:
    """`Workers` on a Ray cluster.

    Args:
        part: pickled.
        network: as `worker.chosen_network` reads it; None: all work passes it by.
        prompt: the embeddings that take the place of the model's own prompt.
        device, cores, most: as of `Slots`.
        at_once: threads that will call `run`.
        in_flight: bytes of items under way.
        warn: called with a sentence.
    """

    def __init__(
        self,
        part: bytes,
        network: dict[str, Any] | None,
        prompt: Path | None,
        device: str,
        cores: int,
        most: int | None,
        at_once: int,
        in_flight: int,
        warn: Callable[[str], None],
    ) -> None:
        self.at_once, self.loading = at_once, 0.0
        self._part, self._network, self._most = part, network, most
        self._prompt = None if prompt is None else prompt.read_bytes()
        self._changed = threading.Condition()
        self._slots = Slots(device, cores, most, self._setup, warn, self._changed)
        self._budget = Budget(in_flight)
        self._numbers = itertools.count()
        self._begun = self._closed = False
        self._limit, self._running = at_once, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers; who waits in `run` gets Aborted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._budget.abort()
        self._slots.close()

    def _setup(self, node: Node) -> dict[str, Any]:
        """What a worker on a node is started with."""
        share = node.slots if self._most is None else min(node.slots, self._most)
        setup = {"clue": __version__, "cores": node.cores, "decoders": node.decoders, "share": share}
        return setup | {"part": self._part, "network": self._network, "prompt": self._prompt}

    def run(self, item: Any, size: int) -> Iterator[Any]:
        """As of `Workers`. Closing the iterator drops the rest of the item."""
        self._begin()
        self._budget.acquire(size)
        try:
            yield from self._outputs(item)
        finally:
            self._budget.release(size)

    def _begin(self) -> None:
        with self._changed:
            if not self._begun and not self._closed:
                self._begun = True
                self._slots.begin()

    def _outputs(self, item: Any) -> Iterator[Any]:
        """All outputs of an item, from as many workers as it takes."""
        trouble, seen, full = _Trouble(), set[int](), 0
        data: Any = None
        while True:
            crew = self._take(trouble)
            finished = False
            try:
                if data is None:
                    data = _stored(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
                for index, output in self._attempt(crew, data):
                    if index not in seen:
                        seen.add(index)
                        yield pickle.loads(output)
                finished = True
                return
            except _Full as error:
                full += 1
                self._wait_for_room(full, error)
            except _Lost as error:
                if error.loss is not Loss.NODE and crew.reserved is trouble:
                    trouble.alone.append(crew.slot)
                    trouble.crashes += error.loss is Loss.CRASH
                trouble.suspect |= error.loss is not Loss.NODE
                trouble.losses += 1
                self._give_up(trouble, error.loss)
            finally:
                self._give_back(crew, trouble, finished=finished)

    def _give_up(self, trouble: _Trouble, loss: Loss) -> None:
        """Raise ItemLost if this item has killed enough workers."""
        alone = len(trouble.alone) >= _ALONE
        if not alone and trouble.losses < _LOSSES:
            return
        with self._changed:
            for slot in trouble.alone:
                if slot.proven and trouble.crashes:  # memory may be wanting for other reasons, and for the next item
                    slot.deaths = 0  # there was a reason, and it was not the slot
        if alone:
            hosts = " and ".join(sorted({slot.node.host for slot in trouble.alone}))
            how = "died" if trouble.crashes else "ran out of memory"
            raise ItemLost(f"The worker process {how} {_ALONE} times with this file alone in it, on {hosts}.")
        raise ItemLost(f"{trouble.losses} workers were lost with this file; the last one {loss.value}.")

    def _take(self, trouble: _Trouble) -> Crew:
        """Wait for a worker that has room, or, for an item under suspicion, one that has nothing else."""
        with self._changed:
            while True:
                self._raise_if_over()
                crew = self._choose_alone(trouble) if trouble.suspect else self._choose()
                if crew is not None:
                    crew.heard = crew.heard if crew.held else time.monotonic()
                    crew.held += 1
                    self._running += 1
                    return crew
                self._changed.wait(1)

    def _choose(self) -> Crew | None:
        if self._running >= self._limit:
            return None
        crews = [crew for crew in self._slots.ready() if crew.reserved is None and crew.held < crew.slot.node.window]
        return min(crews, key=lambda crew: crew.held, default=None)

    def _choose_alone(self, trouble: _Trouble) -> Crew | None:
        """Reserve the worker that is empty soonest, not where the item has been alone before if there is another."""
        if trouble.reserved is None or trouble.reserved.dead:
            trouble.reserved = None
            been = set(map(id, trouble.alone))
            others = any(not slot.given_up and id(slot) not in been for slot in self._slots.all)
            crews = [crew for crew in self._slots.ready() if crew.reserved is None]
            crews = [crew for crew in crews if not others or id(crew.slot) not in been]
            if (crew := min(crews, key=lambda crew: crew.held, default=None)) is not None:
                crew.reserved, trouble.reserved = trouble, crew
        return trouble.reserved if trouble.reserved is not None and trouble.reserved.held == 0 else None

    def _give_back(self, crew: Crew, trouble: _Trouble, *, finished: bool) -> None:
        with self._changed:
            crew.held -= 1
            self._running -= 1
            self.loading = self._slots.loading
            if crew.reserved is trouble:
                crew.reserved = trouble.reserved = None
            if finished:
                crew.slot.deaths, crew.slot.proven = 0, True
                self._limit = min(self._limit + 1, self.at_once)
            self._changed.notify_all()

    def _raise_if_over(self) -> None:
        if self._closed:
            raise Aborted
        if self._slots.failure is not None:
            raise self._slots.failure

    def _attempt(self, crew: Crew, data: Any) -> Iterator[tuple[int, bytes]]:
        """The outputs of an item from one worker."""
        from ray import exceptions

        number, ended = next(self._numbers), False
        try:
            method = crew.actor.run.options(num_returns="streaming", _generator_backpressure_num_objects=_AHEAD)
            stream = method.remote(number, data)
            while True:
                message = self._next(stream)
                crew.heard = time.monotonic()
                if len(message) == 2:
                    yield message
                    continue
                ended = True
                if message:
                    self._failed(crew, Failed(*message))
                return
        except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
            raise _Full(_short(error)) from error
        except exceptions.RayTaskError as error:  # a worker sends what fails in it
            ended = True
            self._slots.fail(Failed("", _short(error), None, str(error)).error(crew.slot.node.host))
            self._raise_if_over()
        except exceptions.RayError as error:
            ended = True
            self._raise_if_over()
            loss = how_lost(error)
            self._slots.lost(crew, loss)
            raise _Lost(loss) from error
        finally:
            if not ended and not crew.dead:
                with suppress(Exception):
                    crew.actor.drop.remote(number)

    def _next(self, stream: Any) -> tuple[Any, ...]:
        """The next message of a worker; raises what Ray raises, or Aborted."""
        import ray

        while not ray.wait([stream], timeout=1)[0]:
            self._raise_if_over()
        try:
            reference = next(stream)
        except StopIteration:  # it ends by a message
            raise ray.exceptions.RayError("the stream ended") from None
        while True:
            try:
                message: tuple[Any, ...] = ray.get(reference, timeout=1)
                return message
            except ray.exceptions.GetTimeoutError:
                self._raise_if_over()

    def _failed(self, crew: Crew, failed: Failed) -> None:
        """An exception has ended the worker: that of a defect, which all of them have, ends the run."""
        self._raise_if_over()
        self._slots.fail(failed.error(crew.slot.node.host))
        self._raise_if_over()

    def _wait_for_room(self, times: int, error: Exception) -> None:
        """Let fewer items be under way, and wait; raises ClueError if that has not helped."""
        if times > _FULL:
            raise ClueError(
                f"The object store of the cluster is full: {error}",
                f"Start Ray with a larger one (--object-store-memory), or free its disk. {CONTINUES}",
            )
        with self._changed:
            self._limit = max(1, min(self._limit, self._running) // 2)
        until = time.monotonic() + 0.5 * 2**times
        with self._changed:
            while (rest := until - time.monotonic()) > 0:
                self._raise_if_over()
                self._changed.wait(min(rest, 1))


def _stored(data: bytes) -> Any:
    """The bytes, or a reference to them in the object store; raises _Full."""
    import ray
    from ray import exceptions

    if len(data) < _INLINE:
        return data
    try:
        return ray.put(data)
    except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
        raise _Full(_short(error)) from error


def _short(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1].strip() if lines else type(error).__name__)[:500]
