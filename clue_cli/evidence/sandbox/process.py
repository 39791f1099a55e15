"""One child process, seen from its parent: started, spoken to under a time limit, killed, started again."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from clue_cli.errors import ClueError
from clue_cli.evidence.sandbox.framing import FramingError, receive_header, receive_into, send_bytes, send_header

if sys.platform == "linux":
    import fcntl

WORKER = "clue_cli.evidence.sandbox.worker"
"""The module that a child runs."""

START_SECONDS = 60.0
"""Time to start Python, Pillow and numpy from a cold, slow disk."""

_PIPE_BYTES = 1 << 20  # what an unprivileged user may ask for
_WORDS_BYTES = 1 << 16  # of what it wrote on standard error, from the end
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")


class ChildDied(Exception):
    """The child crashed or made no sense; the message says how, for a sentence that begins with its name."""


class ChildTimeout(ChildDied):
    """The child took too long and was killed."""


@contextmanager
def checked() -> Iterator[None]:
    """Takes a reply that has not the form it should have for a death."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ChildDied(f"sent nonsense ({type(error).__name__})") from error


def whole(value: object, least: int, limit: int = 1 << 31) -> int:
    """The value, if it is an integer from `least` to below `limit`; raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < limit:
        raise ValueError(f"not a number from {least} on")
    return value


class Child:
    """A child process that is started when it is first needed, and again after it died.

    One thread may send while another receives.

    Args:
        module: what it runs, `python -m` style.
        setup: the first header it gets, each time it is started; it answers with its first own one (`ready`).
        inherit: whether it gets the parent's environment; if not, only what finds its modules and libraries: no keys,
            no proxies, no settings.

    Attributes:
        closed: it was killed for good.
        busy: it has not answered all of a request (`ask`), and can only be stopped.
    """

    def __init__(self, module: str, setup: dict[str, Any], *, inherit: bool = False) -> None:
        self._command, self._setup, self._inherit = [sys.executable, "-P", "-m", module], setup, inherit
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: _Pipe | None = None
        self._replies: _Pipe | None = None
        self._greeting: dict[str, Any] | None = None
        self.closed = self.busy = False

    def start(self) -> None:
        """Start the process if it does not run, without waiting for it; raises ChildDied if it was closed."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        if self.closed:
            raise ChildDied("was closed")
        try:
            self._complaints = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - stop() closes it
        except OSError as error:
            advice = "Let TMPDIR point to a folder with room, where you may write."
            raise ClueError(f"No temporary file can be made: {error.strerror or error}.", advice) from error
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            env=_environment(inherit=self._inherit),
            start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
        )
        self._requests = _Pipe(cast(BinaryIO, self._process.stdin), "POLLOUT")
        self._replies = _Pipe(cast(BinaryIO, self._process.stdout), "POLLIN")
        with suppress(OSError):  # `ready` finds out that it died
            send_header(cast(BinaryIO, self._requests), self._setup)

    def ready(self, seconds: float | None = None) -> dict[str, Any]:
        """Start the process if need be and wait until it listens.

        Returns:
            The first header it sent.

        Raises:
            ChildDied: it did not come so far; with its last words.
        """
        self.start()
        if self._greeting is None:
            try:
                self._greeting = self.receive(seconds)
            except ChildTimeout:
                raise
            except ChildDied as error:
                raise ChildDied(f"could not be started: it {error}") from error
        return self._greeting

    def ask(self, request: dict[str, Any], data: bytes, seconds: float) -> Iterator[dict[str, Any]]:
        """Send a request and its data, and yield the headers of the replies; the last one, `done`, is not yielded.

        Bytes that follow a header are to be taken with `receive_into` before the next one is asked for.

        Args:
            seconds: time for the request, and for each reply.

        Raises:
            ChildDied: it did not answer.
        """
        self.busy = True
        self.send(request, data, seconds)
        while not (reply := self.receive(seconds)).get("done"):
            yield reply
        self.busy = False

    def send(self, header: dict[str, Any], data: bytes | memoryview = b"", seconds: float | None = None) -> None:
        """Send a header and what follows it; raises ChildDied."""
        with self._time_limit(self._requests, seconds) as pipe:
            send_header(pipe, header)
            send_bytes(pipe, data)

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """The next header; raises ChildDied."""
        with self._time_limit(self._replies, seconds) as pipe:
            header = receive_header(pipe)
            if header is None:
                raise EOFError
            return header

    def receive_into(self, view: memoryview, seconds: float | None = None) -> None:
        """Fill the view with what the child sends; raises ChildDied."""
        with self._time_limit(self._replies, seconds) as pipe:
            if not receive_into(pipe, view):
                raise EOFError

    @contextmanager
    def _time_limit(self, pipe: _Pipe | None, seconds: float | None) -> Iterator[BinaryIO]:
        """The pipe, with its failures raised as ChildDied; after `seconds` the process is killed."""
        process = self._process
        if process is None or pipe is None:
            raise ChildDied("does not run")
        pipe.deadline = None if seconds is None else time.monotonic() + seconds
        # Where pipes cannot be waited for (Windows), the end of the process ends a read or a write.
        timer = None if seconds is None or pipe.can_wait else threading.Timer(seconds, process.kill)
        try:
            if timer:
                timer.start()
            yield cast(BinaryIO, pipe)
            if timer and not timer.is_alive():
                raise TimeoutError
        except TimeoutError as error:
            process.kill()
            raise ChildTimeout(f"took longer than {seconds:g} seconds and was stopped") from error
        except FramingError as error:
            raise ChildDied(f"sent nonsense ({error})") from error
        except (OSError, EOFError) as error:
            if timer and pipe.is_late():
                raise ChildTimeout(f"took longer than {seconds:g} seconds and was stopped") from error
            raise ChildDied(self._how_it_ended(process)) from error
        finally:
            if timer:
                timer.cancel()

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)  # its output has ended; the process follows at once
        status = process.poll()
        if status is None:
            return "sent nonsense (end of its output)"
        if status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
            hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
            return f"crashed (signal {name}{hint})"
        words = self._last_words()
        return f"ended with status {status}" + (f" ({words})" if words else "")

    def _last_words(self) -> str:
        self._complaints.seek(max(0, self._complaints.seek(0, os.SEEK_END) - _WORDS_BYTES))
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def kill(self) -> None:
        """Kill the process if it runs. Another thread may be talking to it; it gets ChildDied."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Kill the process for good, as `kill` does."""
        self.closed = True
        self.kill()

    def stop(self) -> None:
        """Kill the process if it runs, and forget it. No other thread may be talking to it."""
        self._greeting, self.busy = None, False
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (self._requests, self._replies):
                if pipe is not None:
                    pipe.close()
            self._complaints.close()


class _Pipe(io.RawIOBase):
    """A pipe that is read or written until `deadline` (monotonic seconds); after that it raises TimeoutError.

    Args:
        stream: the end of the pipe.
        event: what is waited for, by its name in `select`.

    Attributes:
        can_wait: whether the system can wait for a pipe; if not, the deadline is the caller's affair.
    """

    def __init__(self, stream: BinaryIO, event: str) -> None:
        self._stream = stream
        self.deadline: float | None = None
        self.can_wait = hasattr(select, "poll")
        if not self.can_wait:
            return
        os.set_blocking(stream.fileno(), False)
        if sys.platform == "linux":  # room for a small picture, so that the two processes need not take turns
            with suppress(OSError):  # the user's share of pipe memory may be used up
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(stream, getattr(select, event))

    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _wait(self) -> None:
        if not self.can_wait:
            return
        milliseconds = None if self.deadline is None else (self.deadline - time.monotonic()) * 1000
        if (milliseconds is not None and milliseconds <= 0) or not self._poll.poll(milliseconds):
            raise TimeoutError

    def readinto(self, view: Any) -> int | None:
        self._wait()
        return cast(io.RawIOBase, self._stream).readinto(view)

    def write(self, data: Any) -> int | None:
        self._wait()
        return self._stream.write(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _environment(*, inherit: bool) -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if Path(entry).is_absolute())
    found = {"PYTHONPATH": path, "PYTHONUTF8": "1"}
    if inherit:
        return {**os.environ, **found}
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **found,
        "OPENBLAS_NUM_THREADS": "1",  # the pool is the parallelism
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves address space for each thread's arena
    }
