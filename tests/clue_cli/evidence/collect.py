"""Reading everything that a walk yields, as the pipeline does: each item before the next one is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Skipped, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.streams import ArchiveLimits
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.records import FailureCode


@dataclass
class Found:
    """What a walk came upon, by locator."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    findings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    failures: dict[str, FailureCode] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    advice: dict[str, str | None] = field(default_factory=dict)
    archives: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def fail(self, failure: Unreadable) -> None:
        assert failure.locator not in self.failures, failure
        self.failures[failure.locator] = failure.code
        self.messages[failure.locator] = failure.message
        self.advice[failure.locator] = failure.advice


READER = ArchiveReader()
"""One for all tests; its processes end when their input does."""


def collect(
    path: Path,
    *,
    hidden: bool = False,
    depth: int = 3,
    limits: ArchiveLimits | None = None,
    reader: ArchiveReader = READER,
) -> Found:
    found = Found()
    options = WalkOptions(hidden=hidden, archive_depth=depth, limits=limits or ArchiveLimits())
    for event in walk([path], options, reader):
        match event:
            case Unreadable():
                found.fail(event)
            case ArchiveOpened():
                found.archives.append(event.locator)
            case Skipped():
                found.skipped[event.locator] = event.reason
            case Item():
                found.findings[event.locator] = event.findings
                content = read_item(event)
                if isinstance(content, Unreadable):
                    found.fail(content)
                elif isinstance(content, NotAPicture):
                    found.others.append(content.locator)
                else:
                    assert event.locator not in found.pictures
                    found.pictures[event.locator] = content[0]
    return found
