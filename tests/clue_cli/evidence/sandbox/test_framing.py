"""The protocol of a child process: nonsense is refused, and an end is an end."""

from __future__ import annotations

import io
import json
import struct

import pytest

from clue_cli.evidence.sandbox.framing import HEADER_LIMIT, FramingError, receive_header


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (struct.pack(">I", HEADER_LIMIT + 1), "header of"),
        (struct.pack(">I", 3) + b"{no", "not JSON"),
        (struct.pack(">I", 2) + b"\xff\xfe", "not JSON"),
        (struct.pack(">I", 2) + b"[]", "not an object"),
    ],
)
def test_nonsense_is_refused(sent: bytes, word: str) -> None:
    with pytest.raises(FramingError, match=word):
        receive_header(io.BytesIO(sent))


@pytest.mark.parametrize("cut", [0, 2, 4, 9])
def test_a_header_that_is_cut_is_the_end(cut: int) -> None:
    text = json.dumps({"a": 1}).encode()
    assert receive_header(io.BytesIO((struct.pack(">I", len(text)) + text)[:cut])) is None
