"""Threads that hand work to each other end together, and the first error is the one that is told."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from clue_cli.engine.channel import Budget, Channel
from clue_cli.engine.threads import Threads


def test_what_is_made_arrives_and_the_channel_is_closed() -> None:
    numbers: Channel[int] = Channel(1, producers=2)
    threads = Threads(numbers)

    def put(start: int) -> None:
        for number in range(start, start + 5):
            numbers.put(number)

    for start in (0, 10):
        threads.start("maker", partial(put, start), numbers)
    assert sorted(numbers) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    threads.join()
    threads.raise_first()
    assert threads.errors == []


@pytest.mark.parametrize("error", [ValueError("first"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_in_one_ends_all(error: BaseException) -> None:
    """One waits to take, one to put, one for memory; none of these would ever come."""
    empty: Channel[int] = Channel(1)
    full: Channel[int] = Channel(1)
    full.put(0)
    budget = Budget(1)
    budget.acquire(1)
    threads = Threads(empty, full, budget)
    waiting = threading.Barrier(4, timeout=60)

    def take() -> None:
        waiting.wait()
        list(empty)

    def put() -> None:
        waiting.wait()
        full.put(1)

    def acquire() -> None:
        waiting.wait()
        budget.acquire(1)

    def fail() -> None:
        waiting.wait()
        raise error

    for work in (take, put, acquire, fail):
        threads.start(work.__name__, work)
    threads.join()
    assert threads.errors == [error]
    with pytest.raises(type(error)) as raised:
        threads.raise_first()
    assert raised.value is error


def test_an_error_of_the_caller_ends_the_others() -> None:
    empty: Channel[int] = Channel(1)
    threads = Threads(empty)

    def take() -> None:
        list(empty)

    threads.start("taker", take)
    with threads.guarded():
        raise ValueError("the caller's")
    threads.join()
    with pytest.raises(ValueError, match="the caller's"):
        threads.raise_first()


def test_a_thread_that_fails_closes_what_it_feeds() -> None:
    fed: Channel[int] = Channel(1)
    threads = Threads()  # nothing is cut, so that only the closing ends the wait

    def fail() -> None:
        raise ZeroDivisionError

    threads.start("feeder", fail, fed)
    assert list(fed) == []
    threads.join()
    assert [type(error) for error in threads.errors] == [ZeroDivisionError]
