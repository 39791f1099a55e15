"""Processor seconds by part: nothing is counted twice, and every name is one that clue has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.scripts.conftest import modules_of_scripts

with modules_of_scripts("scan_parts") as scripts:
    Clock, PARTS = scripts.scan_parts.Clock, scripts.scan_parts.PARTS


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_part_inside_another_is_counted_once_and_by_thread() -> None:
    clock = Clock()
    inner = clock.timed("inner", lambda: burn(0.08))

    def work() -> None:
        burn(0.04)
        inner()
        inner()

    outer = clock.timed("outer", work)
    threads = [threading.Thread(target=outer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds["outer"] == pytest.approx(0.08, abs=0.03)
    assert clock.seconds["inner"] == pytest.approx(0.32, abs=0.03)


def test_of_a_generator_only_its_own_steps_count() -> None:
    clock, closed = Clock(), []

    def steps() -> Iterator[int]:
        try:
            for number in range(3):
                burn(0.02)
                yield number
        finally:
            closed.append(True)

    running = clock.timed("steps", steps)()
    for _ in running:
        burn(0.05)
    assert clock.seconds["steps"] == pytest.approx(0.06, abs=0.03)
    running = clock.timed("steps", steps)()
    next(running)
    running.close()
    assert closed == [True, True]


def test_every_part_is_found_and_an_unknown_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import functools
    import importlib

    for places in PARTS.values():  # what attach() replaces is put back at the end
        for place in places:
            module, _, path = place.partition(":")
            *owners, last = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            monkeypatch.setattr(owner, last, getattr(owner, last))
    monkeypatch.setitem(PARTS, "gone", ("model.predictor:no_such_function", "no_such_module:name"))
    assert Clock().attach() == ["model.predictor:no_such_function", "no_such_module:name"]
