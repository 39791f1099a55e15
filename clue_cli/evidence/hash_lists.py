"""Lists of hashes of files: as hashdeep and `sha256sum` write them, as of the NSRL, or one hash a line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError

_ALGORITHMS = {64: "sha256", 40: "sha1", 32: "md5"}
"""By the number of hexadecimal digits."""

_HASH = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{40}|[0-9a-fA-F]{32})(?![0-9A-Za-z])")
_AT_START = re.compile(rf"\\?({_HASH.pattern})")  # with a backslash before a name that is escaped
_BSD = re.compile(rf" = ({_HASH.pattern})\Z")
_HASHDEEP = "%%%% "
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class HashList:
    """The hashes of a list, sorted; 100 million of them take some gigabytes.

    Attributes:
        path: of the list.
        sha256: of the list, hex.
        hashes: by algorithm: `sha256`, or `sha1` or `md5` from lines without a stronger one.
    """

    path: Path
    sha256: str
    hashes: dict[str, NDArray[np.bytes_]] = field(repr=False)

    def __len__(self) -> int:
        return sum(len(hashes) for hashes in self.hashes.values())

    def holds(self, sha256: str, data: bytes | None) -> bool:
        """Whether a file is in the list.

        Args:
            sha256: of the file, hex.
            data: its bytes, for lists that have other hashes; None if there are none any more: only SHA-256 counts.
        """
        for algorithm, hashes in self.hashes.items():
            if algorithm == "sha256":
                digest = bytes.fromhex(sha256)
            elif data is None:
                continue
            else:
                digest = hashlib.new(algorithm, data, usedforsecurity=False).digest()
            wanted = digest.rstrip(b"\0")  # as numpy compares them
            place = int(np.searchsorted(hashes, np.bytes_(wanted)))
            if place < len(hashes) and hashes[place] == wanted:
                return True
        return False

    @property
    def is_weak(self) -> bool:
        """Whether some of its hashes are of algorithms for which two files with one hash can be made."""
        return bool(self.hashes.keys() - {"sha256"})


def read_hash_list(path: Path) -> HashList:
    """The list in a file.

    Raises:
        UsageError: it cannot be read, or a line of it is none of a list of hashes.
    """
    found: dict[int, bytearray] = {}
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            start = file.read(4)
        encoding = next((name for bom, name in _BOMS if start.startswith(bom)), "utf-8")
        with path.open(encoding=encoding, errors="replace", newline="") as text:
            for value in _hashes(text, path):
                found.setdefault(len(value) // 2, bytearray()).extend(bytes.fromhex(value))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.", "Check the path of the list.") from error
    if not found:
        raise UsageError(f"{path} holds no hashes.", _ADVICE)
    hashes = {_ALGORITHMS[2 * size]: np.unique(np.frombuffer(values, f"S{size}")) for size, values in found.items()}
    return HashList(path, digest, hashes)


_ADVICE = "A list is of hashdeep, of sha256sum, a CSV of the NSRL (RDS), or one hash a line: SHA-256, SHA-1 or MD5."


def _hashes(text: IO[str], path: Path) -> Iterator[str]:
    columns: list[int] | None = None
    for number, line in enumerate(text, 1):
        words = line.strip()
        if words.startswith(_HASHDEEP):
            columns = _columns(words.removeprefix(_HASHDEEP).split(",")) or columns
            continue
        if not words or words.startswith(("#", ";")):
            continue
        if columns is None and (header := _columns(_cells(words))):
            columns = header
            continue
        cells = _cells(words) if columns is not None else []
        values = [cells[column].strip() for column in columns or () if column < len(cells)]
        value = next((value for value in values if _HASH.fullmatch(value)), None)
        if columns is None:
            match = _AT_START.match(words) or _BSD.search(words) or _HASH.search(words)
            value = match[match.lastindex or 0] if match else None
        if value is None:
            raise UsageError(f"{path}, line {number}, holds no hash.", _ADVICE)
        yield value


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:  # one is longer than csv reads
        return []


def _columns(names: Sequence[str]) -> list[int] | None:
    """The columns of hashes, the strongest first; None if that is no header."""
    plain = [name.strip().strip('"').lower().replace("-", "") for name in names]
    found = [plain.index(name) for name in _ALGORITHMS.values() if name in plain]
    return found or None
