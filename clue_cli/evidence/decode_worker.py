"""The decoder's process: reads pictures from its standard input, writes pixels to what was its standard output.

Started by `decode_pool` as `python -P -m clue_cli.evidence.decode_worker MEMORY_BYTES`. It does not import the
neural network, ignores Ctrl-C (the parent decides), may not write files, and ends when its input does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from clue_cli.evidence.decode import Decoded, DecodeLimits, Page, PageCount, PageFailure, decode_pages
from clue_cli.evidence.wire import receive_bytes, receive_header, send_header

_STRIP_BYTES = 1 << 20  # pixels leave in strips of about this size, so that they are never copied as a whole

Decode = Callable[[bytes, str, DecodeLimits, bool, int], Iterator[Decoded]]


def serve(requests: BinaryIO, replies: BinaryIO, decode: Decode = decode_pages) -> None:
    """Answer requests until there are no more.

    A request is a header (`type`, `size`, `first_page`, `limits`, `gif_all_frames`) and the file's bytes. The answer
    is one header per page, followed by its pixels (H×W×3 bytes) if it has any, and `{"done": true}`; several pages are
    announced by their number.
    """
    send_header(replies, {"ready": True})
    replies.flush()
    while (request := receive_header(requests)) is not None:
        data = receive_bytes(requests, request["size"])
        if data is None:
            return
        limits = DecodeLimits(**request["limits"])
        grant_cpu_seconds(limits.seconds)
        started = time.monotonic()
        pages = decode(data, request["type"], limits, request["gif_all_frames"], request["first_page"])
        for page in pages:
            seconds = time.monotonic() - started
            if isinstance(page, PageFailure):
                send_header(replies, {"failure": page.as_message()})
            elif isinstance(page, PageCount):
                send_header(replies, {"page_count": page.page_count})
            else:
                _send_page(replies, page, seconds)
            replies.flush()
            grant_cpu_seconds(limits.seconds)
            started = time.monotonic()
        send_header(replies, {"done": True})
        replies.flush()


def _send_page(replies: BinaryIO, page: Page, seconds: float) -> None:
    width, height = page.image.size
    header: dict[str, Any] = {
        "page": page.page,
        "page_count": page.page_count,
        "width": width,
        "height": height,
        "orientation": page.orientation,
        "decoding": page.decoding,
        "findings": [finding.model_dump(mode="json") for finding in page.findings],
        "exif": page.exif.model_dump(),
        "seconds": seconds,
    }
    send_header(replies, header)
    rows = max(1, _STRIP_BYTES // (3 * width))
    for top in range(0, height, rows):
        replies.write(page.image.crop((0, top, width, min(top + rows, height))).tobytes())


def grant_cpu_seconds(seconds: float) -> None:
    """Let this process live for so much more processor time.

    The parent's clock comes first. This one is for a decoder that runs in circles while its parent is dead.
    """
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 2
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def confine(address_space: int) -> None:
    """Take from this process what a decoder does not need: memory without end, files to write, core dumps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        import resource

        for limit, value in (
            (resource.RLIMIT_AS, address_space),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(limit)
            wanted = value if hard < 0 else min(value, hard)
            resource.setrlimit(limit, (wanted, wanted))


def main(decode: Decode = decode_pages) -> None:
    """Serve on the standard streams; C libraries that print find the null device in their place."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=_STRIP_BYTES)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    confine(int(sys.argv[1]))
    serve(requests, replies, decode)


if __name__ == "__main__":
    main()
