"""From paths to items: every file below them, lazily, in an order that does not change from run to run.

A folder that cannot be listed, a link that leads nowhere or in a circle, a pipe, a file that vanished, each becomes an
`Unreadable` and the walk goes on; only a store that cannot be reached any more stops it. Only one folder's names are
held at a time (and those of the folders above it), so memory does not grow with the size of the evidence. Of URLs,
`objects` lists and reads, and `object_walk` says what is wanted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from clue_cli.errors import NothingToScanError
from clue_cli.evidence.archive import ArchiveOptions, Event, Source, source_events, unreadable
from clue_cli.evidence.earlier_results import FORGE, member_findings, written_by
from clue_cli.evidence.formats import claimed_type, is_archive
from clue_cli.evidence.item import ArchiveOpened, Item, Skipped, Unreadable
from clue_cli.evidence.locator import UniqueNames, escape_name
from clue_cli.evidence.object_walk import locator_of, wanted
from clue_cli.evidence.objects import Fetched, ahead, check_url, open_store
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.shard import LARGEST_WHOLE, Listing, Shard
from clue_cli.evidence.streams import ArchiveLimits, HeadedStream, ReadFailure, failure_from
from clue_cli.records import FailureCode, Step
from clue_cli.remote import Url


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """What a walk takes in.

    Attributes:
        hidden: also files and folders whose name starts with a dot, on disk and in archives.
        follow_links: follow symbolic links found below the paths. A path that is itself a link is always followed.
        archive_depth: archives in archives; 1 opens an archive but none inside it, 0 opens none.
        exclude: a folder (the results of this run) that is left out if the walk comes upon it.
        results: also what earlier runs of `clue scan` and `clue eval` wrote, which is no evidence.
        made: also pictures that `clue forge` made; a folder of them that is a path of its own is always taken.
        selection: which files.
        limits: what one archive may cost.
        shard: of the evidence; None: all of it.
        listing: of a shard: notes the files of all shards.
    """

    hidden: bool = False
    follow_links: bool = False
    archive_depth: int = 3
    exclude: Path | Url | None = None
    results: bool = False
    made: bool = True
    selection: Selection = field(default_factory=Selection)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    shard: Shard | None = None
    listing: Listing | None = None


def check_paths(paths: Sequence[Path | Url]) -> None:
    """Check that there are paths and that they exist. No file is opened; of a URL the store is asked.

    Raises:
        NothingToScanError: no path is given, or one does not exist.
        RemoteError: a store cannot be reached, or there is no such bucket.
    """
    if not paths:
        raise NothingToScanError("No path to scan was given.")
    missing = [escape_name(str(path)) for path in paths if isinstance(path, Path) and not os.path.lexists(path)]
    opened: dict[str, Any] = {}
    missing += [url.shown for url in paths if isinstance(url, Url) and not check_url(url, opened)]
    if missing:
        raise NothingToScanError(f"Not found: {', '.join(missing)}.", "Check the spelling.")


def walk(
    paths: Sequence[Path | Url],
    options: WalkOptions | None = None,
    reader: ArchiveReader | None = None,
    listed: Sequence[Path | Url] = (),
) -> Iterator[Event]:
    """Every file below the paths and in their archives, sorted by name folder by folder.

    Args:
        reader: of archives; None: one that ends with the walk.
        listed: further paths, from a list; their locators are the whole paths, so that they do not depend on the
            order of the list. One that does not exist becomes an `Unreadable`. The locator of a URL is always the
            whole URL.

    Yields:
        `Item` for each file or member, `Unreadable` for what cannot be reached, `ArchiveOpened` before the members
        of an archive, `Skipped` for what the options leave out. An item of an archive must be read before the next
        one is asked for.

    Raises:
        ClueError: a store cannot be opened, or cannot be reached any more.
    """
    if reader is None:
        with ArchiveReader() as own:
            yield from walk(paths, options, own, listed)
        return
    walker = _Walk(options or WalkOptions(), reader)
    alone = len(paths) == 1 and not listed
    for path, locator, name in with_locators(paths, listed):
        yield from walker.root(path, locator, name, alone=alone)


def with_locators(
    paths: Sequence[Path | Url], listed: Sequence[Path | Url] = ()
) -> Iterator[tuple[Path | Url, str, str]]:
    """Each path once, with its locator and its name; arguments as of `walk`."""
    names = UniqueNames()
    seen: set[str] = set()
    urls = {str(path) for path in (*paths, *listed) if isinstance(path, Url)}
    for number, path in enumerate((*paths, *listed)):
        real = str(path) if isinstance(path, Url) else os.path.realpath(path)  # unlike Path.resolve, it survives a loop
        if real in seen:
            continue
        seen.add(real)
        if isinstance(path, Url):
            locator = locator_of(path)
            if any(f"{path.protocol}://{above}" in urls for above in _above(path.path)):
                names.take(locator)  # the URL above it has the same objects, under their plain names
            yield path, names.take(locator), path.name
            continue
        # The name as typed; `.`, `..` and `/` have none of their own.
        name = path.name if path.name not in ("", "..") else Path(real).name or "root"
        yield path, names.take(escape_name(name) if number < len(paths) else whole_path(path)), name


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def whole_path(path: Path) -> str:
    """The locator of a path of a list."""
    parts = Path(os.path.normpath(path)).parts
    return "/".join(escape_name(part) for part in parts if part.strip("/\\")) or "root"


_FileId = tuple[int, int]


@dataclass(slots=True)
class _Folder:
    path: Path
    locator: str
    file_id: _FileId
    names: Iterator[str]


class _Walk:
    def __init__(self, options: WalkOptions, reader: ArchiveReader) -> None:
        self._options = options
        self._archives = ArchiveOptions(
            reader,
            options.hidden,
            options.archive_depth,
            options.limits,
            lambda locator: options.selection.excludes(locator[self._above :]),
        )
        self._folders: list[_Folder] = []
        self._followed: set[_FileId] = set()
        self._root, self._above, self._alone = "", 0, False
        self._stores: dict[str, Any] = {}
        self._divided = False
        """Whether the events are those of an archive whose members are divided among the shards."""

    def root(self, path: Path | Url, locator: str, name: str, *, alone: bool) -> Iterator[Event]:
        """What belongs to the shard of one PATH argument and everything below it; `alone`: there is no other one."""
        # Patterns are compared with the path below a folder, and with the name of a file.
        is_folder = isinstance(path, Path) and path.is_dir()
        self._root, self._above = locator, len(locator) + 1 if is_folder else locator.rfind("/") + 1
        self._alone = alone
        events = self._events(path, locator, name) if isinstance(path, Path) else self._objects(path, locator)
        for event in events:
            if self._is_mine(event.locator):
                yield event
            elif self._divided and (isinstance(event, ArchiveOpened) or (isinstance(event, Item) and event.is_member)):
                yield replace(event, other_shard=True)

    def _is_mine(self, locator: str) -> bool:
        shard = self._options.shard
        return shard is None or shard.holds(self._key(locator), divided=self._divided)

    def _key(self, locator: str) -> str:
        return locator[len(self._root) :] if self._alone else locator

    def _events(self, path: Path, locator: str, name: str) -> Iterator[Event]:
        try:
            yield from self._entry(path, locator, name, follow=True)
            while self._folders:  # not recursion: an attacker may nest folders deeper than Python's stack
                folder = self._folders[-1]
                child = next(folder.names, None)
                if child is None:
                    self._folders.pop()
                    continue
                where = f"{folder.locator}/{escape_name(child)}"
                if self._options.selection.excludes(where[self._above :]):
                    yield Skipped(where, "excluded")
                elif child.startswith(".") and not self._options.hidden:
                    yield Skipped(where, "hidden")
                else:
                    yield from self._entry(folder.path / child, where, child, follow=self._options.follow_links)
        finally:
            self._folders.clear()

    def _entry(self, path: Path, locator: str, name: str, *, follow: bool) -> Iterator[Event]:
        try:
            status = path.lstat()
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link and not follow:
                yield Skipped(locator, "link")
                return
            if is_link:
                status = path.stat()
        except OSError as error:
            yield unreadable(locator, Step.WALK, _status_failure(error, path, locator == self._root))
            return
        if stat.S_ISDIR(status.st_mode):
            yield from self._folder(path, locator, (status.st_dev, status.st_ino), is_link)
        elif self._options.selection.is_older(status.st_mtime):
            yield Skipped(locator, "older")
        elif stat.S_ISREG(status.st_mode):
            yield from self._file(path, locator, name, status.st_size)
        else:
            failure = ReadFailure(FailureCode.UNREADABLE, f"It is {_special(status.st_mode)}, not a file.")
            yield unreadable(locator, Step.WALK, failure)

    def _folder(self, path: Path, locator: str, file_id: _FileId, is_link: bool) -> Iterator[Event]:
        if self._is_excluded(file_id):
            yield Skipped(locator, "results")
            return
        if any(folder.file_id == file_id for folder in self._folders):
            failure = ReadFailure(FailureCode.LINK_LOOP, "The link leads back to a folder that it is in.")
            yield unreadable(locator, Step.WALK, failure)
            return
        if is_link and file_id in self._followed:
            yield Skipped(locator, "link")  # else links between n folders could make n! paths
            return
        if is_link:
            self._followed.add(file_id)
        try:
            with os.scandir(path) as entries:
                names = sorted((entry.name for entry in entries), key=os.fsencode)
        except OSError as error:
            failure = ReadFailure(FailureCode.UNREADABLE, f"The folder cannot be listed: {error.strerror}.")
            yield unreadable(locator, Step.WALK, failure)
            return
        if (found := written_by(path, names, open_file)) and not self._takes(found[0], locator):
            names = [name for name in names if name not in found[1]]
            yield Skipped(locator, "former results")
        self._folders.append(_Folder(path, locator, file_id, iter(names)))

    def _takes(self, command: str, locator: str) -> bool:
        """Whether the results of a command are wanted."""
        return (self._options.made or locator == self._root) if command == FORGE else self._options.results

    def _is_excluded(self, file_id: _FileId) -> bool:
        if not isinstance(self._options.exclude, Path):
            return False
        try:
            status = self._options.exclude.stat()  # not once for all: it may be made during the walk
        except OSError:
            return False
        return file_id == (status.st_dev, status.st_ino)

    def _file(self, path: Path, locator: str, name: str, size: int) -> Iterator[Event]:
        if self._is_taken(locator, size):
            yield from self._content(
                Item(locator, size, path, partial(open_file, path)), name, partial(open_file, path)
            )

    def _is_divided(self, locator: str, size: int) -> bool:
        """Whether its members are divided among the shards if it is an archive."""
        return size > LARGEST_WHOLE or (self._alone and locator == self._root)

    def _is_taken(self, locator: str, size: int) -> bool:
        """Whether a listed file is to be opened by this shard."""
        if self._options.listing is not None:
            self._options.listing.add(self._key(locator), size)
        return self._is_divided(locator, size) or self._is_mine(locator)

    def _objects(self, url: Url, locator: str) -> Iterator[Event]:
        store = open_store(url, self._stores)
        with closing(ahead(wanted(store, locator, self._options, self._is_taken))) as things:
            for thing in things:
                if isinstance(thing, Fetched):
                    self._above = len(locator) + 1 if thing.locator != locator else locator.rfind("/") + 1
                    item = Item(thing.locator, thing.object.size, None, thing.open, remote=True)
                    yield from self._content(item, thing.name, thing.look)
                else:
                    yield thing
                if store.lost is not None:
                    raise store.lost

    def _content(self, item: Item, name: str, opened: Callable[[], BinaryIO]) -> Iterator[Event]:
        """A file, or what is in it if it is an archive."""
        locator = item.locator
        self._divided = self._is_divided(locator, item.size or 0) and self._options.shard is not None
        try:
            with opened() as file:
                for event in source_events(Source(item, HeadedStream(file), file, name), self._archives):
                    yield self._chosen(event)
        except ReadFailure as failure:
            yield unreadable(locator, Step.READ, failure)
        except OSError as error:
            yield unreadable(locator, Step.READ, failure_from(error))
        finally:
            self._divided = False

    def _chosen(self, event: Event) -> Event:
        """The event, or that its file or member is left out."""
        chosen, path = self._options.selection, event.locator[self._above :]
        if isinstance(event, Item | Unreadable):
            if chosen.excludes(path):
                return Skipped(event.locator, "excluded")
            # What an archive that cannot be opened holds is not known: it stays a failure.
            if not chosen.includes(path) and (isinstance(event, Item) or not is_archive(claimed_type(path))):
                return Skipped(event.locator, "not included")
        if isinstance(event, Item) and event.is_member and not self._options.results:
            return replace(event, findings=(*event.findings, *member_findings(path)))
        return event


def open_file(path: Path) -> BinaryIO:
    """A regular file, for reading, unbuffered; leaves its access time alone where the system lets us.

    Raises OSError if it cannot be opened, ReadFailure if it is not a regular file any more: a pipe put in its place
    must not make us wait.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # O_NOATIME is for the owner of the file
        descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ReadFailure(FailureCode.CHANGED_DURING_SCAN, "It was a file when it was listed, but no longer is.")
    return cast(BinaryIO, os.fdopen(descriptor, "rb", buffering=0))


def _status_failure(error: OSError, path: Path, is_root: bool) -> ReadFailure:
    if error.errno == errno.ELOOP:
        return ReadFailure(FailureCode.LINK_LOOP, "The link leads in a circle.")
    if error.errno == errno.ENOENT and path.is_symlink():
        return ReadFailure(FailureCode.UNREADABLE, "The link leads to something that does not exist.")
    if error.errno == errno.ENOENT and is_root:
        return ReadFailure(FailureCode.UNREADABLE, "It does not exist.", "Check the spelling in the list.")
    if error.errno == errno.ENOENT:
        return ReadFailure(FailureCode.UNREADABLE, "It vanished between listing and reading.")
    return ReadFailure(FailureCode.UNREADABLE, f"It cannot be examined: {error.strerror}.")


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
