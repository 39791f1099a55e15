"""One run at a time writes below a URL.

The lock is an object that is made only if it does not exist (a conditional write), and says who holds it. Its holder
rewrites it every `BEAT` seconds. A lock is taken over if the process that holds it is gone from this machine, or if no
sign of life comes while it is watched: a comparison of clocks alone decides nothing, because clocks of two machines
differ. A holder that finds another's lock in the place of its own stops. Whoever still believes to hold it cannot
damage the log, whose segments are never replaced (`segments`).
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from clue_cli.errors import OutputError
from clue_cli.results.remote.objects import Objects
from clue_cli.terminal import printable

BEAT = 20.0
"""Seconds between two signs of life."""

FRESH = 3 * BEAT
"""A lock with a younger sign of life, by the clocks, is not even watched."""

_WATCH = 1.0


class Holder(BaseModel):
    """The content of a lock.

    Attributes:
        token: random, of one run.
        host: name of the machine.
        process: its number there.
        machine: tells machines, boots and containers apart, where that is known.
        started, seen: ISO 8601: when the lock was taken, and the latest sign of life.
    """

    token: str
    host: str
    process: int
    machine: str | None = None
    started: str
    seen: str


class RemoteLock:
    """The lock of one run.

    Args:
        objects: the prefix.
        name: of the object.
        lost: called once, from another thread, with what to say if the lock is no longer this run's.

    Attributes:
        is_lost: whether it is no longer this run's, as far as is known.
    """

    def __init__(self, objects: Objects, name: str, lost: Callable[[OutputError], None]) -> None:
        self._objects, self._name, self._lost = objects, name, lost
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_lost = False
        self._own = Holder(
            token=secrets.token_hex(16),
            host=printable(platform.node())[:100] or "?",
            process=os.getpid(),
            machine=_machine(),
            started=_now(),
            seen=_now(),
        )

    def acquire(self, busy: str, advice: str) -> None:
        """Take the lock, and give signs of life until `release`.

        Args:
            busy: says that another process holds it.
            advice: what to do then.

        Raises:
            OutputError: another process does, the store refuses, or it cannot keep two processes apart.
        """
        self._objects.remove([f"{self._name}.probe"])  # never there: whether deleting is allowed must be known now
        for _ in range(3):
            if self._objects.create(self._name, self._content()):
                self._check_exclusive()
                break
            former = self._read()
            if former is not None and not _is_gone(former):
                self._watch(former, busy)
            if self._read() == former:
                self._objects.remove([self._name])
        else:
            raise OutputError(busy, advice)
        self._thread = threading.Thread(target=self._beat, name="clue-lock", daemon=True)
        self._thread.start()

    def _check_exclusive(self) -> None:
        if self._objects.create(self._name, b""):
            self._objects.remove([self._name])
            raise OutputError(
                f"The store of {self._objects.url.shown} replaces objects that must only be made if they do not exist: "
                "it ignores conditional writes (If-None-Match), so that two scans could damage each other's results.",
                "Update the store, or write to a local folder with --out and copy that into the store.",
            )

    def check(self) -> None:
        """Raise OutputError if the lock is not this run's any more."""
        found = self._read()
        if self._is_own(found):
            return
        self.is_lost = True
        by = f" by process {found.process} on {printable(found.host)}" if isinstance(found, Holder) else ""
        what = "deleted" if found is None else f"taken{by}"
        message = f"The lock of {self._objects.url.shown} was {what} while this scan was writing there."
        raise OutputError(message, "Let only one scan at a time write there.")

    def release(self) -> None:
        """Give no more signs of life, and remove the lock if it is still this run's; harmless when repeated.

        Raises:
            OutputError: it cannot be removed.
        """
        self._done.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._is_own(self._read()):
            self._objects.remove([self._name])

    def _content(self) -> bytes:
        return self._own.model_copy(update={"seen": _now()}).model_dump_json(indent=2).encode() + b"\n"

    def _read(self) -> Holder | bytes | None:
        content = self._objects.get(self._name)
        try:
            return None if content is None else Holder.model_validate_json(content)
        except ValidationError:
            return content

    def _is_own(self, found: Holder | bytes | None) -> bool:
        return isinstance(found, Holder) and found.token == self._own.token

    def _watch(self, former: Holder | bytes, busy: str) -> None:
        """Return when a lock gives no sign of life; raise OutputError if it does."""
        lock = self._objects.url.below(self._name).shown
        if isinstance(former, bytes):
            raise OutputError(f"{busy} Its lock {lock} cannot be understood.", f"If nothing does, delete {lock}.")
        shown = former.model_copy(update={"host": printable(former.host), "started": printable(former.started)})
        held = f"{busy} It is process {shown.process} on {shown.host}, since {shown.started}."
        advice = (
            "Wait until it is done, or choose another --out. If it was killed, repeat the command in "
            f"{FRESH:.0f} seconds, or delete {lock}."
        )
        age = _age(former.seen)
        if age is not None and abs(age) < FRESH:
            raise OutputError(held, advice)
        until = time.monotonic() + 2 * BEAT
        while time.monotonic() < until:
            time.sleep(_WATCH)
            if self._read() != former:
                raise OutputError(held, advice)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            try:
                self.check()
                self._objects.put(self._name, self._content())
            except OutputError as error:  # the store fails, which whoever writes there finds out, or the lock is lost
                if self.is_lost:
                    self._lost(error)
                    return


def _is_gone(holder: Holder | bytes) -> bool:
    """Whether the process that holds a lock was on this machine and has ended."""
    if holder == b"":  # that of a local folder which was copied into the store
        return True
    if isinstance(holder, bytes) or holder.machine is None or holder.machine != _machine():
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str | None:
    """One boot of one machine, or one container on it; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _age(moment: str) -> float | None:
    """Seconds since a moment by this machine's clock; None if it is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return None
