"""A sandboxed child that crashes at every mask, and decodes pictures; to be given to `Pictures(worker_module=…)`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from clue_cli.evidence.sandbox.worker import OPERATIONS, Reply, main
from clue_cli.evidence.streams import DecodeLimits


def crash(data: bytes, limits: DecodeLimits, *, style: str) -> Iterator[Reply]:
    ctypes.string_at(0)
    yield {}, ()


if __name__ == "__main__":
    main({**OPERATIONS, "mask": crash})
