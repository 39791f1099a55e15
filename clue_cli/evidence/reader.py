"""From an item to its bytes, read once, and their identity: SHA-256, size, and the types that content and name say."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from clue_cli.evidence.formats import (
    FORMATS,
    HEAD_SIZE,
    UNKNOWN,
    Kind,
    camera_raw_type,
    claimed_type,
    extension_of,
    holder_of,
    is_picture,
    is_targa,
    kind_of,
    sniff,
)
from clue_cli.evidence.item import Item, NotAPicture, Unreadable
from clue_cli.evidence.streams import ReadFailure, failure_from, read_some
from clue_cli.evidence.walk import open_file
from clue_cli.records import FailureCode, FileIdentity, Finding, Origin, Step

_CHUNK = 1 << 20
_SURPLUS = 1 << 30  # bytes; files of /proc and the like say that they are empty


def read_item(
    item: Item, max_file_mib: float = 2048, hashes: Sequence[str] = ()
) -> tuple[bytes, FileIdentity] | Unreadable | NotAPicture:
    """The item's bytes, read exactly once, if they are a picture that clue decodes.

    A file that is no picture and does not claim to be one is not read beyond its head.

    Args:
        item: from `walk`.
        max_file_mib: how large a picture file may be, MiB.
        hashes: `md5`, `sha1`: wanted beside SHA-256.

    Returns:
        The bytes with their identity; or `NotAPicture`; or `Unreadable` with EMPTY_FILE, NOT_AN_IMAGE,
        UNSUPPORTED_FORMAT, FILE_TOO_LARGE, CHANGED_DURING_SCAN, UNREADABLE, or what the archive failed with.
    """
    try:
        with item.open() as stream:
            return _read(item, stream, int(max_file_mib * (1 << 20)), hashes)
    except (ReadFailure, OSError, MemoryError) as error:
        failure = _memory_failure() if isinstance(error, MemoryError) else failure_from(error)
        step = Step.ARCHIVE if item.is_member else Step.READ
        return Unreadable(item.locator, step, failure.code, failure.message, failure.advice)


def _read(
    item: Item, stream: BinaryIO, limit: int, hashes: Sequence[str]
) -> tuple[bytes, FileIdentity] | Unreadable | NotAPicture:
    before = _status(item, stream)
    head = _read_up_to(stream, HEAD_SIZE)
    claim, kind = claimed_type(item.locator), kind_of(sniff(head))
    if kind not in (Kind.PICTURE, Kind.FOREIGN_PICTURE) and not is_picture(claim):
        return NotAPicture(item.locator, extension_of(item.locator), holder_of(item.locator, head))
    if not head:
        identity = _identity(b"", item.locator, before, hashes)
        return Unreadable(item.locator, Step.READ, FailureCode.EMPTY_FILE, "The file is empty.", file=identity)
    if item.size is not None and item.size > limit:
        return _too_large(item, limit)
    data = b"".join(_pieces(head, stream, limit))
    if len(data) > limit:
        return _too_large(item, limit)
    if _status(item, stream) != before:
        return Unreadable(
            item.locator,
            Step.READ,
            FailureCode.CHANGED_DURING_SCAN,
            "The file changed while it was read.",
            "Scan a copy that nothing writes to.",
        )
    identity = _identity(data, item.locator, before, hashes)
    return _refusal(item, identity) or (data, identity)


def _pieces(head: bytes, stream: BinaryIO, limit: int) -> list[bytes]:
    pieces, size = [head], len(head)
    while size <= limit and (piece := read_some(stream, _CHUNK)):
        pieces.append(piece)
        size += len(piece)
    return pieces


def _read_up_to(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := read_some(stream, size - len(data))):
        data += piece
    return data


def _status(item: Item, stream: BinaryIO) -> tuple[int, int] | None:
    """Size and time of the last change of a file on disk, to notice that it changes while it is read."""
    if item.path is None:
        return None
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns


def _identity(data: bytes, name: str, status: tuple[int, int] | None, hashes: Sequence[str]) -> FileIdentity:
    others = {name: hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in hashes}
    modified = None if status is None else moment(status[1])
    return identify(data, name).model_copy(update={**others, "modified": modified})


def moment(nanoseconds: int) -> str | None:
    """A time of a file system, in nanoseconds since 1970, as ISO 8601 in UTC; None if no calendar has it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z" if whole.year >= 1000 else None


def _refusal(item: Item, identity: FileIdentity) -> Unreadable | None:
    """Why bytes that are or claim to be a picture are not handed to the decoder, None if they are."""
    sniffed = FORMATS[identity.sniffed_type]
    if sniffed.kind is Kind.PICTURE:
        return None
    if sniffed.kind is Kind.FOREIGN_PICTURE:
        message = f"clue does not decode {sniffed.name} pictures."
        code, advice = FailureCode.UNSUPPORTED_FORMAT, sniffed.advice
    else:
        message = f"It is named like a {identity.claimed_type} picture but its content is not one ({sniffed.name})."
        code, advice = FailureCode.NOT_AN_IMAGE, None
    return Unreadable(item.locator, Step.READ, code, message, advice, identity)


def _too_large(item: Item, limit: int) -> Unreadable:
    return Unreadable(
        item.locator,
        Step.READ,
        FailureCode.FILE_TOO_LARGE,
        f"The file is larger than {limit / (1 << 20):g} MiB.",
        "Raise --max-file-mib.",
    )


def _memory_failure() -> ReadFailure:
    return ReadFailure(
        FailureCode.OUT_OF_MEMORY, "There is not enough memory to read the file.", "Lower --max-file-mib."
    )


def identify(data: bytes | BinaryIO, name: str) -> FileIdentity:
    """SHA-256, size and types of the bytes (or of what is left of the stream, read in pieces)."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    digest = hashlib.sha256()
    head = b""
    size = 0
    while chunk := stream.read(_CHUNK):
        if len(head) < HEAD_SIZE:
            head += chunk[: HEAD_SIZE - len(head)]
        digest.update(chunk)
        size += len(chunk)
    claim = claimed_type(name)
    sniffed = sniff(head)
    if sniffed == "tiff" and isinstance(data, bytes):
        sniffed = camera_raw_type(data, claim) or sniffed
    if sniffed == UNKNOWN and claim == "tga" and is_targa(head):
        sniffed = "tga"
    return FileIdentity(sha256=digest.hexdigest(), byte_size=size, sniffed_type=sniffed, claimed_type=claim)


def hash_stream(stream: BinaryIO, hashes: Sequence[str] = ()) -> tuple[int, dict[str, str]]:
    """Size and hashes of what is left of a stream, read in pieces; `hashes` as of `hash_file`."""
    return _hashed(iter(lambda: read_some(stream, _CHUNK), b""), hashes)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file on disk, hex, read in pieces. Raises OSError if it cannot be read or is no regular file."""
    return hash_file(path)[2]["sha256"]


def hash_file(path: Path, hashes: Sequence[str] = ()) -> tuple[int, str | None, dict[str, str]]:
    """Size, time of the last change (as `moment`) and hashes of a file on disk as it is now, read in pieces.

    Args:
        hashes: `md5`, `sha1`: wanted beside SHA-256.

    Raises:
        OSError: it cannot be read or is no regular file.
    """
    try:
        with open_file(path) as file:
            status = os.fstat(file.fileno())
            size, digests = _hashed(_chunks(file, status.st_size + _SURPLUS), hashes)
    except ReadFailure as failure:
        raise OSError(errno.EINVAL, failure.message) from failure
    return size, moment(status.st_mtime_ns), digests


def _hashed(chunks: Iterable[bytes], hashes: Sequence[str]) -> tuple[int, dict[str, str]]:
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in (*hashes, "sha256")}
    size = 0
    for chunk in chunks:
        size += len(chunk)
        for digest in digests.values():
            digest.update(chunk)
    return size, {name: digest.hexdigest() for name, digest in digests.items()}


def _chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    while chunk := read_some(file, _CHUNK):
        yield chunk
        if (left := left - len(chunk)) < 0:
            raise OSError(errno.EFBIG, "it is much longer than its size, and may have no end")


def type_finding(identity: FileIdentity) -> Finding | None:
    """The finding about a name that claims another type than the content has, None if it does not."""
    if identity.claimed_type in (None, identity.sniffed_type):
        return None
    return Finding(
        kind="type_mismatch",
        source=Origin.FILE,
        statement=f"The name says {identity.claimed_type}, the content is {identity.sniffed_type}.",
        data={"claimed": identity.claimed_type, "sniffed": identity.sniffed_type},
    )
