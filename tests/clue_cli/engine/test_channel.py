"""Channels, budget and pending files: bounded, complete, and never stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from clue_cli.engine.channel import Budget, Channel, Pending
from clue_cli.errors import Aborted


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
