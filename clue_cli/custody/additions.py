"""`additions.jsonl`: what commands of clue wrote into a results folder after its manifest, by their own account.

The manifest says nothing about these files, and anybody who can write into the folder can write such a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from clue_cli import __version__
from clue_cli.errors import OutputError
from clue_cli.evidence.reader import hash_file
from clue_cli.records import Model
from clue_cli.results.folder import output_errors
from clue_cli.results.manifest_names import ADDITIONS, MANIFEST_SUMS, PAGE_NAME

_MOST = 16 << 20
"""Bytes of the file that are read: it may be an attacker's."""


class Addition(Model):
    """A file as a command left it."""

    path: str
    byte_size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    command: str = Field(pattern="^[a-z]{1,20}$")
    version: str
    written: str

    @field_validator("path")
    @classmethod
    def _is_page(cls, value: str) -> str:
        if not PAGE_NAME.fullmatch(value):
            raise ValueError("no name of a page or a document")
        return value


def note_additions(folder: Path, names: Iterable[str], command: str) -> None:
    """Note files that a command has written into a results folder; nothing happens where there is no manifest.

    Args:
        folder: which the command has locked.
        names: of files directly below it, as `PAGE_NAME` allows them.
        command: such as `report`.

    Raises:
        OutputError: it cannot be written, or is a link, which may lead anywhere.
    """
    if not (folder / MANIFEST_SUMS).is_file():
        return
    path = folder / ADDITIONS
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(
            f"{path} is a link or no file, and clue makes none there: it is not written to.", "Remove it."
        )
    with output_errors(path), path.open("ab") as stream:
        for name in names:
            size, _, hashes = hash_file(folder / name)
            one = Addition(
                path=name,
                byte_size=size,
                sha256=hashes["sha256"],
                command=command,
                version=__version__,
                written=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            stream.write(one.model_dump_json().encode() + b"\n")


def additions_in(folder: Path) -> dict[str, Addition] | None:
    """The last addition of each name; None if the file is not as clue writes it.

    Raises:
        OSError: it cannot be read.
    """
    path = folder / ADDITIONS
    if not path.exists() and not path.is_symlink():
        return {}
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST:
        return None
    content = path.read_bytes()
    try:
        found = [Addition.model_validate_json(line) for line in content.splitlines()]
    except ValidationError:
        return None
    written = b"".join(one.model_dump_json().encode() + b"\n" for one in found)
    return {one.path: one for one in found} if written == content else None
