"""Lines of `records.jsonl` as rows of its index. Those of a large log are validated in processes of their own.

To validate a line takes about 50 µs: a minute for a million, on one core. A process is asked for a few parts ahead, and
the rows come in the order of the log. Where one fails, the rest is validated here.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from clue_cli.errors import ClueError
from clue_cli.evidence.sandbox.framing import receive_header, send_header, standard_streams
from clue_cli.evidence.sandbox.process import START_SECONDS, Child, ChildDied, checked, whole
from clue_cli.machine import cores
from clue_cli.records import RECORD, SCHEMA_VERSION, VERSION_PATTERN, FailureRecord, ImageRecord, is_newer
from clue_cli.results import names
from clue_cli.results.log import DAMAGED_NAMED, LONGEST_LINE, lines
from clue_cli.terminal import counted

MASKS = "masks"
"""The folder of the masks; every image has one, so that its name tells which output name the image was given."""
WHOLE_FILE = -1
"""The page of a failure of the whole file."""
SMALL = 64 << 20
"""Bytes of a log that is validated in this process."""
PART = 4 << 20
"""Bytes that a process is asked for at a time, about: the rows fit into a pipe."""
WORKER = "clue_cli.results.record_rows"
"""The module that the processes run."""

_MOST = 8  # processes: then this one, which enters the rows, is the slowest
_AHEAD = 2  # parts that are asked of each
_SECONDS = 600.0

Row = tuple[str, int, int, int, str, int | None]
"""Locator; page; where the line starts, and its length, in bytes; run; `key_of` the output name that it reserves."""


@dataclass(frozen=True, slots=True)
class Newer:
    """Lines that a newer version of clue wrote.

    Attributes:
        lines: how many they are.
        left_out: how many of them this version cannot read.
        version: the latest schema among them; empty: there is none.
    """

    lines: int = 0
    left_out: int = 0
    version: Annotated[str, Field(pattern=f"^$|{VERSION_PATTERN}")] = ""

    def __add__(self, other: Newer) -> Newer:
        ours = not other.version or (self.version and not is_newer(other.version, self.version))
        version = self.version if ours else other.version
        return Newer(self.lines + other.lines, self.left_out + other.left_out, version)

    def words(self, log: str) -> str:
        """What a reader should know, in sentences; there are such lines.

        Args:
            log: name of the log.
        """
        one, others = self.lines == 1, self.lines - self.left_out
        said = [
            f"{counted(self.lines, 'line')} of {log} {'was' if one else 'were'} written by a newer version of clue "
            f"(schema {self.version}; this one knows {SCHEMA_VERSION})."
        ]
        if self.left_out:
            number = "It" if one else "They" if not others else f"{self.left_out:,} of them"
            be, them = ("is", "it") if self.left_out == 1 else ("are", "them")
            said.append(f"{number} {be} left out, since this version cannot read {them}.")
        if others:
            number = "The others are" if self.left_out else "It is" if one else "They are"
            said.append(f"{number} read as this version understands records, and what it does not know may be missing.")
        return " ".join([*said, "Update clue."])


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the lines between two places of a log.

    Attributes:
        rows: of the lines that are records.
        damaged: how many others there are, without those of a newer version.
        damaged_lines: numbers, from 1 within the part, of the first DAMAGED_NAMED of them.
        lines: how many there are.
        end: the byte at which they end.
        newer: those that a newer version wrote.
    """

    rows: list[Row]
    damaged: int
    damaged_lines: list[int]
    lines: int
    end: int
    newer: Newer = Newer()


_PART = TypeAdapter(Part)


def read(path: Path, end: int, *, with_keys: bool) -> Iterator[Part]:
    """The parts of a log up to `end`, where a line ends, in order.

    Args:
        with_keys: whether rows have the key of the output name that their record reserves.

    Raises:
        OSError: the log cannot be read.
    """
    done = 0
    if end >= SMALL and cores() > 1:
        try:
            for part in _validated_elsewhere(path, end, with_keys=with_keys):
                yield part
                done = part.end
        except (ChildDied, ClueError, OSError):  # none can be started; or the log cannot be read, which shows below
            pass
    while done < end:
        part = validated(path, done, _end_of_part(path, done, end), with_keys=with_keys)
        yield part
        done = part.end


def validated(path: Path, start: int, end: int, *, with_keys: bool) -> Part:
    """The part between two places where lines begin."""
    rows, damaged, first, number, at, newer = list[Row](), 0, list[int](), 0, start, Newer()
    for number, (line, length) in enumerate(lines(path, start, end), 1):
        record = None if line is None else parsed(line)
        version = record.schema_version if record is not None else _version_of(line)
        if is_later := version != SCHEMA_VERSION and _is_later(version):
            newer += Newer(1, record is None, version)
        if record is None and is_later:
            pass  # it is no damage
        elif record is None:
            damaged += 1
            if len(first) < DAMAGED_NAMED:
                first.append(number)
        else:
            name = _reserved_by(record) if with_keys and isinstance(record, ImageRecord) else None
            key = None if name is None else key_of(name)
            rows.append((record.locator, page_of(record), at, length, record.run_id, key))
        at += length
    return Part(rows, damaged, first, number, end, newer)


def parsed(line: bytes) -> ImageRecord | FailureRecord | None:
    """The record of a line, None if it is none."""
    try:
        return RECORD.validate_json(line)
    except ValidationError:
        return None


class _Head(BaseModel):
    """What a line of any version says of itself."""

    kind: Literal["image", "failure"]
    schema_version: str


def _version_of(line: bytes | None) -> str:
    """The schema of a line that cannot be read; empty: it states none."""
    try:
        return "" if line is None else _Head.model_validate_json(line).schema_version
    except ValidationError:
        return ""


def _is_later(version: str) -> bool:
    try:
        return is_newer(version)
    except ValueError:
        return False


def page_of(record: ImageRecord | FailureRecord) -> int:
    """The page, or WHOLE_FILE."""
    return WHOLE_FILE if record.page is None else record.page


def key_of(name: str) -> int:
    """Of an output name, one for all names that some file system takes for the same. Where two others have the same
    key, the second is taken for reserved, which costs it a longer name."""
    return int.from_bytes(hashlib.sha256(names.caseless(name).encode()).digest()[:8], "big", signed=True)


def _reserved_by(record: ImageRecord) -> str | None:
    """The output name that the run of a record chose, which no other locator may get; None: it is not clue's."""
    for length in (0, *names.HASH_LENGTHS):
        chosen = names.stem_text(record.locator, record.page, record.page_count, length)
        if record.outputs.mask == f"{MASKS}/{chosen}.png":
            return chosen if record.page_count == 1 else names.stem_text(record.locator, hash_length=length)
    return None


def _end_of_part(path: Path, start: int, end: int) -> int:
    """The end of the line that is PART bytes from `start`."""
    if start + PART >= end:
        return end
    with path.open("rb") as log:
        log.seek(start + PART)
        while (piece := log.readline(LONGEST_LINE)) and not piece.endswith(b"\n"):
            pass
        return min(log.tell(), end)


def _validated_elsewhere(path: Path, end: int, *, with_keys: bool) -> Iterator[Part]:
    setup = {"path": os.fspath(path.absolute()), "with_keys": with_keys}
    with ExitStack() as stack:
        children = [Child(WORKER, setup) for _ in range(min(cores(), _MOST))]
        for child in children:
            stack.callback(child.stop)
            child.start()
        for child in children:
            child.ready(START_SECONDS)
        start, turns, asked = 0, cycle(children), deque[tuple[Child, int, int]]()
        while asked or start < end:
            while start < end and len(asked) < _AHEAD * len(children):
                child, after = next(turns), _end_of_part(path, start, end)
                child.send({"start": start, "end": after}, seconds=_SECONDS)
                asked.append((child, start, after))
                start = after
            child, before, after = asked.popleft()
            reply = child.receive(_SECONDS)
            with checked():
                data = bytearray(whole(reply["size"], 2))
            child.receive_into(memoryview(data), _SECONDS)
            with checked():
                part = _PART.validate_json(data, strict=True)
                if part.end != after or not _within(part, before):
                    raise ValueError("another part")
            yield part


def _within(part: Part, start: int) -> bool:
    """Whether the rows of a part are where lines of it can be."""
    for _, _, at, length, _, _ in part.rows:
        if not (start <= at and 0 < length <= LONGEST_LINE):
            return False
        start = at + length
    return start <= part.end


def main() -> None:
    """Answer on the standard streams: to a `start` and `end`, a header with the `size` of the part as JSON."""
    requests, replies = standard_streams(silent=False)
    setup = receive_header(requests)
    if setup is None:
        return
    send_header(replies, {"ready": True})
    replies.flush()
    while (request := receive_header(requests)) is not None:
        part = validated(Path(setup["path"]), request["start"], request["end"], with_keys=setup["with_keys"])
        data = _PART.dump_json(part)
        send_header(replies, {"size": len(data)})
        replies.write(data)
        replies.flush()


if __name__ == "__main__":
    main()
