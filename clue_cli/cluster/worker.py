"""A worker on a node of the cluster: an actor with a `Flow` of its own.

Items come as bytes, outputs leave as bytes, in the order in which they are finished, numbered by the work within the
item: the driver drops by these numbers what it has already. A worker writes nothing but the embeddings of a query, to
a temporary file, and Ray ends it.
"""

from __future__ import annotations

import pickle
import platform
import queue
import socket
import tempfile
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clue_cli import __version__
from clue_cli.engine import Flow, Part, Pending, pixel_budget
from clue_cli.errors import ClueError, UsageError, WeightsError
from clue_cli.machine import library_versions, limit_cores

_WAITING = 4
"""Outputs of one item that wait for the driver."""


@dataclass(frozen=True, slots=True)
class Output:
    """What came of one work of an item, pickled."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """All outputs of an item have come."""


class WorkerFailed(Exception):
    """A defect in what workers run."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker is of no more use.

    Attributes:
        kind: name of the exception's class, of which `ClueError`s are made again.
        details: the traceback.
    """

    kind: str
    message: str
    advice: str | None = None
    details: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """What to send of an exception: not itself, since it may not survive that."""
        if isinstance(error, ClueError):
            return cls(type(error).__name__, error.message, error.advice)
        details = "".join(traceback.format_exception(error))
        return cls("", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:1000]}", None, details)

    def error(self, host: str) -> Exception:
        """The exception to raise at the driver, which gets details of a defect as its cause."""
        if self.kind:
            kinds = {"WeightsError": WeightsError, "UsageError": UsageError}
            return kinds.get(self.kind, ClueError)(self.message, self.advice)
        error = WorkerFailed(f"a worker on {host} failed: {self.message}")
        error.__cause__ = RuntimeError(self.details) if self.details else None
        return error


@dataclass(slots=True)
class _Held:
    """An item in the hands of this worker."""

    item: Any
    outbox: queue.Queue[Output | End] = field(default_factory=lambda: queue.Queue(_WAITING))
    pending: Pending = field(init=False)
    dropped: bool = False

    def __post_init__(self) -> None:
        self.pending = Pending(lambda: self.put(End()))

    def put(self, message: Output | End) -> None:
        while not self.dropped:
            try:
                return self.outbox.put(message, timeout=1)
            except queue.Full:
                continue


@dataclass(slots=True, eq=False)
class _Numbered:
    """The work of an item with its number."""

    work: Any
    held: _Held
    index: int
    cost: int

    @property
    def for_network(self) -> Any:
        """As the work's own; None once its item was dropped."""
        return None if self.held.dropped else self.work.for_network


class _Started(AbstractContextManager[Any]):
    """A pool that runs already, for `Flow.run`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __exit__(self, *error: object) -> None:
        self._pool.__exit__(None, None, None)

    def close(self) -> None:
        self._pool.close()


class Worker:
    """The actor. Nothing happens before `start`, whose answer says what went wrong."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Held] = queue.SimpleQueue()
        self._open: dict[int, _Held] = {}
        self._failed: Failed | None = None
        self._part: Part[Any, Any, Any] | None = None

    def start(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Load the network, and start what the part needs.

        Args:
            setup: as `RayWorkers` makes it: plain values and bytes, so that an answer is possible whatever differs.

        Returns:
            Host and versions of this node; `loading`, in seconds; `failed`, a `Failed` as a tuple, or None.
        """
        answer: dict[str, Any] = {"host": socket.gethostname(), "loading": 0.0, "failed": None}
        answer |= {"libraries": {"Python": platform.python_version(), **library_versions()}}
        try:
            if setup["clue"] != __version__:
                raise UsageError(
                    f"clue {__version__} is installed there, {setup['clue']} here.", "Install the same version."
                )
            answer["loading"] = self._start(setup)
        except Exception as error:
            said = Failed.of(error)
            answer["failed"] = (said.kind, said.message, said.advice, said.details)
        return answer

    def _start(self, setup: dict[str, Any]) -> float:
        import torch

        from clue_cli.networks.local import LocalNetwork
        from clue_cli.networks.worker import chosen_method, chosen_network

        limit_cores(setup["cores"])
        torch.set_num_threads(setup["cores"])
        self._part = part = pickle.loads(setup["part"])
        networks = []
        if (chosen := setup["network"]) is not None:
            if setup["prompt"] is not None:
                with tempfile.NamedTemporaryFile("wb", suffix=".safetensors", delete=False) as file:
                    file.write(setup["prompt"])
                chosen = chosen | {"prompt": file.name}
            try:
                network = LocalNetwork(*chosen_network(chosen), chosen_method(chosen))
                network.load()
            finally:
                if setup["prompt"] is not None:
                    Path(chosen["prompt"]).unlink(missing_ok=True)
            networks.append(network)
        pool = part.open(setup["decoders"])
        pool.__enter__()
        flow: Flow[_Held, _Numbered] = Flow(
            networks,
            lambda: self._source(flow),
            lambda held: self._decode(held, pool, flow),
            self._finish,
            lambda sentence: None,  # that memory ran out costs time only
            decoders=setup["decoders"],
            budget=pixel_budget(setup["share"]),
        )
        threading.Thread(target=self._run, args=(flow, pool, setup["cores"]), name="clue-flow", daemon=True).start()
        return networks[0].loading if networks else 0.0

    def _run(self, flow: Flow[_Held, _Numbered], pool: Any, cores: int) -> None:
        import torch

        torch.set_num_threads(cores)  # of this thread, which computes
        try:
            flow.run(_Started(pool))
            self._failed = Failed("", "the flow ended")
        except BaseException as error:
            self._failed = Failed.of(error)

    def _source(self, flow: Flow[_Held, _Numbered]) -> Iterator[_Held]:
        """Items as they come, until something fails; there is no other end."""
        while not flow.failed:
            with suppress(queue.Empty):
                yield self._inbox.get(timeout=0.5)

    def _decode(self, held: _Held, pool: Any, flow: Flow[_Held, _Numbered]) -> Iterator[_Numbered]:
        assert self._part is not None
        works = self._part.decode(held.item, pool, flow.budget)
        for index, work in enumerate(works):
            if held.dropped:
                flow.budget.release(work.cost)
                if isinstance(works, Generator):
                    works.close()
                break
            held.pending.add()
            yield _Numbered(work, held, index, work.cost)
        held.pending.done()

    def _finish(self, numbered: _Numbered, answer: Any, device: str) -> None:
        assert self._part is not None
        held = numbered.held
        if not held.dropped:
            if answer is not None:
                answer = replace(answer, key=numbered.work)
            output = self._part.finish(numbered.work, answer, device)
            held.put(Output(numbered.index, pickle.dumps(output, pickle.HIGHEST_PROTOCOL)))
        held.pending.done()

    def run(self, number: int, item: bytes) -> Iterator[tuple[Any, ...]]:
        """The outputs of one item as `(index, bytes)`; at the end `()`, or a `Failed` as a tuple of four."""
        try:
            held = self._open[number] = _Held(pickle.loads(item))
        except Exception as error:
            self._failed = Failed.of(error)
        else:
            self._inbox.put(held)
            while self._failed is None or not held.outbox.empty():
                try:
                    message = held.outbox.get(timeout=0.5)
                except queue.Empty:
                    if held.dropped:
                        break
                    continue
                if isinstance(message, End):
                    break
                yield message.index, message.data
            else:
                held.dropped = True
            del self._open[number]
            if not held.dropped:
                yield ()
                return
        if self._failed is not None:
            yield self._failed.kind, self._failed.message, self._failed.advice, self._failed.details

    def drop(self, number: int) -> None:
        """Stop work on an item: its further outputs are not needed."""
        if (held := self._open.get(number)) is not None:
            held.dropped = True
