"""Pictures on their way from memory to an object store."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from clue_cli.errors import OutputError
from clue_cli.results.remote.objects import THREADS, Objects

MOST_BYTES = 128 << 20
"""Bytes that may wait; who has more waits until there is room."""


class Uploads:
    """Writes objects in the background, several at a time. Thread-safe.

    Args:
        objects: where to.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="clue-upload")
        self._changed = threading.Condition()
        self._waiting: dict[str, int] = {}
        self._error: OutputError | None = None

    def add(self, name: str, content: bytes) -> None:
        """Have an object written; waits while too much is on its way, or an earlier object of this name is.

        Raises:
            OutputError: an object could not be written, this one or another.
        """
        with self._changed:
            while name in self._waiting or (self._waiting and sum(self._waiting.values()) + len(content) > MOST_BYTES):
                self._check()
                self._changed.wait()
            self._check()
            self._waiting[name] = len(content)
        self._pool.submit(self._write, name, content)

    def waiting(self, names: Iterable[str]) -> frozenset[str]:
        """Which of these objects are not confirmed yet."""
        with self._changed:
            return frozenset(name for name in names if name in self._waiting)

    def wait(self) -> None:
        """Return when every object is confirmed.

        Raises:
            OutputError: one could not be written.
        """
        with self._changed:
            while self._waiting:
                self._check()
                self._changed.wait()
            self._check()

    def fail(self, error: OutputError) -> None:
        """Let whoever adds or waits get this error from now on; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise OutputError if an object could not be written."""
        with self._changed:
            self._check()

    def close(self) -> None:
        """Begin no further object, and wait for those that were begun."""
        self._pool.shutdown(cancel_futures=True)

    def _check(self) -> None:
        if self._error is not None:
            raise OutputError(self._error.message, self._error.advice)

    def _write(self, name: str, content: bytes) -> None:
        try:
            self._objects.put(name, content)
        except OutputError as error:
            self.fail(error)
            return
        except BaseException as error:  # e.g. no memory: whoever waits must not wait for ever
            self.fail(OutputError(f"{self._objects.url.below(name).shown} cannot be written: {error!r}."))
            raise
        with self._changed:
            del self._waiting[name]
            self._changed.notify_all()
