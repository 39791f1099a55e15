"""Which files of the evidence are wanted: by patterns of their paths and by the time of their last change."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from clue_cli.evidence.locator import MEMBER, unescape_name

_DEEPEST = 100
"""Folders deeper than this are not compared by their paths: a path in an archive may have half a million parts."""

_NUMBER = re.compile(r"~\d+(?=/|!/|\Z)")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take; everything by default.

    A pattern is one of a shell, in which `*` matches `/` too and case does not matter. It is compared with the path
    below the root, with the path inside each archive, with each name in them, and with every folder and archive
    above: what matches is taken or left out with all that is in it.

    Attributes:
        include: patterns one of which must match; none: everything.
        exclude: patterns none of which may match; they come before `include`.
        since: earliest time of the last change of a file on disk, seconds since 1970; archives count as a whole.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: float | None = None

    def excludes(self, path: str) -> bool:
        """Whether a file, a folder or an archive member is left out.

        Args:
            path: the locator without its root.
        """
        return bool(self.exclude) and _matches(self.exclude, path)

    def includes(self, path: str) -> bool:
        """Whether a file or an archive member is asked for; a folder or an archive that is not may hold some."""
        return not self.include or _matches(self.include, path)

    def is_older(self, modified: float) -> bool:
        """Whether a file was last changed before what is wanted."""
        return self.since is not None and modified < self.since


@lru_cache(64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.strip("/").casefold()) for pattern in patterns))


def _matches(patterns: tuple[str, ...], path: str) -> bool:
    match = _compiled(patterns).match
    return any(match(candidate) for candidate in _candidates(_NUMBER.sub("", path)))


def _candidates(path: str) -> Iterable[str]:
    """The path, what is above it, the same from each archive on, and every name."""
    rest: str | None = path
    while rest is not None:
        *above, last = rest.split("/")
        # An archive's name has a `!` after it; one that belongs to a name is escaped.
        names = [unescape_name(name) for name in (*(name.removesuffix("!") for name in above), last)]
        yield from (name.casefold() for name in names)
        yield "/".join(names).casefold()
        yield from ("/".join(names[:end]).casefold() for end in range(2, min(len(names), _DEEPEST)))
        _, member, inner = rest.partition(MEMBER)
        rest = inner if member else None
