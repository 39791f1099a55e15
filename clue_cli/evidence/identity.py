"""Which bytes a file holds: SHA-256, size, and the types that its content and its name say."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

from clue_cli.evidence.camera_raw import camera_raw_type
from clue_cli.evidence.formats import HEAD_SIZE, UNKNOWN, claimed_type, is_targa, sniff
from clue_cli.evidence.streams import ReadFailure, read_some
from clue_cli.evidence.walk import open_file
from clue_cli.records import FileIdentity, Finding, Origin

_CHUNK = 1 << 20
_SURPLUS = 1 << 30  # bytes; files of /proc and the like say that they are empty


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


def sha256_file(path: Path) -> str:
    """SHA-256 of a file on disk, hex, read in pieces. Raises OSError if it cannot be read or is no regular file."""
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            left = os.fstat(file.fileno()).st_size + _SURPLUS
            while chunk := read_some(file, _CHUNK):
                digest.update(chunk)
                if (left := left - len(chunk)) < 0:
                    raise OSError(errno.EFBIG, "it is much longer than its size, and may have no end")
    except ReadFailure as failure:
        raise OSError(errno.EINVAL, failure.message) from failure
    return digest.hexdigest()


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
