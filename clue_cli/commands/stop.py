"""Ctrl-C in two steps: the first stops gracefully, the second immediately."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; the second raises `KeyboardInterrupt`.

    Only the main thread can receive signals; elsewhere the event is never set by one. The former handlers are put
    back at the end.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not through a buffered stream: the signal may have come in the middle of writing to it.
        _tell(b"\nStopping once the work in progress is finished. Press Ctrl-C again to stop at once.\n")

    former = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _tell(message: bytes) -> bool:
    """Write to stderr; False if it is closed, which is no reason not to stop in good order."""
    try:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message)
    except OSError:
        return False
    return True
