"""Whose a folder is: nobody's, clue's own results, or something that is not to be written to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from clue_cli.errors import OutputError, UsageError
from clue_cli.scan.records import SCHEMA_VERSION, RunRecord

LOG, RUN, LOCK = "records.jsonl", "run.json", ".clue.lock"
"""The files by which results are known again, and the one that is held while a scan writes."""

# Written by desktops into any folder they show, and by mkfs into the root of a disk.
_SYSTEM_FILES = frozenset({".DS_Store", "desktop.ini", "Thumbs.db", "lost+found", "System Volume Information"})


def check_apart(out: Path, evidence: Sequence[Path]) -> None:
    """Raise UsageError if evidence lies in the results folder."""
    folder = Path(os.path.realpath(out))
    for path in evidence:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            raise UsageError(
                f"The evidence {path} lies in the results folder {out}.",
                "Evidence is never written to: choose a folder of its own with --out.",
            )


def check_ours(out: Path) -> None:
    """Refuse a folder that holds anything but results of clue.

    Raises:
        OutputError: it does, or holds results of a newer version.
        OSError: it cannot be read.
    """
    run, log = out / RUN, out / LOG
    if read_run(run) is not None or _starts_with_record(log):
        return
    foreign = next((path.name for path in out.iterdir() if path.name not in _SYSTEM_FILES | {LOCK, ".tmp"}), None)
    if foreign is not None:
        raise OutputError(
            f"{out} holds something else than results of clue: {foreign}.",
            "Nothing was changed there. Choose a new or an empty folder with --out.",
        )


def _starts_with_record(log: Path) -> bool:
    if not log.is_file():
        return False
    with log.open("rb") as stream:
        return stream.read(16).startswith((b'{"kind":"image"', b'{"kind":"failure'))


def read_run(path: Path) -> RunRecord | None:
    """The run of an earlier scan, None if there is none that can be read.

    Raises:
        OutputError: it is of a newer version, whose results this one would damage.
    """
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        written_by = _WrittenBy.model_validate_json(content)
    except ValidationError:
        return None
    if written_by.numbers() > _WrittenBy().numbers():
        raise OutputError(
            f"{path.parent} holds results of a newer version of clue.",
            "Update clue, or choose another folder with --out.",
        )
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError:
        return None


class _WrittenBy(BaseModel):
    """The two keys of `run.json` that no version changes."""

    tool: Literal["clue"] = "clue"
    schema_version: str = Field(default=SCHEMA_VERSION, pattern=r"^\d{1,6}\.\d{1,6}$")

    def numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.schema_version.split(".")))
