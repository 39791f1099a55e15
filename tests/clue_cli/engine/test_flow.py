"""One flow for a scan, a measurement and a calibration: all work arrives, memory is bounded, and an error ends all."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from clue_cli.engine import flow
from clue_cli.engine.flow import Flow
from clue_cli.errors import ClueError
from clue_cli.networks import NetworkLost, Unpredicted
from model.predictor import OutOfMemory
from tests.clue_cli.engine.noted import one_at_a_time
from tests.clue_cli.networks.fake import Starved

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
