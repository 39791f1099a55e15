"""SQL over the records of a results folder or of a Parquet export.

The query is the user's own and the data are hostile: a process of its own, `query_worker`, reads Parquet and runs
DuckDB, within limits of memory and disk but of no time; Ctrl-C ends it.

The records of a results folder are first written as Parquet into the folder for temporary files, so that a query may
read them several times in flat memory; nothing is written into the results folder.

pyarrow (extra `tables`) is imported inside functions only.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from clue_cli.errors import NothingToScanError, OutputError, UsageError
from clue_cli.evidence.sandbox.process import START_SECONDS, Child, ChildDied, checked, whole
from clue_cli.machine import cores, memory
from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.export import parquet
from clue_cli.results.query_worker import ERRORS
from clue_cli.results.reader import ResultsReader, holds_results
from clue_cli.results.selection import Queried
from model.reporter import SILENT, Reporter

WORKER = "clue_cli.results.query_worker"
"""The module that the process runs."""

_LEAST_MEMORY = 256 << 20
_LIBRARIES = 4 << 30
"""Address space that the libraries reserve, most of which they never touch."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query.

    Attributes:
        columns: the names of its columns, which may be equal.
        rows: its rows, read once; each raises UsageError, NothingToScanError and OutputError as `answer` does. Their
            values are of the types of JSON, and Decimal.
        reader: the results folder that was read; None for an export.
    """

    columns: list[str]
    rows: Iterator[list[Any]]
    reader: ResultsReader | None


@contextmanager
def answer(results: Path, sql: str, reporter: Reporter = SILENT) -> Iterator[Answer]:
    """Answer a query while the context is open.

    Args:
        results: a results folder, or a Parquet file or folder that `clue export` wrote.
        sql: one SELECT.
        reporter: receives the progress of reading a results folder.

    Raises:
        UsageError: the query is not one SELECT, or it cannot be answered.
        NothingToScanError: there are no records, or they cannot be read.
        OutputError: the folder for temporary files cannot be written.
    """
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise UsageError("The query is not UTF-8.", "Write it in a terminal whose locale is UTF-8.") from error
    with _temporary_folder() as folder:
        child = Child(WORKER, _setup(folder, sql))
        try:
            with _deaths():
                child.ready(START_SECONDS)
                child.send({"check": True})
                _received(child)  # what is wrong is known before all records are read
            reader, export = _records(results, folder, reporter)
            with _deaths():
                child.send({"path": str(export.absolute())})
                with checked():
                    (names,) = _received(child) or []
            yield Answer(list(map(str, names)), _rows(child, len(names)), reader)
        finally:
            child.stop()


def queried(results: Path, sql: str, reporter: Reporter = SILENT) -> Queried:
    """The records that a query names by its column `locator` and, if it has one, `page`; arguments and errors as of
    `answer`. Also raises UsageError if there is no such column, or what it holds is not of its type."""
    with answer(results, sql, reporter) as found:
        names = [name.lower() for name in found.columns]
        by_page = "page" in names
        wanted = [name for name in ("locator", "page") if name == "locator" or by_page]
        if any(names.count(name) != 1 for name in wanted):
            raise UsageError(
                "The query must have one column locator, and at most one page.",
                "Write it like `select locator, page from images where score > 0.9`.",
            )
        places = [names.index(name) for name in wanted]
        keys: set[Any] = set()
        for row in found.rows:
            locator, *page = (row[place] for place in places)
            if not isinstance(locator, str) or not all(type(number) in (int, type(None)) for number in page):
                raise UsageError("A locator of the query is not text, or a page is no integer.")
            keys.add((locator, *page) if by_page else locator)
    return Queried(sql, keys, by_page)


def _setup(folder: Path, sql: str) -> dict[str, Any]:
    most = memory() or 4 * _LEAST_MEMORY
    return {
        "sql": sql,
        "folder": str(folder),
        "memory": max(_LEAST_MEMORY, most // 2),
        "address_space": max(_LEAST_MEMORY, most // 4 * 3) + _LIBRARIES,
        "disk": max(_LEAST_MEMORY, shutil.disk_usage(folder).free // 2),
        "threads": cores(),
    }


def _records(results: Path, folder: Path, reporter: Reporter) -> tuple[ResultsReader | None, Path]:
    """An export of the records, and the results folder of which it was made, if `results` is none itself."""
    try:
        if results.is_file() or (results.is_dir() and not holds_results(results) and _holds_export(results)):
            return None, results
    except OSError as error:
        raise NothingToScanError(f"{results} cannot be read: {error.strerror or error}.") from error
    except OutputError as error:
        raise NothingToScanError(error.message, "Update clue.") from error
    file = folder / "records.parquet"
    with ResultsReader(results) as reader:
        reporter.stage("Reading the records", "records")
        try:
            with file.open("xb") as stream:
                parquet.write(stream, _counted(reader, reporter))
        except (OSError, sqlite3.Error) as error:
            raise _no_temporary(error) from error
        except ValueError as error:
            raise NothingToScanError(f"A record of {results} cannot be read: {error}.") from error
        reporter.finish()
    return reader, file


def _holds_export(folder: Path) -> bool:
    return any(next(folder.glob(name), None) for name in ("*.parquet", "day=*", "verdict=*"))


def _counted(reader: ResultsReader, reporter: Reporter) -> Iterator[ImageRecord | FailureRecord]:
    for record in reader.records():
        reporter.advance()
        yield record


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="clue-query-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_temporary(error) from error
    with folder as name:
        yield Path(name)


def _no_temporary(error: Exception) -> OutputError:
    cause = (error.strerror if isinstance(error, OSError) else None) or error
    return OutputError(
        f"Cannot use the folder for temporary files, {tempfile.gettempdir()}: {cause}.",
        "Free some space there, or set TMPDIR and SQLITE_TMPDIR to another folder.",
    )


def _rows(child: Child, width: int) -> Iterator[list[Any]]:
    while True:
        with _deaths():
            rows = _received(child)
            if rows is None:
                return
            if any(len(row) != width for row in rows):
                raise ChildDied("sent nonsense (rows of another length)")
        yield from rows


def _received(child: Child) -> list[list[Any]] | None:
    """The next rows that the process sends, None behind the last; raises what was raised there, and ChildDied."""
    reply = child.receive()
    if reply.get("done"):
        return None
    with checked():
        if "error" in reply:
            raise ERRORS[reply["error"]](str(reply["message"]), str(reply["advice"]))
        data = bytearray(whole(reply["size"], 0))
    child.receive_into(memoryview(data))
    try:
        with checked():
            rows = json.loads(data, parse_float=_number)
            if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
                raise ValueError
    except RecursionError as error:
        raise ChildDied("sent nonsense (lists in lists without end)") from error
    return rows


def _number(text: str) -> float | Decimal:
    """A number as it is written: a decimal may have more digits than a float."""
    number = float(text)
    return number if repr(number) == text else Decimal(text)


@contextmanager
def _deaths() -> Iterator[None]:
    try:
        yield
    except ChildDied as error:
        raise UsageError(
            f"The process that answers the query {error}.",
            "Select fewer columns or rows; if RESULTS is an export, write it again with clue export.",
        ) from error
