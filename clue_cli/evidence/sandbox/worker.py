"""The sandboxed child: reads hostile bytes for its parent, by named operations, and sends back pixels or members.

`pool` and `archives` start it as `python -P -m clue_cli.evidence.sandbox.worker`. It does not import the neural
network, may not write files, ignores Ctrl-C (the parent decides), and ends when its input does.
"""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clue_cli.evidence.decode import Page, PageCount, PageFailure, decode_pages
from clue_cli.evidence.opening import words
from clue_cli.evidence.sandbox.framing import receive_bytes, receive_header, send_header, standard_streams
from clue_cli.evidence.sandbox.members import members
from clue_cli.evidence.streams import DecodeLimits
from model.images.maps import png_levels
from model.images.masks import MaskStyle, marked
from model.images.pixels import FORMATS, read_header

_STRIP_BYTES = 1 << 20  # pixels leave in strips of about this size, so that they are never copied as a whole

Reply = tuple[dict[str, Any], Iterable[bytes | memoryview]]
"""A header and the bytes that follow it: an array of its `shape` and `dtype`, if it has these."""

Operation = Callable[..., Iterator[Reply]]
"""Called with the request's data, the limits, and the request's arguments by name. A failure is a reply, too."""


def picture(
    data: bytes,
    limits: DecodeLimits,
    *,
    sniffed_type: str,
    first_page: int,
    gif_all_frames: bool,
    as_evidence: bool = False,
) -> Iterator[Reply]:
    """The pages of a picture file, from `first_page` on; several are announced by their number, `page_count`."""
    for page in decode_pages(data, sniffed_type, limits, gif_all_frames, first_page, as_evidence):
        if isinstance(page, PageFailure):
            yield {"failure": page.as_message()}, ()
        elif isinstance(page, PageCount):
            yield {"page_count": page.page_count}, ()
        else:
            yield _page(page)


def mask(data: bytes, limits: DecodeLimits, *, style: MaskStyle) -> Iterator[Reply]:
    """What a mask of a style marks, 0 or 1 for each pixel as stored (`model.images.masks.marked`)."""

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > limits.max_megapixels:
                message = f"{megapixels:.4g} megapixels; the limit is {limits.max_megapixels:g} (--max-megapixels)."
                yield _failed(message)
                return
            white = marked(image, style)
    except MemoryError:
        yield _failed("Decoding needs more memory than it was given.")
    except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
        yield _unreadable("The mask is damaged or cut", error)
    else:
        yield _array(white.view(np.uint8))


def header(data: bytes, limits: DecodeLimits, *, path: str) -> Iterator[Reply]:
    """Width, height, format and signature of a picture file, of which most need not be read."""
    try:
        yield asdict(read_header(Path(path))), ()
    except Exception as error:  # as above
        yield _unreadable("Its header cannot be read", error, path)


def map_levels(data: bytes, limits: DecodeLimits, *, path: str) -> Iterator[Reply]:
    """The levels of a PNG file with another method's map, of 8 or 16 bits as they are stored."""
    try:
        levels = png_levels(Path(path), limits.max_megapixels)
    except Exception as error:  # as above
        yield _unreadable("The map cannot be read", error, path)
    else:
        yield _array(levels)


OPERATIONS: Mapping[str, Operation] = {"picture": picture, "mask": mask, "header": header, "map": map_levels}
"""What a parent can ask for, by name, beside `members`."""


def _page(page: Page) -> Reply:
    width, height = page.image.size
    reply = {
        "page": page.page,
        "page_count": page.page_count,
        "shape": (height, width, 3),
        "dtype": "uint8",
        "orientation": page.orientation,
        "decoding": page.decoding,
        "findings": [finding.model_dump(mode="json") for finding in page.findings],
        "exif": page.exif.model_dump(),
        "rows": page.rows,
        "missing": page.missing,
        "doubt": page.doubt,
        "thumbnail": None if page.thumbnail is None else _thumbnail(*page.thumbnail),
    }
    rows = max(1, _STRIP_BYTES // (3 * width))
    tops = range(0, height, rows)
    return reply, (page.image.crop((0, top, width, min(top + rows, height))).tobytes() for top in tops)


def _thumbnail(where: str, image: Image.Image) -> dict[str, Any]:
    return {"where": where, "size": image.size, "rgb": base64.b64encode(image.tobytes()).decode()}


def _array(levels: NDArray[np.uint8] | NDArray[np.uint16]) -> Reply:
    return {"shape": levels.shape, "dtype": str(levels.dtype)}, (np.ascontiguousarray(levels).data.cast("B"),)


def _failed(message: str) -> Reply:
    return {"failure": {"message": message}}, ()


def _unreadable(what: str, error: Exception, path: str = "") -> Reply:
    return _failed(f"{what}: {words(str(error).removeprefix(f'{path}: ')) or type(error).__name__}.")


def serve(requests: BinaryIO, replies: BinaryIO, operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Answer requests until there are no more.

    A request is a header (`operation`, its `arguments` by name, `limits`, and `size` in bytes of the data) and the
    data. The answer is the operation's replies, each with the `seconds` it took, and `{"done": true}`. The operation
    `members` also asks its parent for what it needs.
    """
    operations = {"members": partial(members, partial(_talk, requests, replies)), **operations}
    send_header(replies, {"ready": True})
    replies.flush()
    while (request := receive_header(requests)) is not None:
        data = receive_bytes(requests, request["size"])
        if data is None:
            return
        limits = DecodeLimits(**request["limits"])
        grant_cpu_seconds(limits.seconds)
        started = time.monotonic()
        for reply, pieces in operations[request["operation"]](data, limits, **request["arguments"]):
            send_header(replies, {**reply, "seconds": time.monotonic() - started})
            for piece in pieces:
                replies.write(piece)
            replies.flush()
            grant_cpu_seconds(limits.seconds)
            started = time.monotonic()
        send_header(replies, {"done": True})
        replies.flush()


def _talk(
    requests: BinaryIO, replies: BinaryIO, seconds: float, header: dict[str, Any], data: bytes
) -> tuple[dict[str, Any], bytes]:
    """Say something in the middle of an operation, and wait for the parent's answer and what follows it."""
    send_header(replies, header)
    replies.write(data)
    replies.flush()
    answer = receive_header(requests)
    content = None if answer is None else receive_bytes(requests, answer["size"])
    if answer is None or content is None:
        raise EOFError("the parent has gone")
    grant_cpu_seconds(seconds)
    return answer, content


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


def confine(address_space: int, file_size: int = 0) -> None:
    """Take from this process what it does not need: memory without end (bytes), files to write (but for files up to
    `file_size` bytes), core dumps."""
    with suppress(OSError):  # Linux: if memory runs out, this process ends, and not the scan
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    if sys.platform != "win32":
        import resource

        for limit, value in (
            (resource.RLIMIT_AS, address_space),
            (resource.RLIMIT_FSIZE, file_size),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(limit)
            wanted = value if hard < 0 else min(value, hard)
            resource.setrlimit(limit, (wanted, wanted))


def main(operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Serve on the standard streams, confined to the `address_space` that the parent's first header names."""
    requests, replies = standard_streams(silent=True)
    setup = receive_header(requests)
    if setup is not None:
        confine(setup["address_space"])
        Image.MAX_IMAGE_PIXELS = None  # the limits of the request are checked, and their messages name the option
        serve(requests, replies, operations)


if __name__ == "__main__":
    main()
