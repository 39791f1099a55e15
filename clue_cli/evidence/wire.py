"""What the decoder's process and its parent say to each other: a JSON header, then raw bytes. No pickle.

The decoder handles hostile bytes and might be taken over by them, so the parent believes nothing it says: every
length is bounded here, and what is in a header is checked by whoever reads it.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")
HEADER_LIMIT = 1 << 20
"""Longest header that is read, bytes."""


class WireError(Exception):
    """The other side is gone, or talks nonsense."""


def send_header(stream: BinaryIO, header: dict[str, Any]) -> None:
    """Write one header. What follows it is the caller's business."""
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text)


def receive_header(stream: BinaryIO) -> dict[str, Any] | None:
    """The next header, None if the stream has ended; raises WireError if it makes no sense."""
    prefix = bytearray(_LENGTH.size)
    if not receive_into(stream, memoryview(prefix)):
        return None
    (length,) = _LENGTH.unpack(prefix)
    if length > HEADER_LIMIT:
        raise WireError(f"a header of {length} bytes")
    text = bytearray(length)
    if not receive_into(stream, memoryview(text)):
        return None
    try:
        header = json.loads(text)
    except ValueError as error:
        raise WireError("a header that is not JSON") from error
    if not isinstance(header, dict):
        raise WireError("a header that is not an object")
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
    """So many bytes, None if the stream ends before that."""
    data = bytearray(size)
    return bytes(data) if receive_into(stream, memoryview(data)) else None
