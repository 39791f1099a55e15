"""One decoder process, seen from its parent: started, spoken to under a time limit, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from clue_cli.evidence.wire import WireError, receive_header, receive_into, send_header

if sys.platform == "linux":
    import fcntl

_WATCH_SECONDS = 0.2
_PIPE_BYTES = 1 << 20  # what an unprivileged user may ask for
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
_START_SECONDS = 60.0  # Python, Pillow and numpy from a cold, slow disk


class DecoderDied(Exception):
    """The process crashed or made no sense; the message says how, for a sentence that begins 'The decoder '."""


class DecoderTimeout(DecoderDied):
    """The process took too long and was killed."""


class DecodeProcess:
    """A decoder process that is started when it is first needed, and again after it died.

    Args:
        module: what it runs, `python -m` style.
        address_space: how much memory it may address, bytes.
    """

    def __init__(self, module: str, address_space: int) -> None:
        self._command = [sys.executable, "-P", "-m", module, str(address_space)]
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self.closed = False
        self._complaints: BinaryIO | None = None
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._expired = False

    def start(self) -> None:
        """Start the process if it does not run, without waiting for it; raises DecoderDied if it was closed."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        if self.closed:
            raise DecoderDied("was closed")
        self._complaints = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - stop() closes it
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
        )
        _widen(self._process.stdin, self._process.stdout)

    def await_ready(self) -> None:
        """Start the process if need be and wait until it listens; raises DecoderDied with its last words if not."""
        self.start()
        if self._ready:
            return
        try:
            header = self.receive(_START_SECONDS)
        except DecoderTimeout:
            raise
        except DecoderDied as error:
            raise DecoderDied(f"could not be started: {self._last_words() or error}") from error
        if header != {"ready": True}:
            raise DecoderDied("could not be started: it does not talk like one")
        self._ready = True

    def send(self, header: dict[str, Any], data: bytes, seconds: float) -> None:
        """Send a request and the file's bytes; raises DecoderDied."""
        with self._time_limit(seconds) as process:
            stream = cast(BinaryIO, process.stdin)
            send_header(stream, header)
            view = memoryview(data)
            while len(view):
                view = view[stream.write(view) :]

    def receive(self, seconds: float) -> dict[str, Any]:
        """The next header; raises DecoderDied."""
        with self._time_limit(seconds) as process:
            header = receive_header(cast(BinaryIO, process.stdout))
            if header is None:
                raise WireError("end of its output")
            return header

    def receive_into(self, view: memoryview, seconds: float) -> None:
        """Fill the view with what the process sends; raises DecoderDied."""
        with self._time_limit(seconds) as process:
            if not receive_into(cast(BinaryIO, process.stdout), view):
                raise WireError("end of its output")

    @contextmanager
    def _time_limit(self, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        """The process, killed after so many seconds: reading and writing then end, and DecoderTimeout is raised."""
        process = self._process
        if process is None:
            raise DecoderDied("does not run")
        with self._lock:
            self._deadline, self._expired = time.monotonic() + seconds, False
        failure: Exception | None = None
        try:
            yield process
        except (OSError, WireError) as error:
            failure = error
        finally:
            with self._lock:
                self._deadline = None
        if self._expired:
            raise DecoderTimeout(f"took longer than {seconds:g} seconds and was stopped") from failure
        if failure is not None:
            raise DecoderDied(self._how_it_ended(failure)) from failure

    def kill_if_late(self) -> None:
        """Kill the process if its time is up; for the watchdog."""
        with self._lock:
            if self._deadline is not None and time.monotonic() > self._deadline and self._process is not None:
                self._expired = True
                self._process.kill()

    def _how_it_ended(self, error: Exception) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)  # its output has ended; the process follows at once
        status = self._process.poll()
        if status is None or (isinstance(error, WireError) and status == 0):
            return f"sent nonsense ({error})"
        if status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
            hint = ", perhaps because memory ran out" if -status == signal.SIGKILL else ""
            return f"crashed (signal {name}{hint})"
        return f"ended with status {status}"

    def _last_words(self) -> str:
        if self._complaints is None:
            return ""
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Kill the process for good. Another thread may be talking to it: that one is to call `stop`."""
        self.closed = True
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Kill the process if it runs, and forget it. It holds nothing that could be lost."""
        self._ready = False
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process.wait()
            self._process = None
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None


def _widen(*pipes: IO[bytes] | None) -> None:
    """Let a pipe hold a small picture, so that the two processes need not take turns. Linux only, and not vital."""
    if sys.platform == "linux":
        for pipe in pipes:
            with suppress(OSError):  # the user's share of pipe memory may be used up
                fcntl.fcntl(cast(IO[bytes], pipe), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Watchdog(threading.Thread):
    """Kills the processes whose time is up, looking a few times a second: one thread, whatever the pace."""

    def __init__(self, processes: Sequence[DecodeProcess]) -> None:
        super().__init__(name="clue-decode-watchdog", daemon=True)
        self._processes = processes
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stopping.wait(_WATCH_SECONDS):
            for process in self._processes:
                process.kill_if_late()

    def stop(self) -> None:
        """Stop, and wait for it."""
        self._stopping.set()
        self.join()


def _environment() -> dict[str, str]:
    """What the process needs to find its modules and libraries, and nothing else: no keys, no proxies, no settings."""
    path = os.pathsep.join(entry for entry in sys.path if Path(entry).is_absolute())
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "PYTHONPATH": path,
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",  # the pool is the parallelism
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves address space for each thread's arena
    }
