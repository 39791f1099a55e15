"""Folders that an earlier run of clue wrote, found in the evidence: what it wrote there is no evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clue_cli.evidence.streams import ReadFailure, read_some
from clue_cli.records import Finding, Origin


@dataclass(frozen=True, slots=True)
class Command:
    """What a command leaves in its results folder.

    Attributes:
        name: of the command.
        marks: files, and what stands within the first 4096 bytes of them; any one of them is enough.
        entries: names of files and folders that it writes; a pattern.
    """

    name: str
    marks: dict[str, re.Pattern[bytes]]
    entries: re.Pattern[str]


COMMANDS = (
    Command(
        "scan",
        {
            "run.json": re.compile(rb'"tool"\s*:\s*"clue"'),
            "records.jsonl": re.compile(rb'\A\{"kind":"(image|failure)","schema_version"'),
        },
        re.compile(
            r"masks|heatmaps|verdicts|previews|panels|synthetic|runs|run\.json|(manifest|evidence)\.(hashdeep|dfxml)|"
            r"manifest\.sha256(\.minisig|\.tsr)?|records\.(jsonl|torn|parts)|"
            r"(additions|explanations|notes)\.jsonl|summary\.csv|\.clue\.lock|\.tmp|.*\.html"
        ),
    ),
    Command(
        "eval",
        {
            "results.json": re.compile(rb'"tool"\s*:\s*"clue eval"'),
            "measurements.jsonl": re.compile(rb'\A\{"format":\d+,"settings":"[0-9a-f]{64}"'),
        },
        re.compile(r"contact|plots|results\.json|measurements\.jsonl|per_image\.csv|\.clue-eval\.lock|\.tmp|.*\.html"),
    ),
    Command(
        "forge",
        {
            "forge.json": re.compile(rb'"tool":\s*\{\s*"clue":'),
            "forgeries.jsonl": re.compile(rb'\A\{"number": \d+'),
        },
        re.compile(r"images|masks|forge\.json|forgeries\.jsonl|\.clue-forge\.lock|\.tmp"),
    ),
)

FORGE = "forge"
"""The command whose results are pictures that somebody may well want to scan."""


def written_by(
    folder: Path, names: Sequence[str], open_file: Callable[[Path], BinaryIO]
) -> tuple[str, frozenset[str]] | None:
    """Which command wrote its results there, and which of the entries are its own; None if it seems to be none.

    What lies beside them was put there by somebody else and stays evidence.
    """
    for command in COMMANDS:
        if any(name in names and _begins(folder / name, mark, open_file) for name, mark in command.marks.items()):
            return command.name, frozenset(name for name in names if command.entries.fullmatch(name))
    return None


_PICTURE_FOLDERS = frozenset({"masks", "heatmaps", "previews", "panels", "synthetic"})
_PICTURE = re.compile(
    r".+\.\w{1,8}(?:\.p\d{4,})?(?:~[0-9a-f]{12,})?"
    r"(?:\.(?:preview|thumb)\.jpg|(?:\.(?:heat|outline|second|ela|ghosts|noise))?\.png)"
)


def member_findings(path: str) -> tuple[Finding, ...]:
    """What is to be said of an archive member by its path: the files that would tell may come later, or never."""
    *folders, name = path.split("/")
    if _PICTURE_FOLDERS.isdisjoint(folders) or not _PICTURE.fullmatch(name):
        return ()
    statement = "It is named like a picture that clue writes to its results, and may be one of an earlier scan."
    return (Finding(kind="named_like_results", source=Origin.CONTAINER, statement=statement),)


def _begins(path: Path, mark: re.Pattern[bytes], open_file: Callable[[Path], BinaryIO]) -> bool:
    try:
        with open_file(path) as file:
            return mark.search(read_some(file, 4096)) is not None
    except (OSError, ReadFailure):
        return False
