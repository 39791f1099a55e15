"""What the containers have in common: an opened `Archive` goes in, one `Member` after the other comes out.

A container is a module of this package whose function `members` takes the archive and its budget; `container` of
`formats.Format` names it. It runs in the sandboxed child (`sandbox.members`) and can write no files. The archive
libraries only read, they never extract: no path from an archive is ever written to.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import BinaryIO, cast

from clue_cli.evidence.formats import FORMATS
from clue_cli.evidence.streams import Budget, HeadedStream, ReadFailure, spool
from clue_cli.records import FailureCode

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
    """

    name: str
    size: int | None
    open: Callable[[], BinaryIO]
    is_link: bool = False
    whole: bool = False


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
    container = importlib.import_module(f"{__package__}.{FORMATS[archive.type_name].container}")
    yield from container.members(archive, budget)
