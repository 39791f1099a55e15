"""What connects the steps of a run: bounded channels between threads, and a budget of pixels in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from clue_cli.errors import Aborted

T = TypeVar("T")


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
