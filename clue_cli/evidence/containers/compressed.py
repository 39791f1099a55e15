"""What is in a compressed file: a tar, or one file (`photo.jpg.gz`)."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from clue_cli.evidence.containers.member import Archive, Member
from clue_cli.evidence.containers.tar import tar_members
from clue_cli.evidence.formats import FORMATS, HEAD_SIZE, extension_of, sniff
from clue_cli.evidence.streams import CHUNK, Budget, ByteSource, HeadedStream, Metered, ReadFailure
from clue_cli.records import FailureCode

XZ_MEMORY = 512 << 20
"""How much memory an xz decoder may claim, in bytes. `xz -9` needs 65 MiB; only a hostile file needs gigabytes."""


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a compressed tar, or the one member of another compressed file."""
    inner = decompressed(cast(BinaryIO, archive.stream), archive.type_name)
    unpacked = HeadedStream(cast(BinaryIO, Metered(inner, budget, lambda: archive.stream.consumed)))
    if sniff(unpacked.peek(HEAD_SIZE)) == "tar":
        yield from tar_members(cast(BinaryIO, unpacked), budget)
        return
    name = archive.name.rsplit("/", 1)[-1]
    extension = extension_of(name)
    if any(extension in entry.extensions for entry in FORMATS.values() if entry.container == "compressed"):
        name = name[: -len(extension) - 1]
    yield Member(name, None, lambda: cast(BinaryIO, unpacked))


class Decoder(Protocol):
    """The interface that bz2, lzma and zstd decompressors share."""

    @property
    def eof(self) -> bool:
        """Whether the compressed piece is complete."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out without more going in."""

    @property
    def unused_data(self) -> bytes:
        """What followed the complete piece."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes."""


class Inflater:
    """zlib with the interface of the other decompressors."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the compressed piece is complete."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """What followed the complete piece."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most `max_length` bytes; what was not consumed is kept."""
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out


class Decompressed(ByteSource):
    """The uncompressed bytes of a stream of one or more compressed pieces (`cat a.gz b.gz` is one file).

    What follows the last piece and is no further one is ignored, as gzip(1) does. Raises EOFError if the compressed
    bytes end early, and what the decoder raises if they are damaged.
    """

    def __init__(self, source: BinaryIO, make_decoder: Callable[[], Decoder], magic: bytes = b"") -> None:
        self._source, self._make_decoder, self._magic = source, make_decoder, magic
        self._decoder = make_decoder()

    def _next(self, size: int) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data
                if len(data) < len(self._magic):
                    data += self._source.read(CHUNK)
                if not self._magic or not data.startswith(self._magic):
                    return b""
                self._decoder = self._make_decoder()
            elif self._decoder.needs_input and not (data := self._source.read(CHUNK)):
                raise EOFError("the compressed data end early")
            if out := self._decoder.decompress(data, size):
                return out


def decompressed(source: BinaryIO, type_name: str) -> BinaryIO:
    """The uncompressed bytes of a gzip, bzip2, xz or zstd stream; raises ReadFailure if Python lacks the decoder."""
    makers: dict[str, tuple[Callable[[], Decoder], bytes]] = {
        "gzip": (lambda: Inflater(wbits=31), b"\x1f\x8b"),
        "bzip2": (bz2.BZ2Decompressor, b"BZh"),
        "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY), b"\xfd7zXZ"),
    }
    make, magic = makers[type_name] if type_name in makers else (_zstd_decoder(), b"\x28\xb5\x2f\xfd")
    return cast(BinaryIO, Decompressed(source, make, magic))


def _zstd_decoder() -> Callable[[], Decoder]:
    try:
        from compression.zstd import ZstdDecompressor  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports.zstd import ZstdDecompressor
        except ImportError as error:
            raise ReadFailure(
                FailureCode.MISSING_EXTRA,
                "Zstandard needs Python 3.14 or the package backports.zstd, which is not installed.",
                "pip install backports.zstd",
            ) from error
    return cast("Callable[[], Decoder]", ZstdDecompressor)
