"""The sandboxed child from the inside, without a process."""

from __future__ import annotations

import io
import math
import resource
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from clue_cli.evidence.sandbox import worker
from clue_cli.evidence.sandbox.framing import receive_header, receive_into, send_header
from clue_cli.evidence.sandbox.worker import confine, serve
from clue_cli.evidence.streams import DecodeLimits
from tests.faults import pictures


def request(data: bytes, kind: str, **changes: Any) -> bytes:
    arguments = {"sniffed_type": kind, "first_page": 0, "gif_all_frames": False, **changes}
    header = {"operation": "picture", "arguments": arguments, "limits": asdict(DecodeLimits()), "size": len(data)}
    buffer = io.BytesIO()
    send_header(buffer, header)
    return buffer.getvalue() + data


def answers(requests: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Headers and pixels that the worker sends."""
    replies = io.BytesIO()
    serve(io.BytesIO(requests), replies)
    replies.seek(0)
    while (header := receive_header(replies)) is not None:
        pixels = bytearray(math.prod(header.get("shape", [0])))
        assert receive_into(replies, memoryview(pixels))
        yield header, bytes(pixels)


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int]]]:
    """The limits that would be set: not on the process that runs the tests."""
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda limit, values: limits.append((limit, values)))
    return limits


def test_pages_are_sent_one_by_one_with_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_STRIP_BYTES", 1000)  # so that a page is sent in strips
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
    assert found[3][0]["shape"][1] == 48
    assert found[4][0] == {"done": True}


def test_the_worker_ends_when_its_input_does() -> None:
    assert list(answers(b"")) == [({"ready": True}, b"")]
    assert list(answers(request(pictures.jpeg(), "jpeg")[:-5])) == [({"ready": True}, b"")]


def test_the_worker_may_not_write_files_nor_use_memory_without_end(
    no_limits: list[tuple[int, tuple[int, int]]],
) -> None:
    confine(1 << 30)
    limits = dict(no_limits)
    assert limits[resource.RLIMIT_AS][0] <= 1 << 30
    assert limits[resource.RLIMIT_FSIZE] == (0, 0)
    assert limits[resource.RLIMIT_CORE] == (0, 0)
