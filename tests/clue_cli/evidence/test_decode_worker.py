"""The decoder's process from the inside, and the wire, without a process."""

from __future__ import annotations

import io
import json
import resource
import struct
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from clue_cli.evidence import decode_worker
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.decode_worker import confine, serve
from clue_cli.evidence.wire import HEADER_LIMIT, WireError, receive_header, receive_into, send_header
from tests.faults import pictures


def request(data: bytes, kind: str, **changes: Any) -> bytes:
    header = {"type": kind, "size": len(data), "first_page": 0, "gif_all_frames": False, **changes}
    buffer = io.BytesIO()
    send_header(buffer, {**header, "limits": asdict(DecodeLimits())})
    return buffer.getvalue() + data


def answers(requests: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Headers and pixels that the worker sends."""
    replies = io.BytesIO()
    serve(io.BytesIO(requests), replies)
    replies.seek(0)
    while (header := receive_header(replies)) is not None:
        pixels = bytearray(header["width"] * header["height"] * 3 if "width" in header else 0)
        assert receive_into(replies, memoryview(pixels))
        yield header, bytes(pixels)


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int]]]:
    """The limits that would be set: not on the process that runs the tests."""
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda limit, values: limits.append((limit, values)))
    return limits


def test_pages_are_sent_one_by_one_with_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_worker, "_STRIP_BYTES", 1000)  # so that a page is sent in strips
    found = list(answers(request(pictures.tiff(2), "tiff")))
    assert [set(header) & {"ready", "page_count", "page", "done"} for header, _ in found] == [
        {"ready"},
        {"page_count"},
        {"page", "page_count"},
        {"page", "page_count"},
        {"done"},
    ]
    for number, (_, pixels) in enumerate(found[2:4]):
        assert pixels == np.asarray(pictures.photo(seed=number)).tobytes()


def test_a_failure_is_sent_and_the_next_request_answered() -> None:
    found = list(answers(request(b"\xff\xd8\xff", "jpeg") + request(pictures.jpeg(), "jpeg")))
    assert found[1][0]["failure"]["code"] == "corrupt_image"
    assert found[2][0] == {"done": True}
    assert found[3][0]["width"] == 48
    assert found[4][0] == {"done": True}


def test_the_worker_ends_when_its_input_does() -> None:
    assert list(answers(b"")) == [({"ready": True}, b"")]
    assert list(answers(request(pictures.jpeg(), "jpeg")[:-5])) == [({"ready": True}, b"")]


def test_the_worker_may_not_write_files_nor_use_memory_without_end(
    no_limits: list[tuple[int, tuple[int, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_worker.signal, "signal", lambda *_: None)
    confine(1 << 30)
    limits = dict(no_limits)
    assert limits[resource.RLIMIT_AS][0] <= 1 << 30
    assert limits[resource.RLIMIT_FSIZE] == (0, 0)
    assert limits[resource.RLIMIT_CORE] == (0, 0)


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (struct.pack(">I", HEADER_LIMIT + 1), "header of"),
        (struct.pack(">I", 3) + b"{no", "not JSON"),
        (struct.pack(">I", 2) + b"\xff\xfe", "not JSON"),
        (struct.pack(">I", 2) + b"[]", "not an object"),
    ],
)
def test_nonsense_on_the_wire_is_refused(sent: bytes, word: str) -> None:
    with pytest.raises(WireError, match=word):
        receive_header(io.BytesIO(sent))


@pytest.mark.parametrize("cut", [0, 2, 4, 9])
def test_a_header_that_is_cut_is_the_end(cut: int) -> None:
    text = json.dumps({"a": 1}).encode()
    assert receive_header(io.BytesIO((struct.pack(">I", len(text)) + text)[:cut])) is None
