"""What is attached to a message of Outlook (`.msg`), and to messages that are attached to it.

A message is a compound file (OLE) whose storages and streams are named by MAPI's property numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, cast

import olefile

from clue_cli.evidence.containers import Archive, Member, refused
from clue_cli.evidence.streams import Budget, Metered, ReadFailure
from clue_cli.records import FailureCode

_ATTACHMENT = "__attach_version1.0_#"
_DATA, _MESSAGE = "__substg1.0_37010102", "__substg1.0_3701000D"
_NAMES = ("__substg1.0_3707", "__substg1.0_3704")  # long and short
_DEEPEST = 20


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """Attachments in their order; those of an attached message have its number before theirs."""
    source = archive.seekable()
    try:
        with olefile.OleFileIO(source) as ole:
            if not ole.exists("__properties_version1.0"):
                message = "It is named like a message of Outlook, but is another compound file."
                raise ReadFailure(FailureCode.UNSUPPORTED_FORMAT, message)
            yield from _attachments(ole, (), "", budget)
    except (OSError, IndexError, ValueError) as error:
        if isinstance(error, ReadFailure) or getattr(error, "errno", None) is not None:
            raise  # a disk that fails is no damaged message
        raise ReadFailure(FailureCode.ARCHIVE_CORRUPT, "The message is damaged or cut.") from error


def _attachments(ole: olefile.OleFileIO[Any], place: tuple[str, ...], prefix: str, budget: Budget) -> Iterator[Member]:
    depth = len(place)
    entries = [entry for entry in ole.listdir(streams=True, storages=True) if tuple(entry[:depth]) == place]
    found = sorted({entry[depth] for entry in entries if len(entry) > depth and entry[depth].startswith(_ATTACHMENT)})
    if depth > 2 * _DEEPEST:
        raise ReadFailure(FailureCode.ARCHIVE_LIMIT, f"The message has messages in messages, more than {_DEEPEST}.")
    for number, storage in enumerate(found, 1):
        inside = (*place, storage)
        number_of = f"{prefix}attachment-{number}"
        if ole.exists([*inside, _MESSAGE]):
            yield from _attachments(ole, (*inside, _MESSAGE), f"{number_of}/", budget)
        elif ole.exists([*inside, _DATA]):
            name = _name(ole, inside)
            size = ole.get_size([*inside, _DATA])
            opened = partial(_open, ole, [*inside, _DATA], size, budget)
            yield Member(f"{number_of}/{name}" if name else number_of, size, opened)
        else:
            words = "The attachment is a link or an object of another program, and has no file."
            yield Member(number_of, None, refused(FailureCode.UNSUPPORTED_FORMAT, words))


def _name(ole: olefile.OleFileIO[Any], place: tuple[str, ...]) -> str:
    for start in _NAMES:
        for ending, coding in (("001F", "utf-16-le"), ("001E", "cp1252")):
            if ole.exists([*place, start + ending]):
                name = ole.openstream([*place, start + ending]).read(2000).decode(coding, "replace").rstrip("\0")
                return str(name).replace("\\", "/").rsplit("/", 1)[-1]
    return ""


def _open(ole: olefile.OleFileIO[Any], place: list[str], size: int, budget: Budget) -> BinaryIO:
    return cast(BinaryIO, Metered(ole.openstream(place), budget, lambda: size))
