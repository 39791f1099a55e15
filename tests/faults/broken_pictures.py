"""Pictures with something wrong: cut, lying, huge, endless, or full of what must not reach a terminal or a page."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from tests.faults import pictures

MARKUP = "<script>alert('x')</script>"
CONTROLS = "Evil\x1b[2J\u202egpj.exe\r\nforged log line"


def truncated(data: bytes, part: float) -> bytes:
    """The first part (0 to 1) of a file."""
    return data[: int(len(data) * part)]


def text_named_jpg() -> bytes:
    return b"This is no picture, whatever its name says.\n"


def one_pixel() -> bytes:
    return pictures.encoded(pictures.photo(1, 1), "PNG")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def exif_block(entries: list[tuple[int, str]], next_ifd: int = 0) -> bytes:
    """An EXIF block (little-endian TIFF) of text entries; `next_ifd` may lead anywhere, also back."""
    body, texts = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, text in entries:
        value = text.encode() + b"\0"
        body += struct.pack("<HHII", tag, 2, len(value), start + len(texts))
        texts += value + b"\0" * (4 - len(value) % 4)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", next_ifd) + texts


def jpeg_with_exif(block: bytes) -> bytes:
    return pictures.jpeg(exif=block)


def jpeg_with_hostile_exif() -> bytes:
    """Make holds markup, Model holds control characters, Software is very long."""
    return jpeg_with_exif(exif_block([(0x010F, MARKUP), (0x0110, CONTROLS), (0x0131, "A" * 5000)]))


def endless_exif() -> bytes:
    """Hundreds of overlapping folders with 65,535 entries each, every one leading to the next."""
    size = 60_000
    block = bytearray(b"\xff" * size)
    block[:8] = b"II*\0" + struct.pack("<I", 8)
    for start in range(8, size - 2, 2):
        block[start : start + 2] = b"\xfe\xff"
    return b"Exif\0\0" + bytes(block)


def looping_exif() -> bytes:
    """A folder whose successor is itself."""
    return exif_block([(0x010F, "Canon")], next_ifd=8)


def looping_tiff() -> bytes:
    """A TIFF whose second page leads back to the first."""
    data = bytearray(pictures.tiff(2))
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack(order + "I", data[4:8])[0]
    count = struct.unpack(order + "H", data[first : first + 2])[0]
    second_at = first + 2 + 12 * count
    second = struct.unpack(order + "I", data[second_at : second_at + 4])[0]
    count = struct.unpack(order + "H", data[second : second + 2])[0]
    data[second + 2 + 12 * count : second + 6 + 12 * count] = struct.pack(order + "I", first)
    return bytes(data)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged copies of a file: bytes changed, runs removed, runs doubled, cut; the same ones for the same seed."""
    source = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(source.randint(1, 12)):
            at = source.randrange(len(copy))
            length = source.randint(1, 24)
            match source.randrange(5):
                case 0 | 1:
                    copy[at] = source.choice((0, 0x7F, 0x80, 0xFF, source.randrange(256)))
                case 2:
                    del copy[at : at + length]
                case 3:
                    copy[at:at] = copy[at : at + length]
                case 4:
                    copy[at : at + 4] = source.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            if len(copy) < 8:
                break
        yield bytes(copy)
