"""PNG files that Pillow would refuse as a whole: with a huge text or profile, or in Apple's variant."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from clue_cli.evidence.locator import clean_text

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST, _MOST_TOGETHER = 1 << 20, 64 << 20  # bytes of one text or profile, and of all of them: Pillow's limits
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def without_huge_chunks(data: bytes) -> tuple[bytes, list[str]]:
    """A PNG without the texts and the colour profile that are larger than Pillow reads, and the names of those."""
    pieces, dropped, kept_from, together = [], [], 0, 0
    for kind, start, end in chunks(data):
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            continue
        content = data[start + 8 : end - 4]
        size = _read_size(kind, content) if together <= _MOST_TOGETHER else _MOST_TOGETHER
        together += min(size, _MOST + 1) if kind != b"tEXt" else size
        compressed = kind in (b"zTXt", b"iCCP") or (kind == b"iTXt" and content.partition(b"\0")[2][:1] == b"\1")
        if together > _MOST_TOGETHER or (compressed and size > _MOST):
            name = clean_text(content.partition(b"\0")[0].decode("latin-1"), 79) or "no name"
            dropped.append(f"{kind.decode()} “{name}”")
            pieces.append(data[kept_from:start])
            kept_from = end
    return (b"".join([*pieces, data[kept_from:]]) if dropped else data), dropped


def apple_to_png(data: bytes, check: Callable[[tuple[int, int]], None]) -> bytes | None:
    """A standard PNG with the pixels of Apple's CgBI variant; None if it is not of that variant.

    Its pixels are BGR or BGRA, and compressed without a header. Colours stay multiplied by their alpha.

    Args:
        check: gets width and height before anything is decompressed; what it raises is passed on.
    """
    if data[12:16] != b"CgBI":
        return None
    kept, compressed, header = [_SIGNATURE], [], b""
    for kind, start, end in chunks(data):
        if kind == b"IHDR":
            header = data[start + 8 : end - 4]
        if kind == b"IDAT":
            compressed.append(data[start + 8 : end - 4])
        elif kind == b"IEND":
            break
        elif kind != b"CgBI" and not compressed:
            kept.append(data[start:end])
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    check((width, height))
    bits = depth * _CHANNELS[colour]
    passes = list(_passes(width, height, interlaced))
    rows = bytearray(
        zlib.decompressobj(-15).decompress(
            b"".join(compressed), sum((1 + (bits * across + 7) // 8) * down for across, down in passes)
        )
    )
    if depth == 8 and colour in (2, 6):
        _swap_blue_and_red(np.frombuffer(rows, np.uint8), passes, _CHANNELS[colour])
    return b"".join([*kept, _chunk(b"IDAT", zlib.compress(rows, 1)), _chunk(b"IEND", b"")])


def _swap_blue_and_red(rows: NDArray[np.uint8], passes: list[tuple[int, int]], channels: int) -> None:
    """In place. PNG's filters look at one channel at a time, so filtered bytes are swapped as pixels are."""
    at = 0
    for across, down in passes:
        stride = 1 + across * channels
        whole = min(down, (len(rows) - at) // stride)
        pixels = rows[at : at + whole * stride].reshape(whole, stride)[:, 1:].reshape(whole, across, channels)
        pixels[..., :3] = pixels[..., 2::-1].copy()
        at += down * stride


def _passes(width: int, height: int, interlaced: int) -> Iterator[tuple[int, int]]:
    if not interlaced:
        yield width, height
        return
    for left, top, step_x, step_y in _ADAM7:
        across, down = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if across > 0 and down > 0:
            yield across, down


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each whole chunk."""
    start = len(_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield data[start + 4 : start + 8], start, end
        start = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _read_size(kind: bytes, content: bytes) -> int:
    """Bytes of a text or profile when it is decompressed; one more than the most, if there are more."""
    rest = content.partition(b"\0")[2]
    if kind == b"tEXt":
        return len(rest)
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if not compressed:
            return len(rest)
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, _MOST + 1))
    except zlib.error:
        return 0
