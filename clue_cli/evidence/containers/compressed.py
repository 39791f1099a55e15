"""What is in a compressed file: a tar, or one file (`photo.jpg.gz`)."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Protocol, cast

from clue_cli.evidence.containers import Archive, Member, stray
from clue_cli.evidence.containers.tar import tar_members
from clue_cli.evidence.formats import FORMATS, HEAD_SIZE, extension_of, sniff
from clue_cli.evidence.streams import CHUNK, Borrowed, Budget, ByteSource, HeadedStream, Metered, ReadFailure
from clue_cli.records import FailureCode

_LONGEST_MAGIC = 6
XZ_MEMORY = 512 << 20
"""How much memory an xz decoder may claim, in bytes. `xz -9` needs 65 MiB; only a hostile file needs gigabytes."""


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The members of a compressed tar, or the one member of another compressed file."""

    def opened(packed: HeadedStream) -> tuple[Decompressed, HeadedStream]:
        inner = decompressed(cast(BinaryIO, packed), archive.type_name)
        metered = Metered(cast(BinaryIO, inner), budget, lambda: packed.consumed)
        return inner, HeadedStream(cast(BinaryIO, metered))

    def again() -> BinaryIO:
        file = cast(BinaryIO, archive.file)
        file.seek(0)
        return cast(BinaryIO, opened(HeadedStream(file))[1])

    inner, unpacked = opened(archive.stream)
    failure: ReadFailure | None = None
    if sniff(unpacked.peek(HEAD_SIZE)) == "tar":
        try:
            yield from tar_members(cast(BinaryIO, unpacked), budget, None if archive.file is None else again)
        except ReadFailure as error:  # what follows the compressed bytes comes first
            failure = error
    else:
        name = archive.name.rsplit("/", 1)[-1]
        extension = extension_of(name)
        if any(extension in entry.extensions for entry in FORMATS.values() if entry.container == "compressed"):
            name = name[: -len(extension) - 1]
        yield Member(name, None, lambda: cast(BinaryIO, Borrowed(cast(BinaryIO, unpacked))))
        with suppress(ReadFailure):  # nobody wanted it, but something may follow it
            while unpacked.read(CHUNK):
                pass
    if (rest := inner.rest()) is not None:
        yield from stray(rest, "(after the end)", f"after the end of the {archive.type_name} data")
    if failure is not None:
        raise failure


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

    Zeros between the pieces are passed over; what follows the last piece and is no further one is the `rest`. Raises
    EOFError if the compressed bytes end early, and what the decoder raises if they are damaged.
    """

    def __init__(
        self, source: BinaryIO, make_decoder: Callable[[], Decoder], magic: re.Pattern[bytes] | None = None
    ) -> None:
        self._source, self._make_decoder, self._magic = source, make_decoder, magic
        self._decoder = make_decoder()
        self._rest: bytes | None = None

    def rest(self) -> BinaryIO | None:
        """What follows the last piece; None if its end was not reached."""
        return None if self._rest is None else cast(BinaryIO, HeadedStream(self._source, self._rest))

    def _next(self, size: int) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data if self._rest is None else self._rest
                if self._magic is not None:
                    data = data.lstrip(b"\0")
                    while len(data) < _LONGEST_MAGIC and (more := self._source.read(CHUNK)):
                        data = (data + more).lstrip(b"\0")
                if self._magic is None or not self._magic.match(data):
                    self._rest = data
                    return b""
                self._decoder = self._make_decoder()
            elif self._decoder.needs_input and not (data := self._source.read(CHUNK)):
                raise EOFError("the compressed data end early")
            if out := self._decoder.decompress(data, size):
                return out


def decompressed(source: BinaryIO, type_name: str) -> Decompressed:
    """The uncompressed bytes of a gzip, bzip2, xz or zstd stream; raises ReadFailure if Python lacks the decoder."""
    makers: dict[str, tuple[Callable[[], Decoder], bytes]] = {
        "gzip": (lambda: Inflater(wbits=31), rb"\x1f\x8b\x08"),
        "bzip2": (bz2.BZ2Decompressor, rb"BZh[1-9][1\x17]"),
        "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY), rb"\xfd7zXZ\x00"),
    }
    make, magic = makers[type_name] if type_name in makers else (zstd_decoder(), rb"\x28\xb5\x2f\xfd|[P-_]\x2a\x4d\x18")
    return Decompressed(source, make, re.compile(magic))


def zstd_decoder() -> Callable[[], Decoder]:
    """Makes zstd decoders; raises ReadFailure if Python lacks them."""
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
