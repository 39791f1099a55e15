"""A sandboxed child that misbehaves when a picture's pixels say so; to be given to `DecodePool(worker_module=…)`.

The first pixel of a page chooses: red 1 crashes it, red 2 hangs it, red 3 is an out-of-memory kill, red 4 prints to
stdout and stderr from a library, red 5 sends nonsense, red 6 claims more pages than there are. `say` replies as asked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from clue_cli.evidence.sandbox.worker import OPERATIONS, Reply, main, picture
from clue_cli.evidence.streams import DecodeLimits

CRASH, HANG, KILL, PRINT, NONSENSE, LIE = range(1, 7)


def misbehave(data: bytes, limits: DecodeLimits, **arguments: Any) -> Iterator[Reply]:
    for reply, pieces in picture(data, limits, **arguments):
        strips = list(pieces)
        if strips:
            act(strips[0][0], reply)
        yield reply, strips


def act(what: int, reply: dict[str, Any]) -> None:
    match what:
        case _ if what == CRASH:
            ctypes.string_at(0)
        case _ if what == HANG:
            signal.pause()
        case _ if what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case _ if what == PRINT:
            ctypes.CDLL(None).puts(b"pollution")
            ctypes.CDLL(None).fflush(None)
            sys.stdout.write("more pollution")
            sys.stderr.write("and on stderr")
        case _ if what == NONSENSE:
            reply["orientation"] = 99
        case _ if what == LIE:
            reply["page_count"] = 0


def say(data: bytes, limits: DecodeLimits, *, replies: list[dict[str, Any]]) -> Iterator[Reply]:
    for reply in replies:
        yield reply, (data,)


if __name__ == "__main__":
    main({**OPERATIONS, "picture": misbehave, "say": say})
