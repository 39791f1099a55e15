"""A decoder process that crashes at every mask, and decodes pictures; to be given to `Pictures(worker_module=…)`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from clue_cli.eval.mask_worker import MASK, decode
from clue_cli.evidence.decode import Decoded, DecodeLimits
from clue_cli.evidence.decode_worker import main


def crash_at_masks(
    data: bytes, sniffed_type: str, limits: DecodeLimits, gif_all_frames: bool, first_page: int
) -> Iterator[Decoded]:
    if sniffed_type.startswith(MASK):
        ctypes.string_at(0)
    yield from decode(data, sniffed_type, limits, gif_all_frames, first_page)


if __name__ == "__main__":
    main(crash_at_masks)
