"""The protocol between a child process and its parent: a JSON header, then raw bytes. Never pickle.

A child that reads hostile bytes might be taken over by them, so the parent trusts nothing it sends: every length is
bounded here, and whoever reads a header checks what is in it.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")
_BUFFER = 1 << 20
HEADER_LIMIT = 1 << 20
"""Longest header that is read, bytes."""


class FramingError(Exception):
    """What the other side sent is no header."""


def send_header(stream: BinaryIO, header: dict[str, Any]) -> None:
    """Write one header. The caller writes what follows it."""
    text = json.dumps(header).encode()
    send_bytes(stream, _LENGTH.pack(len(text)) + text)


def send_bytes(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of the data, also to an unbuffered stream."""
    view = memoryview(data)
    while len(view):
        view = view[stream.write(view) or 0 :]


def receive_header(stream: BinaryIO) -> dict[str, Any] | None:
    """The next header, None if the stream has ended; raises FramingError if it makes no sense."""
    prefix = bytearray(_LENGTH.size)
    if not receive_into(stream, memoryview(prefix)):
        return None
    (length,) = _LENGTH.unpack(prefix)
    if length > HEADER_LIMIT:
        raise FramingError(f"a header of {length} bytes")
    text = bytearray(length)
    if not receive_into(stream, memoryview(text)):
        return None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FramingError("a header that is not JSON") from error
    if not isinstance(header, dict):
        raise FramingError("a header that is not an object")
    return header


def receive_into(stream: BinaryIO, view: memoryview) -> bool:
    """Fill the view; False if the stream ends before that."""
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            return False
        view = view[count:]
    return True


def receive_bytes(stream: BinaryIO, size: int) -> bytes | None:
    """`size` bytes; None if the stream ends before that."""
    data = bytearray(size)
    return bytes(data) if receive_into(stream, memoryview(data)) else None


def standard_streams(*, silent: bool) -> tuple[BinaryIO, BinaryIO]:
    """The child's ends: requests on its standard input, replies on its standard output.

    Libraries that read or print find the null device there afterwards; on standard error too if `silent`. Ctrl-C is
    ignored: the parent decides when a child ends.
    """
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=_BUFFER)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2) if silent else (0, 1):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return requests, replies
