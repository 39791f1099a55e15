"""The threads of a run that hand work to each other, and how all of them end when one fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from clue_cli.engine.channel import Channel
from clue_cli.errors import Aborted


class Joint(Protocol):
    """What threads wait on."""

    def abort(self) -> None:
        """Wake whoever waits, with Aborted."""


class Threads:
    """Threads of which the first error ends all, so that none waits for what will not come.

    Args:
        joints: what the threads wait on; cut at the first error.

    Attributes:
        errors: what went wrong, in order; empty as long as nothing did.
    """

    def __init__(self, *joints: Joint) -> None:
        self._joints = joints
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, name: str, work: Callable[[], None], *feeds: Channel[Any]) -> threading.Thread:
        """Start a thread, and return it. However it ends, it has closed the channels that it feeds."""

        def body() -> None:
            try:
                with self.guarded():
                    work()
            finally:
                for channel in feeds:
                    channel.close()

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Note an error of the block and cut the joints; also for what the caller's own thread does."""
        try:
            yield
        except Aborted:
            return  # the reason is in the errors already
        except BaseException as error:
            self.errors.append(error)
            for joint in self._joints:
                joint.abort()

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join()

    def raise_first(self) -> None:
        """Raise the first error, if there was one."""
        if self.errors:
            raise self.errors[0]
