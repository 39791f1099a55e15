"""Where results folders are: on this machine, or at a URL."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from clue_cli.errors import UsageError
from clue_cli.remote import Url
from clue_cli.results.folder import ResultsFolder


def folder_at(out: Path | Url, streamed: Collection[str]) -> ResultsFolder:
    """A results folder, of which nothing is made or read yet.

    Args:
        out: where.
        streamed: the folders in it of which no copy is kept on this machine if it is elsewhere.

    Raises:
        UsageError, OutputError: as of `RemoteFolder`.
    """
    if isinstance(out, Path):
        return ResultsFolder(out)
    from clue_cli.results.remote.folder import RemoteFolder

    return RemoteFolder(out, streamed)


def check_apart(out: Path | Url, evidence: Sequence[Path | Url]) -> None:
    """Raise UsageError if evidence lies in the results folder."""
    folder = _place(out)
    for path in evidence:
        if _place(path)[: len(folder)] == folder:
            raise UsageError(
                f"The evidence {path} lies in the results folder {out}.",
                "Evidence is never written to: choose a folder of its own with --out.",
            )


def _place(path: Path | Url) -> tuple[str, ...]:
    if isinstance(path, Path):
        return "", *Path(os.path.realpath(path)).parts
    return path.protocol, *path.path.split("/")
