"""Results in an object store, to be read on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clue_cli.errors import ClueError, NothingToScanError
from clue_cli.remote import Url
from clue_cli.results.folder import output_errors
from clue_cli.results.reader import LOG, RUN
from clue_cli.results.remote.folder import fetch_documents
from clue_cli.results.remote.objects import Objects
from clue_cli.results.remote.segments import fetch_log


@contextmanager
def local_copy(results: Path | Url) -> Iterator[Path]:
    """A results folder on this machine: the folder itself, or a temporary one with what a URL holds but for pictures.

    Raises:
        NothingToScanError: there are no results at the URL, or they cannot be read.
        OutputError: the folder for temporary files cannot be written.
    """
    if isinstance(results, Path):
        yield results
        return
    objects = Objects(results, NothingToScanError)
    with tempfile.TemporaryDirectory(prefix="clue-") as temporary:
        folder = Path(temporary)
        with output_errors(folder):
            found = fetch_log(objects, folder / LOG)
            fetch_documents(objects, folder, found.names)
        if not (found.size or RUN in found.names):
            message = f"There are no results of clue scan in {results.shown}."
            raise NothingToScanError(message, "Name the URL that --out of the scan wrote.")
        try:
            yield folder
        except ClueError as error:
            error.message = error.message.replace(str(folder), results.shown)
            raise
