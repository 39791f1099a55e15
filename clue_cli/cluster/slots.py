"""Where workers run: a slot for each GPU or group of cores of each node, and one worker after the other in it.

A thread looks at the cluster every few seconds. It starts workers, also on nodes that join later, starts those again
that died, and gives slots up where the network cannot be loaded or workers die again and again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from clue_cli.cluster.worker import Failed, Worker
from clue_cli.errors import ClueError
from clue_cli.terminal import printable, sentence

DEATHS = 3
"""How often in a row a worker may die without having finished an item in between."""

PATIENCE = 60.0
"""Seconds to wait for a node when no worker is left, and before a sentence says that none could be placed."""

SILENT = 600.0
"""Seconds without an output of a worker that has items, before a sentence says so."""

_LOOK = 2.0
"""Seconds between two looks at the cluster."""

CONTINUES = "What was finished is recorded; the same command continues from there."


class Loss(Enum):
    """How a worker was lost, for a sentence that begins with it."""

    NODE = "was lost with its node, or cannot be reached"
    MEMORY = "was ended because its node ran out of memory"
    CRASH = "died"


def how_lost(error: Exception) -> Loss:
    """Whether the process itself crashed, for which an item of its may be the reason, or something else took it."""
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError) or "running low on memory" in str(error):
        return Loss.MEMORY
    if isinstance(error, exceptions.WorkerCrashedError):
        return Loss.CRASH
    if isinstance(error, exceptions.ActorDiedError) and not error.preempted:
        return Loss.CRASH if "worker process has died" in str(error) else Loss.NODE
    return Loss.NODE


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster that can have workers.

    Attributes:
        slots: how many.
        cores: of each worker.
        batches: whether its network computes several images at once.
    """

    id: str
    host: str
    slots: int
    cores: int
    batches: bool = False

    @property
    def decoders(self) -> int:
        """Decoding processes of each worker."""
        return max(1, min(4, self.cores // 2))

    @property
    def window(self) -> int:
        """Items in the hands of each worker: some are decoded, for each core one waits and one is with the network; of
        a GPU, enough for three batches of small images."""
        return self.decoders + (12 if self.batches else 2 * self.cores)


def nodes(device: str, cores: int) -> list[Node]:
    """The nodes that are alive and have a GPU, or `cores` cores, in an order that stays."""
    import ray

    found = []
    for entry in ray.nodes():  # type: ignore[no-untyped-call]
        has: dict[str, float] = entry["Resources"]
        count = int(has.get("GPU", 0)) if device == "cuda" else int(has.get("CPU", 0)) // cores
        if entry["Alive"] and count:
            each = cores if device == "cpu" else max(cores, int(has.get("CPU", 0)) // count)
            found.append(Node(entry["NodeID"], printable(entry["NodeManagerHostname"]), count, each, device == "cuda"))
    return found


@dataclass(slots=True, eq=False)
class Crew:
    """One worker process, from its start to its death.

    Attributes:
        held: items in its hands.
        heard: when it last sent something, or was given something after it had nothing.
        reserved: the item that is to be alone in it, if any.
    """

    slot: Slot
    actor: Any
    greeting: Any
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    dead: bool = False
    held: int = 0
    heard: float = 0.0
    reserved: object | None = None


@dataclass(slots=True, eq=False)
class Slot:
    """A place for a worker.

    Attributes:
        deaths: of workers here, since one of them has finished an item.
        proven: whether one ever has.
        given_up: for good.
        again: when the next worker may be started.
    """

    node: Node
    crew: Crew | None = None
    deaths: int = 0
    proven: bool = False
    given_up: bool = False
    again: float = 0.0


class Slots:
    """All slots of one run, and the thread that looks after them.

    Args:
        device: `cpu` or `cuda`.
        cores: of each worker.
        most: workers at once, None: as many as there is room for.
        setup: makes what workers on a node are started with.
        warn: called with a sentence.
        changed: guards everything here; notified of every change.

    Attributes:
        failure: why the run cannot go on, if so.
        loading: seconds that loading the network took, of the slowest worker.
    """

    def __init__(
        self,
        device: str,
        cores: int,
        most: int | None,
        setup: Callable[[Node], Any],
        warn: Callable[[str], None],
        changed: threading.Condition,
    ) -> None:
        self._device, self._cores, self._most, self._setup, self._warn = device, cores, most, setup, warn
        self._changed = changed
        self.all: list[Slot] = []
        self.failure: BaseException | None = None
        self.loading = 0.0
        self._unsaid: deque[str] = deque()  # what others note under the lock, the thread says
        self._refusal: Exception | None = None
        self._reason = ""
        self._said: set[str] = set()
        self._closed = threading.Event()
        self._working = self._living = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="clue-cluster", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._working = self._living = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        """End all workers; harmless when repeated."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        with self._changed:
            for slot in self.all:
                if slot.crew is not None:
                    self._kill(slot.crew)

    def ready(self) -> list[Crew]:
        """The workers that take items."""
        return [slot.crew for slot in self.all if slot.crew is not None and slot.crew.ready]

    def lost(self, crew: Crew, loss: Loss) -> None:
        """A worker is dead or cannot be reached: it gets nothing more, and another takes its place."""
        with self._changed:
            if crew.dead:
                return
            self._kill(crew)
            slot = crew.slot
            slot.again = time.monotonic() + 0.5 * (1 + slot.deaths)
            where = _where(slot.node)
            self._reason = f"The last worker, on {where}, {loss.value}"
            if loss is Loss.NODE:
                self._say(f"A worker on {where} {loss.value}; what it had goes to the others.")
            else:
                slot.deaths += 1
                if slot.deaths > DEATHS:
                    slot.given_up = True
                    self._say(f"A worker on {where} {loss.value} {slot.deaths} times in a row; it is given up.")
                else:
                    self._say(f"A worker on {where} {loss.value}; it is started again.")
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The run cannot go on."""
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    def _kill(self, crew: Crew) -> None:
        import ray

        crew.dead, crew.ready, crew.slot.crew = True, False, None
        with suppress(Exception):  # it is dead already, or the cluster is
            ray.kill(crew.actor)

    def _say(self, text: str) -> None:
        if text not in self._said and not self._closed.is_set():
            self._said.add(text)
            self._unsaid.append(text)

    def _speak(self) -> None:
        while self._unsaid:
            self._warn(self._unsaid.popleft())

    def _watch(self) -> None:
        try:
            looked = 0.0
            while not self._closed.is_set():
                now = time.monotonic()
                if now - looked > _LOOK:
                    self._place(nodes(self._device, self._cores))
                    looked = now
                self._start()
                self._greet()
                self._check()
                self._speak()
                with self._changed:
                    self._changed.wait(0.1 if any(slot.crew and not slot.crew.ready for slot in self.all) else 0.5)
            self._speak()
        except Exception as error:
            self.fail(ClueError(f"The cluster cannot be asked for its nodes: {error}.", CONTINUES))

    def _place(self, found: list[Node]) -> None:
        """Make slots on nodes that are new, and drop those of nodes that are gone."""
        with self._changed:
            alive = {node.id for node in found}
            for slot in [slot for slot in self.all if slot.node.id not in alive]:
                if slot.crew is not None:
                    self.lost(slot.crew, Loss.NODE)
                self.all.remove(slot)
            here = Counter(slot.node.id for slot in self.all)
            living = sum(not slot.given_up for slot in self.all)
            for number in range(max((node.slots for node in found), default=0)):  # one on each node before two on one
                for node in found:
                    if here[node.id] <= number < node.slots and (self._most is None or living < self._most):
                        self.all.append(Slot(node))
                        living += 1

    def _start(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for slot in self.all:
            if slot.crew or slot.given_up or time.monotonic() < slot.again or self._closed.is_set():
                continue
            needs = {"num_gpus": 1, "num_cpus": 0} if self._device == "cuda" else {"num_cpus": self._cores}
            actor: Any = ray.remote(Worker).options(
                **needs,
                max_restarts=0,
                max_concurrency=2 * slot.node.window + 2,
                scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node.id, soft=False),
            ).remote()  # fmt: skip
            with self._changed:
                slot.crew = Crew(slot, actor, actor.start.remote(self._setup(slot.node)))

    def _greet(self) -> None:
        """Take in the answers of workers that were started."""
        import ray
        from ray.exceptions import RayTaskError

        crews = {slot.crew.greeting: slot.crew for slot in self.all if slot.crew and not slot.crew.ready}
        if not crews:
            return
        for greeting in ray.wait([*crews], num_returns=len(crews), timeout=0)[0]:
            crew = crews[greeting]
            try:
                answer = ray.get(greeting)
            except Exception as error:
                if isinstance(error, RayTaskError) or getattr(error, "actor_init_failed", False):
                    said = str(error).strip().splitlines()[-1]  # such as: No module named 'clue_cli'
                    advice = "Install the same version of clue on each node."
                    self._refused(crew, _where(crew.slot.node), Failed("UsageError", f"{said}.", advice))
                else:
                    self.lost(crew, how_lost(error))
            else:
                self._welcome(crew, answer)

    def _welcome(self, crew: Crew, answer: dict[str, Any]) -> None:
        where = _where(crew.slot.node)
        if answer["failed"] is not None:
            self._refused(crew, where, Failed(*answer["failed"]))
            return
        here = versions()
        other = [f"{name} {value}" for name, value in answer["libraries"].items() if value != here.get(name)]
        with self._changed:
            if other and "libraries" not in self._said:
                self._said.add("libraries")
                self._say(
                    f"{where} has {printable(', '.join(other))}, this machine "
                    f"{', '.join(f'{name} {value}' for name, value in here.items())}: last digits of scores may differ."
                )
            self.loading = max(self.loading, answer["loading"])
            crew.ready = not crew.dead
            self._changed.notify_all()

    def _refused(self, crew: Crew, where: str, failed: Failed) -> None:
        with self._changed:
            self._refusal = failed.error(where)
            self._kill(crew)
            crew.slot.given_up = True
            advice = getattr(self._refusal, "advice", None)
            said = " ".join(filter(None, [sentence(self._refusal), advice]))
            self._say(f"No worker runs on {where}: {printable(said)}")
            self._changed.notify_all()

    def _check(self) -> None:
        """End the run if no worker is left, and none has come for a while; say what it waits for."""
        now = time.monotonic()
        ready = self.ready()
        for crew in ready:
            if crew.held and now - crew.heard > SILENT:  # no limit: a large picture on a slow device may take longer
                where = _where(crew.slot.node)
                self._say(
                    f"A worker on {where} has sent nothing for {SILENT / 60:.0f} minutes. If it hangs, end that "
                    "process (ray::Worker): what it has goes to another worker."
                )
        living = [slot for slot in self.all if not slot.given_up]
        if living:
            self._living = now
            if ready:
                self._working = now
            elif now - self._working > PATIENCE:
                waiting = sum(slot.crew is not None for slot in living)
                self._say(
                    f"No worker runs; {waiting} wait for free {'GPUs' if self._device == 'cuda' else 'cores'} on the "
                    "cluster, which other runs may hold, or load the network."
                )
        elif self._refusal is not None and all(not slot.deaths for slot in self.all):
            self.fail(self._refusal)
        elif now - self._living > PATIENCE:
            needs = "a GPU" if self._device == "cuda" else f"{self._cores} cores" if self._cores > 1 else "a core"
            self.fail(ClueError(f"{self._reason or f'The cluster has no node with {needs}'}.", CONTINUES))


def versions() -> dict[str, str | None]:
    """Of Python and of the libraries that decode and compute."""
    import platform

    from clue_cli.machine import library_versions

    return {"Python": platform.python_version(), **library_versions()}


def _where(node: Node) -> str:
    return f"{node.host} (node {node.id[:8]})"
