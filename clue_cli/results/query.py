"""SQL over the records of a results folder or of a Parquet export, in DuckDB.

The query is the user's own and the data are hostile. DuckDB has a database in memory and one table, which reads the
records through pyarrow; it can neither open a file nor load an extension, and its configuration is locked. One
statement is run, which must be a SELECT (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are SELECTs to DuckDB).

The records of a results folder are first written as Parquet into the folder for temporary files, so that a query may
read them several times in flat memory; nothing is written into the results folder.

duckdb and pyarrow (extra `tables`) are imported inside functions only.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clue_cli.errors import NothingToScanError, OutputError, UsageError
from clue_cli.machine import cores, memory
from clue_cli.records import FailureRecord, Finding, ImageRecord, Region
from clue_cli.results.export import parquet
from clue_cli.results.reader import ResultsReader, holds_results, is_newer
from clue_cli.results.selection import Queried
from clue_cli.results.tables import SCHEMA_KEY, columns, schema
from clue_cli.terminal import counted
from model.reporter import SILENT, Reporter

if TYPE_CHECKING:
    import duckdb
    from pyarrow import dataset

VIEWS = ("images", "failures", "regions", "findings")
"""What a query reads; `regions` and `findings` have a row for each of those of an image."""

_FETCHED = 1000
_EXPLAIN = "EXPLAIN "
_LEAST_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query.

    Attributes:
        columns: the names of its columns, which may be equal.
        rows: its rows, read once; each raises UsageError as `answer` does.
        reader: the results folder that was read; None for an export.
    """

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]
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
    with _temporary_folder() as folder:
        connection = _locked(folder)
        try:
            statement = _one_select(connection, sql)
            connection.register("records", schema().empty_table())
            for name, view in _views().items():
                connection.execute(f"CREATE VIEW {name} AS {view}")
            with _sql_errors(sql, shift=len(_EXPLAIN)):  # what is wrong is known before all records are read
                connection.execute(_EXPLAIN + sql)
            reader, records = _records(results, folder, reporter)
            connection.unregister("records")
            connection.register("records", records)
            with _sql_errors(sql):
                _interruptible(connection, lambda: connection.execute(statement))
            names = [str(column[0]) for column in connection.description or []]
            yield Answer(names, _rows(connection, sql), reader)
        finally:
            connection.close()


def queried(results: Path, sql: str, reporter: Reporter = SILENT) -> Queried:
    """The records that a query names by its column `locator` and, if it has one, `page`; arguments and errors as of
    `answer`. Also raises UsageError if there is no such column, or what it holds is not of its type."""
    with answer(results, sql, reporter) as found:
        by_page = "page" in found.columns
        wanted = [name for name in ("locator", "page") if name == "locator" or by_page]
        if any(found.columns.count(name) != 1 for name in wanted):
            raise UsageError(
                "The query must have one column locator, and at most one page.",
                "Write it like `select locator, page from images where score > 0.9`.",
            )
        places = [found.columns.index(name) for name in wanted]
        keys: set[Any] = set()
        for row in found.rows:
            locator, *page = (row[place] for place in places)
            if not isinstance(locator, str) or not all(isinstance(number, int | None) for number in page):
                raise UsageError("A locator of the query is not text, or a page is no integer.")
            keys.add((locator, *page) if by_page else locator)
    return Queried(sql, keys, by_page)


def _locked(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection that reaches no file but its own in `folder`, to which it spills."""
    import duckdb
    import pyarrow as pa

    pa.set_cpu_count(cores())
    most = max(_LEAST_MEMORY, (memory() or 4 * _LEAST_MEMORY) // 2)
    config: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "temp_directory": str(folder / "spilled"),
        "memory_limit": f"{most >> 20}MiB",
        "threads": str(cores()),
        "errors_as_json": "true",
    }
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET enable_progress_bar = false")  # it would go to stdout, among the answer
    connection.execute("SET lock_configuration = true")
    return connection


def _one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    import duckdb

    with _sql_errors(sql):
        statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError(
            f"The query has {counted(len(statements), 'statement')} in the place of one.", "Write one SELECT."
        )
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = statements[0].type.name.replace("_", " ")
        raise UsageError(f"The query is no SELECT ({kind}), and records are only read.", "Write one SELECT.")
    return statements[0]


def _records(results: Path, folder: Path, reporter: Reporter) -> tuple[ResultsReader | None, dataset.Dataset]:
    from pyarrow import dataset

    try:
        known = results.is_dir() and holds_results(results)
    except OSError as error:
        raise NothingToScanError(f"{results} cannot be read: {error.strerror or error}.") from error
    except OutputError as error:
        raise NothingToScanError(error.message, "Update clue.") from error
    if not known and (results.is_file() or (results.is_dir() and any(results.rglob("*.parquet")))):
        return None, _export(results)
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
    return reader, dataset.dataset(str(file), schema=schema(), format="parquet")


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


def _counted(reader: ResultsReader, reporter: Reporter) -> Iterator[ImageRecord | FailureRecord]:
    for record in reader.records():
        reporter.advance()
        yield record


def _export(path: Path) -> dataset.Dataset:
    import pyarrow as pa
    from pyarrow import dataset

    keys = pa.schema([schema().field(name) for name in parquet.PARTITIONS])
    hive = dataset.partitioning(keys, flavor="hive")
    try:
        found = dataset.dataset(str(path), format="parquet", partitioning=hive)
        version = (found.schema.metadata or {}).get(SCHEMA_KEY, b"").decode("utf-8", "replace")
        newer = is_newer(version)
        records = dataset.dataset(str(path), schema=schema(), format="parquet", partitioning=hive)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise NothingToScanError(
            f"{path} is not a Parquet export of clue: {error}", "Name a results folder, or what clue export wrote."
        ) from error
    if newer:
        raise NothingToScanError(f"{path} is an export of a newer version of clue.", "Update clue.")
    return records


def _views() -> Mapping[str, str]:
    images, failures = (", ".join(f'"{name}"' for name in columns(model)) for model in (ImageRecord, FailureRecord))
    views = {
        "images": f"SELECT {images} FROM records WHERE kind = 'image'",
        "failures": f"SELECT {failures} FROM records WHERE kind = 'failure'",
    }
    for name, model in (("regions", Region), ("findings", Finding)):
        parts = ", ".join(f'part."{field}"' for field in model.model_fields)
        views[name] = (
            f"SELECT locator, page, verdict, number, {parts} FROM (SELECT locator, page, verdict, "
            f"generate_subscripts({name}, 1) AS number, unnest({name}) AS part FROM images)"
        )
    return views


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[Any, ...]]:
    while True:
        with _sql_errors(sql):
            rows: list[tuple[Any, ...]] = _interruptible(connection, lambda: connection.fetchmany(_FETCHED))
        if not rows:
            return
        yield from rows


def _interruptible(connection: duckdb.DuckDBPyConnection, run: Callable[[], Any]) -> Any:
    """Call a method of the connection in another thread: DuckDB itself does not always notice Ctrl-C while it waits."""
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(run())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work)
    try:
        thread.start()
        return done.result()
    except KeyboardInterrupt:
        while thread.ident is not None and not done.done():  # the call may not have begun
            connection.interrupt()
            wait([done], timeout=0.1)
        raise


@contextmanager
def _sql_errors(sql: str, shift: int = 0) -> Iterator[None]:
    """Turn what DuckDB reports into a UsageError with the place in the query.

    Args:
        sql: the query.
        shift: how many bytes stand before it in what DuckDB was given.
    """
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(
            f"The query needs more memory than it may use: {_said(error, sql, shift)}", "Select fewer columns or rows."
        ) from error
    except duckdb.PermissionException as error:
        raise UsageError(
            f"The query may read the records alone: {_said(error, sql, shift)}", f"Read from {', '.join(VIEWS)}."
        ) from error
    except duckdb.CatalogException as error:
        raise UsageError(f"SQL: {_said(error, sql, shift)}", f"Tables: {', '.join(VIEWS)}.") from error
    except duckdb.Error as error:
        raise UsageError(
            f"SQL: {_said(error, sql, shift)}", "`describe images` lists the columns of images."
        ) from error


def _said(error: Exception, sql: str, shift: int) -> str:
    """What DuckDB says, with line and column, from 1, where it names a place."""
    text = str(error)
    try:
        said: dict[str, str] = json.loads(text[text.index("{") :])
        message = " ".join(said["exception_message"].split()).rstrip(".")
    except (ValueError, KeyError):
        return f"{text}."
    if not said.get("position", "").isdigit():
        return f"{message}."
    before = sql.encode()[: max(0, int(said["position"]) - shift)].decode(errors="replace")
    return f"{message} (line {before.count(chr(10)) + 1}, column {len(before.rpartition(chr(10))[2]) + 1})."
