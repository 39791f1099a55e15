"""From the flat, sorted listing of a store to what is wanted of it, with the rules that hold for folders on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clue_cli.evidence.earlier_results import COMMANDS, FORGE
from clue_cli.evidence.item import Skipped, Unreadable
from clue_cli.evidence.locator import escape_name
from clue_cli.evidence.objects import Fetched, NotThere, Object, Store
from clue_cli.evidence.streams import ReadFailure
from clue_cli.records import Step
from clue_cli.remote import Url

if TYPE_CHECKING:
    from clue_cli.evidence.walk import WalkOptions

_HEAD = 4096  # bytes


def escape_part(name: str) -> str:
    """One part of a key, as `escape_name` makes it, but for parts that no file system knows: none at all, and `.`."""
    return {"": r"\u002f", ".": r"\u002e"}.get(name) or escape_name(name)


def locator_of(url: Url) -> str:
    """The URL as a locator."""
    return f"{url.protocol}://" + "/".join(map(escape_part, url.path.split("/")))


@dataclass(slots=True)
class _Folder:
    """One of those that the object at hand is in; `ours`: a command whose results it holds and that are not wanted."""

    name: str
    locator: str
    path: str
    left_out: bool = False
    asked: set[str] = field(default_factory=set)
    ours: str | None = None


def wanted(
    store: Store, locator: str, options: WalkOptions, takes: Callable[[str, int], bool]
) -> Iterator[Skipped | Unreadable | Fetched]:
    """What is at and below the URL of a store, but for what the options leave out.

    Args:
        locator: of the URL.
        takes: says of a locator and a size whether this shard takes the object.

    Yields:
        `Fetched` for each object; of a folder that is left out with all that is in it, one `Skipped`.
    """
    itself, refused = None, None
    try:
        itself = store.itself()
    except ReadFailure as failure:
        refused = failure
    if itself is not None and takes(locator, itself.size):
        older = itself.modified is not None and options.selection.is_older(itself.modified)
        yield Skipped(locator, "older") if older else Fetched(store, itself, locator, store.url.name)
    listing = _Listing(store, locator, options, takes)
    try:
        if store.lost is None:
            yield from listing.events()
        if listing.found:
            refused = None
    except ReadFailure as failure:
        if itself is None or listing.found:  # who may read an object need not be allowed to list a bucket
            refused = refused if refused is not None and isinstance(failure, NotThere) else failure
    if refused is not None:
        yield Unreadable(locator, Step.WALK, refused.code, refused.message, refused.advice)


class _Listing:
    def __init__(self, store: Store, locator: str, options: WalkOptions, takes: Callable[[str, int], bool]) -> None:
        self._store, self._options, self._takes = store, options, takes
        self._root, self._above = locator, len(locator) + 1
        self._folders = [_Folder("", locator, "")]
        self.found = 0

    def events(self) -> Iterator[Skipped | Fetched]:
        for listed in self._store.below():
            self.found += 1
            yield from self._object(listed)

    def _object(self, listed: Object) -> Iterator[Skipped | Fetched]:
        *parents, name = listed.path.split("/")
        depth = 1
        while depth < len(self._folders) and depth <= len(parents) and self._folders[depth].name == parents[depth - 1]:
            depth += 1
        del self._folders[depth:]
        for parent in parents[depth - 1 :]:
            if self._folders[-1].left_out:
                return
            above = self._folders[-1]
            folder = _Folder(parent, f"{above.locator}/{escape_part(parent)}", f"{above.path}{parent}/")
            folder.left_out = yield from self._leaves_out(above, parent, folder.locator)
            self._folders.append(folder)
        above = self._folders[-1]
        if above.left_out or (not name and not listed.size):  # an object that marks a folder
            return
        where = f"{above.locator}/{escape_part(name)}"
        if (yield from self._leaves_out(above, name, where)):
            return
        if listed.is_link:
            yield Skipped(where, "link")
        elif listed.modified is not None and self._options.selection.is_older(listed.modified):
            yield Skipped(where, "older")
        elif self._takes(where, listed.size):
            yield Fetched(self._store, listed, where, name)

    def _leaves_out(self, above: _Folder, name: str, where: str) -> Generator[Skipped, None, bool]:
        """Whether an entry of a folder is left out with all that is in it."""
        if (yield from self._is_ours(above, name)):
            return True
        if self._options.selection.excludes(where[self._above :]):
            yield Skipped(where, "excluded")
            return True
        if name.startswith(".") and name not in (".", "..") and not self._options.hidden:
            yield Skipped(where, "hidden")
            return True
        if isinstance(self._options.exclude, Url) and where == locator_of(self._options.exclude):
            yield Skipped(where, "results")
            return True
        return False

    def _is_ours(self, folder: _Folder, name: str) -> Generator[Skipped, None, bool]:
        """Whether an earlier run of clue wrote it; asked only where something is named as if one had."""
        for command in COMMANDS:
            if command.name in folder.asked or folder.ours or not command.entries.fullmatch(name):
                continue
            folder.asked.add(command.name)
            unwanted = (
                not self._options.made and folder.locator != self._root
                if command.name == FORGE
                else not self._options.results
            )
            if unwanted and any(self._begins(folder.path + mark, pattern) for mark, pattern in command.marks.items()):
                folder.ours = command.name
                yield Skipped(folder.locator, "former results")
        return any(command.name == folder.ours and command.entries.fullmatch(name) for command in COMMANDS)

    def _begins(self, path: str, mark: re.Pattern[bytes]) -> bool:
        head = self._store.beginning(path, _HEAD)
        return head is not None and mark.search(head) is not None
