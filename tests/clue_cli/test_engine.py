"""One flow for a scan, a measurement and a calibration: all work arrives, memory is bounded, and an error ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from clue_cli import engine as flow
from clue_cli.engine import Budget, Channel, Flow, Pending
from clue_cli.errors import Aborted, ClueError
from clue_cli.networks import NetworkLost, Unpredicted
from model.predictor import OutOfMemory
from tests.clue_cli.networks.fake import Starved
from tests.clue_cli.noted import one_at_a_time

PIXELS = np.zeros((2, 2, 3), np.uint8)


@dataclass(frozen=True)
class Page:
    number: int
    predicted: bool = True
    cost: int = 5

    @property
    def for_network(self) -> Any:
        return PIXELS if self.predicted else None


class NoPool(nullcontext[None]):
    def close(self) -> None: ...


class Run:
    """Twelve items of two pages each, and what becomes of them."""

    def __init__(self, *networks: Any, stop: threading.Event | None = None) -> None:
        self.seen: dict[int, tuple[Any, str]] = {}
        self.warnings: list[str] = []
        self.flow = Flow(networks, self.read, self.decode, self.sink, self.warnings.append, stop=stop, decoders=2)

    def read(self) -> Iterator[int]:
        yield from range(12)

    def decode(self, item: int) -> Iterator[Page]:
        for number in (2 * item, 2 * item + 1):
            self.flow.budget.acquire(5)
            yield Page(number, predicted=bool(self.flow.networks) and number % 4 != 3)

    def sink(self, page: Page, answer: Any, device: str) -> None:
        self.seen[page.number] = answer, device

    def __call__(self) -> Run:
        before = threading.active_count()
        try:
            self.flow.run(NoPool())
        finally:
            assert threading.active_count() == before
        return self


class Lost(Starved):
    """Takes three images and is gone."""

    def predict(self, images: Iterable[Any]) -> Iterator[Any]:
        held = []
        for image in images:
            held += [] if image is None else [image[0]]
            if len(held) == 3 or image is None:
                raise NetworkLost("It burned down", held)
        yield


@pytest.mark.parametrize("devices", [(), ("a",), ("a", "b", "c")])
def test_all_work_arrives_once_with_its_answer(devices: tuple[str, ...]) -> None:
    run = Run(*map(Starved, devices))()
    assert sorted(run.seen) == list(range(24))
    for number, (answer, device) in run.seen.items():
        if devices and number % 4 != 3:
            assert isinstance(answer, OutOfMemory) and answer.key.number == number and device in devices
        else:
            assert (answer, device) == (None, "")


def test_items_are_read_while_the_network_runs() -> None:
    third = threading.Event()

    class Patient(Starved):
        def predict(self, images: Iterable[Any]) -> Iterator[Any]:
            for answer in super().predict(images):
                assert third.wait(60), "nothing is read while the network has an image"
                yield answer

    class Noted(Run):
        def read(self) -> Iterator[int]:
            for item in super().read():
                if item == 3:
                    third.set()
                yield item

    assert len(Noted(Patient())().seen) == 24


class Greedy(Starved):
    """Wants two images before it begins."""

    def predict(self, images: Iterable[Any]) -> Iterator[Any]:
        held: list[Any] = []
        for image in images:
            held += [] if image is None else [image]
            if image is None or len(held) == 2:
                yield from (Unpredicted(key, "why") for key, _ in held)
                held.clear()
        yield from (Unpredicted(key, "why") for key, _ in held)


@pytest.mark.parametrize("networks", [(), (Greedy(),), (Greedy(), Starved())])
def test_memory_is_bounded_and_the_network_does_not_wait_for_what_waits_for_it(
    networks: tuple[Starved, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of less than one image: one at a time, and all of it comes back."""
    held = one_at_a_time(monkeypatch)
    assert len(Run(*networks)().seen) == 24
    assert (max(held.most), held.now) == (1, [])


@pytest.mark.parametrize("error", [OSError("a disk that died"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("where", ["read", "decode", "sink", "predict"])
@pytest.mark.parametrize("devices", [0, 1, 2])
def test_what_fails_in_one_thread_ends_all(
    where: str, devices: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a budget of less than one image makes all others wait for memory."""

    def broken(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(flow, "PIXEL_BUDGET", 1)
    networks = [Starved() for _ in range(devices)]
    monkeypatch.setattr(Starved if where == "predict" else Run, where, broken)
    run = Run(*networks)
    if where == "predict" and not devices:
        assert len(run().seen) == 24
        return
    with pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert run.flow.failed
    assert all(network.aborted for network in networks)


def test_a_stop_drops_what_no_network_has_begun() -> None:
    stop = threading.Event()

    class Stopping(Run):
        def sink(self, page: Page, answer: Any, device: str) -> None:
            super().sink(page, answer, device)
            stop.set()

    run = Stopping(Starved(), stop=stop)()
    assert 1 <= len(run.seen) < 24
    assert not run.flow.failed


def test_what_a_lost_network_held_goes_to_the_others() -> None:
    run = Run(Lost("a"), Starved("b"))()
    assert sorted(run.seen) == list(range(24))
    assert run.warnings in ([], ["It burned down. a is given up; the others go on."])  # it may have come too late


@pytest.mark.parametrize("devices", [1, 2])
def test_without_networks_nothing_goes_on(devices: int) -> None:
    with pytest.raises(ClueError, match=r"It burned down\. No device is left\.") as error:
        Run(*(Lost() for _ in range(devices)))()
    assert "continues from there" in str(error.value.advice)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_several_producers_and_consumers_lose_and_double_nothing() -> None:
    channel: Channel[int] = Channel(3, producers=3)
    taken: list[list[int]] = [[], []]

    def produce(start: int) -> None:
        for number in range(start, start + 50):
            channel.put(number)
        channel.close()

    def consume(mine: list[int]) -> None:
        mine.extend(channel)

    consumers = [in_thread(lambda mine=mine: consume(mine)) for mine in taken]  # type: ignore[misc]
    for start in (0, 50, 100):
        in_thread(lambda start=start: produce(start))  # type: ignore[misc]
    for consumer in consumers:
        consumer.join(60)
    assert sorted(taken[0] + taken[1]) == list(range(150))


def test_a_full_channel_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    second_is_in = threading.Event()

    def put_second() -> None:
        channel.put(2)
        second_is_in.set()

    in_thread(put_second)
    assert not second_is_in.wait(0.05)
    assert next(iter(channel)) == 1
    assert second_is_in.wait(60)


def test_abort_ends_every_wait() -> None:
    full: Channel[int] = Channel(1)
    full.put(1)
    empty: Channel[int] = Channel(1)
    taken: Channel[int] = Channel(1, producers=2)
    budget = Budget(10)
    budget.acquire(10)
    waits: list[Callable[[], object]] = [
        lambda: full.put(2),
        lambda: list(empty),
        taken.take,
        lambda: budget.acquire(1),
    ]
    woken: list[Exception] = []

    def wait(action: Callable[[], object]) -> None:
        try:
            action()
        except Aborted as error:
            woken.append(error)

    threads = [in_thread(partial(wait, action)) for action in waits]
    for waited in (full, empty, taken, budget):
        waited.abort()
    for thread in threads:
        thread.join(60)
    assert len(woken) == 4
    for action in (*waits, taken.poll):
        with pytest.raises(Aborted):
            action()


def test_budget_admits_one_that_is_larger_than_itself_but_only_alone() -> None:
    budget = Budget(10)
    budget.acquire(50)
    admitted = threading.Event()

    def next_one() -> None:
        budget.acquire(4)
        admitted.set()

    in_thread(next_one)
    assert not admitted.wait(0.05)
    budget.release(50)
    assert admitted.wait(60)
    budget.acquire(6)  # 4 + 6 just fit


def test_a_file_is_finished_once_after_its_last_page() -> None:
    finished: list[int] = []
    file = Pending(lambda: finished.append(1))
    pages = [file.add(), file.add()]
    file.done()
    pages[0].done()
    assert finished == []
    pages[1].done()
    assert finished == [1]


def test_what_is_given_back_is_taken_by_another_although_all_else_has_ended() -> None:
    channel: Channel[int] = Channel(4, producers=3)  # one that feeds it, two that may give things back
    for number in (1, 2):
        channel.put(number)
    channel.close()
    assert channel.take() == 1
    assert channel.poll() == 2
    assert channel.poll() is None
    taken: list[int | None] = []
    other = threading.Thread(target=lambda: taken.extend(iter(channel.take, None)))
    other.start()  # waits: what was taken may come back
    channel.give_back([1, 2])
    channel.close()
    other.join(timeout=60)
    assert taken == [1, 2]


def test_two_that_hold_nothing_end_each_other() -> None:
    channel: Channel[int] = Channel(4, producers=3)
    channel.close()
    other = threading.Thread(target=channel.take)
    other.start()
    assert channel.take() is None
    other.join(timeout=60)
    assert not other.is_alive()
