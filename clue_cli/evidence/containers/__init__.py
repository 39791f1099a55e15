"""What the containers have in common: an opened `Archive` goes in, one `Member` after the other comes out.

A container is a module of this package whose function `members` takes the archive and its budget; `container` of
`formats.Format` names it. It runs in the sandboxed child (`sandbox.members`) and can write no files. The archive
libraries only read, they never extract: no path from an archive is ever written to.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from clue_cli.evidence.formats import FORMATS, HEAD_SIZE, Kind, kind_of, sniff
from clue_cli.evidence.streams import CHUNK, Borrowed, Budget, HeadedStream, ReadFailure, Unpadded, spool
from clue_cli.records import FailureCode, Finding, Origin

ENCRYPTED_ADVICE = "Unpack it with its password and scan the folder."


@dataclass(frozen=True, slots=True)
class Archive:
    """An opened archive.

    Attributes:
        type_name: of the table of `formats`.
        name: its file name, as it is.
        stream: its bytes, from the start.
        file: the same, if it is a file on disk.
        copied: makes a seekable copy of a stream.
    """

    type_name: str
    name: str
    stream: HeadedStream
    file: BinaryIO | None
    copied: Callable[[BinaryIO], BinaryIO] = spool

    def seekable(self) -> BinaryIO:
        """The file on disk, or a copy that is gone when it is closed; raises ReadFailure if it cannot be made."""
        return self.file or self.copied(cast(BinaryIO, self.stream))


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive.

    Attributes:
        name: its path in the archive, as written there.
        size: uncompressed size in bytes as the archive claims it, None if it does not.
        open: opens it, or raises ReadFailure. Valid until the next member is asked for.
        is_link: a symbolic or hard link: it has no bytes of its own.
        whole: its bytes count only if they can be read to the end; it is copied before anything looks at it.
        findings: what is odd about it.
        stray: no member, but bytes that lie outside of all members: a failure if they are no picture and no archive.
    """

    name: str
    size: int | None
    open: Callable[[], BinaryIO]
    is_link: bool = False
    whole: bool = False
    findings: tuple[Finding, ...] = ()
    stray: bool = False


def oddity(kind: str, statement: str) -> Finding:
    """A finding about a member's place in its archive."""
    return Finding(kind=kind, source=Origin.CONTAINER, statement=statement)


def stray(source: BinaryIO, name: str, place: str, *, skipped: bytes = b"\0", quiet: bool = False) -> Iterator[Member]:
    """What lies outside of an archive's members, handed out like a member; nothing if it is zeros only.

    Args:
        name: for its locator, in brackets.
        place: where it lies, to follow "It lies".
        skipped: bytes that count for nothing where they come first.
        quiet: pass over what is no picture and no archive.
    """
    head = b""
    while not head and (data := source.read(CHUNK)):
        head = data.lstrip(skipped)
    stream = HeadedStream(cast(BinaryIO, Borrowed(source)), head)
    kind = kind_of(sniff(stream.peek(HEAD_SIZE)))
    if kind is not Kind.ARCHIVE:  # one may end with zeros itself
        stream = HeadedStream(cast(BinaryIO, Unpadded(cast(BinaryIO, stream))))
    if head and not (quiet and kind is Kind.OTHER):
        finding = oddity("outside_archive", f"It lies {place}, where an unpacker does not look.")
        yield Member(name, None, lambda: cast(BinaryIO, stream), findings=(finding,), stray=True)


def refused(code: FailureCode, message: str, advice: str | None = None) -> Callable[[], BinaryIO]:
    """The opener of a member that cannot be read."""

    def open_member() -> BinaryIO:
        raise ReadFailure(code, message, advice)

    return open_member


def link(name: str) -> Member:
    """A link in an archive."""
    return Member(name, None, refused(FailureCode.UNREADABLE, "A link in an archive has no content."), is_link=True)


def members(archive: Archive, budget: Budget) -> Generator[Member, None, None]:
    """The members of an archive of any type, in its order.

    Raises:
        Exception: it is damaged, encrypted or beyond its budget; `failure_from` says what that means.
    """
    container = importlib.import_module(f"{__name__}.{FORMATS[archive.type_name].container}")
    yield from container.members(archive, budget)
