"""Archives: recognised by content, opened in place, walked member by member, archives in archives too.

Nothing is unpacked beside the evidence, and no archive is held in memory. What is in one is read in a child process
(`sandbox.archives`). zip and 7z need to jump about; where one is a member of another archive, it is copied to an
unnamed temporary file first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member
from clue_cli.evidence.formats import (
    FORMATS,
    HEAD_SIZE,
    Kind,
    claimed_type,
    extension_of,
    holder_of,
    is_archive,
    is_picture,
    kind_of,
    sniff,
)
from clue_cli.evidence.item import ArchiveOpened, Item, Skipped, Unreadable
from clue_cli.evidence.locator import MEMBER, UniqueNames, member_path
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.streams import (
    CHUNK,
    ArchiveLimits,
    Budget,
    HeadedStream,
    ReadFailure,
    failure_from,
)
from clue_cli.records import FailureCode, Finding, Origin, Step

Event = Item | Unreadable | ArchiveOpened | Skipped
"""What a walk yields."""


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """How archives are walked: who reads them, whether hidden members are wanted, how deep, and what one may cost.

    `excludes` says of a member's locator whether it is left out, with all that is in it.
    """

    reader: ArchiveReader
    hidden: bool = False
    depth: int = 3
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    excludes: Callable[[str], bool] = lambda locator: False


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file or member whose type is not known yet.

    Attributes:
        item: what to hand out if it is no archive.
        stream: its bytes, from the start.
        seekable: the same file, if it is one on disk or in a store.
        name: its file name as it is, for what the name claims.
        depth: how many archives it is in.
        budget: of the archive it is in, None for a file on disk.
    """

    item: Item
    stream: HeadedStream
    seekable: BinaryIO | None
    name: str
    depth: int = 0
    budget: Budget | None = None


def unreadable(locator: str, step: Step, failure: ReadFailure) -> Unreadable:
    """The failure of what stands at the locator."""
    return Unreadable(locator, step, failure.code, failure.message, failure.advice)


def source_events(source: Source, options: ArchiveOptions) -> Iterator[Event]:
    """The item itself, or, if it is an archive, what is in it. Raises ReadFailure if not even its head can be read."""
    head = source.stream.peek(HEAD_SIZE)
    locator, type_name, claim = source.item.locator, sniff(head), claimed_type(source.name)
    if claim == "zip" != type_name and source.seekable is not None and _ends_as_zip(source.seekable):
        type_name = "zip"  # what was put before it comes out as what it is
    if type_name == "ole" and claim == "msg":
        type_name = "msg"
    if kind_of(type_name) is Kind.OTHER and is_archive(claim):
        if not head:
            failure = ReadFailure(FailureCode.EMPTY_FILE, "The file is empty.")
            yield unreadable(locator, Step.ARCHIVE, failure)
            return
        if claim is None or not FORMATS[claim].by_name:
            extension = extension_of(source.name)
            message = f"Its name ends in .{extension}, but its content is of another kind ({type_name})."
            yield unreadable(locator, Step.ARCHIVE, ReadFailure(FailureCode.ARCHIVE_CORRUPT, message))
            return
        type_name = claim
    if options.limits.video_step and kind_of(type_name) is Kind.OTHER and holder_of("", head) == "video":
        type_name = "video"  # by its content alone: FFmpeg would follow what a playlist names
    match kind_of(type_name):
        case Kind.ARCHIVE if source.depth >= options.depth:
            failure = ReadFailure(
                FailureCode.ARCHIVE_TOO_DEEP,
                f"The archive is nested {source.depth + 1} levels deep; --archive-depth is {options.depth}.",
                "Raise --archive-depth.",
            )
            yield unreadable(locator, Step.ARCHIVE, failure)
        case Kind.ARCHIVE:
            if is_picture(claim):
                finding = Finding(
                    kind="archive_named_as_picture",
                    source=Origin.CONTAINER,
                    statement=f"The archive it is in is named like a picture ({claim}).",
                )
                source = replace(source, item=replace(source.item, findings=(*source.item.findings, finding)))
            yield from _archive_events(source, type_name, options)
        case Kind.FOREIGN_ARCHIVE:
            entry = FORMATS[type_name]
            what, advice = entry.title or f"{entry.short} archives", entry.advice
            if type_name == "ole" and source.name.lower().startswith(("thumbs.db", "ehthumbs")):
                what = "thumbnail caches of Windows"
                advice = "Extract their pictures with a viewer of thumbnail caches, and scan those."
            failure = ReadFailure(FailureCode.UNSUPPORTED_FORMAT, f"clue cannot open {what}.", advice)
            yield unreadable(locator, Step.ARCHIVE, failure)
        case _:
            yield source.item


def _ends_as_zip(file: BinaryIO) -> bool:
    place, end = file.tell(), file.seek(0, 2)
    file.seek(max(0, end - CHUNK))
    found = b"PK\x05\x06" in (file.read(CHUNK) or b"")
    file.seek(place)
    return found


def _archive_events(source: Source, type_name: str, options: ArchiveOptions) -> Iterator[Event]:
    locator = source.item.locator
    budget = source.budget or Budget(options.limits)
    names = UniqueNames()
    archive = Archive(type_name, source.name, source.stream, source.seekable)
    yield ArchiveOpened(locator, source.item.path, open=source.item.open if source.item.remote else None)
    try:
        with closing(options.reader.members(archive, budget, source.depth)) as found:
            for member in found:
                budget.charge_member()
                yield from _member_events(member, source, names, budget, options)
    except Exception as error:
        yield unreadable(locator, Step.ARCHIVE, failure_from(error))


def _member_events(
    member: Member, archive: Source, names: UniqueNames, budget: Budget, options: ArchiveOptions
) -> Iterator[Event]:
    path, oddities = member_path(member.name)
    locator = archive.item.locator + MEMBER + names.take(path)
    if not options.hidden and any(part.startswith(".") for part in path.split("/")):
        yield Skipped(locator, "hidden")
    elif member.is_link:
        yield Skipped(locator, "archive link")
    elif options.excludes(locator):  # it is not opened: a hard link to it may be wanted
        yield Skipped(locator, "excluded")
    else:
        findings = (*archive.item.findings, *oddities, *member.findings)
        try:
            with HeadedStream(member.open()) as stream:
                if member.stray and kind_of(sniff(stream.peek(HEAD_SIZE))) is Kind.OTHER:
                    raise _stray_bytes(stream, member)
                item = Item(locator, member.size, None, lambda: cast(BinaryIO, stream), findings)
                source = Source(item, stream, None, member.name, archive.depth + 1, budget)
                yield from source_events(source, options)
        except Exception as error:  # the rest of the archive goes on
            yield unreadable(locator, Step.ARCHIVE, failure_from(error))


def _stray_bytes(stream: HeadedStream, member: Member) -> ReadFailure:
    while stream.read(CHUNK):
        pass
    place = member.findings[0].statement.removeprefix("It lies ").removesuffix(".")
    message = f"{stream.consumed:,} bytes lie {place}; they are no picture and no archive that clue knows."
    return ReadFailure(FailureCode.UNSUPPORTED_FORMAT, message)
