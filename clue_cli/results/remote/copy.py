"""Results in an object store, to be read on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from clue_cli.errors import ClueError, NothingToScanError
from clue_cli.remote import Url
from clue_cli.results.folder import output_errors
from clue_cli.results.reader import LOG, RUN
from clue_cli.results.remote.folder import fetch_documents
from clue_cli.results.remote.objects import Objects
from clue_cli.results.remote.segments import fetch_log
from clue_cli.results.scan_store import PICTURE_FOLDERS

_LARGEST_PICTURE = 1 << 30
"""Bytes; of a larger object only so many are read."""


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


@contextmanager
def fetched_picture(url: Url, folder: Path, relative: str) -> Iterator[Path | None]:
    """A picture of results at a URL in a temporary file in `folder`; None if there is none, or it is empty.

    Args:
        relative: as a record names it.

    Raises:
        NothingToScanError: it cannot be read.
        OutputError: the folder cannot be written.
    """
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not PICTURE_FOLDERS.intersection(path.parts[:1]):
        yield None
        return
    content = Objects(url, NothingToScanError).get(str(path), _LARGEST_PICTURE)
    if not content:
        yield None
        return
    file = folder / f"picture{path.suffix}"
    with output_errors(file):
        file.write_bytes(content)
    try:
        yield file
    finally:
        file.unlink()
