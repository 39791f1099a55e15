"""A decoder process that misbehaves when a picture's pixels say so; to be given to `DecodePool(worker_module=…)`.

The first pixel of a page chooses: red 1 crashes it, red 2 hangs it, red 3 is an out-of-memory kill, red 4 prints to
stdout and stderr from a library, red 5 sends nonsense, red 6 claims more pixels than it sends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator

from clue_cli.evidence.decode import Decoded, DecodeLimits, Page, decode_pages
from clue_cli.evidence.decode_worker import main

CRASH, HANG, KILL, PRINT, NONSENSE, LIE = range(1, 7)


def misbehave(
    data: bytes, sniffed_type: str, limits: DecodeLimits, gif_all_frames: bool, first_page: int
) -> Iterator[Decoded]:
    for page in decode_pages(data, sniffed_type, limits, gif_all_frames, first_page):
        if isinstance(page, Page):
            pixel = page.image.getpixel((0, 0))
            assert isinstance(pixel, tuple)
            act(int(pixel[0]), page)
        yield page


def act(what: int, page: Page) -> None:
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
            object.__setattr__(page, "orientation", 99)
        case _ if what == LIE:
            object.__setattr__(page, "page_count", 0)


if __name__ == "__main__":
    main(misbehave)
