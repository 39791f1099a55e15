"""The process that answers a query: DuckDB and the reader of Parquet, apart from clue itself.

`query` starts it as `python -P -m clue_cli.results.query_worker`. A Parquet file may come from anybody, and a query may
need more memory than there is: what crashes or fills up is this process. It ignores Ctrl-C (the parent kills it), and
ends when its input does.

DuckDB has a database in memory and one table, which reads the records through pyarrow; it can neither open a file nor
load an extension, and its configuration is locked. It spills to the query's own folder for temporary files. One
statement is run, which must be a SELECT (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are SELECTs to DuckDB).
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clue_cli.errors import ClueError, NothingToScanError, OutputError, UsageError
from clue_cli.evidence.sandbox.framing import receive_header, send_header, standard_streams
from clue_cli.evidence.sandbox.worker import confine
from clue_cli.records import SCHEMA_VERSION, FailureRecord, Finding, ImageRecord, Region, is_newer
from clue_cli.results.export.parquet import PARTITIONS
from clue_cli.results.tables import SCHEMA_KEY, columns, schema
from clue_cli.terminal import counted

if TYPE_CHECKING:
    from pyarrow import dataset

VIEWS = ("images", "failures", "regions", "findings")
"""What a query reads; `regions` and `findings` have a row for each of those of an image."""

ERRORS = {kind.__name__: kind for kind in (UsageError, NothingToScanError, OutputError)}
"""The errors that the parent gets, by name."""

LARGEST_ROW = 256 << 20
"""Most bytes of a row, as JSON."""

_FETCHED, _SENT = 256, 1 << 20
"""Rows that are taken from DuckDB together, and bytes that are sent together."""
_LONGEST_MESSAGE = 2000
_EXPLAIN = "EXPLAIN "
_LAYOUT = ("*.parquet", "day=*/*.parquet", "verdict=*/day=*/*.parquet")
_NO_ADVICE = re.compile(" (?:Please try installing|Possible solutions|Use .SET )")
"""Where advice of DuckDB's begins that nobody can follow here: extensions and settings are locked."""
_LESS = "Select fewer columns or rows."
_UNREADABLE = "reading the stream registered as 'records' failed: "


def as_json(value: Any, *, finite: bool = False) -> str:
    """A value as JSON. A decimal keeps its digits; bytes are hex; a type that JSON does not have is text.

    Args:
        value: of a type that DuckDB returns.
        finite: whether infinity and NaN are null; if not, they are `Infinity` and `NaN`, which only Python reads.
    """
    match value:
        case float():
            return "null" if finite and not isfinite(value) else json.dumps(value)
        case Decimal():
            return f"{value:f}"
        case None | bool() | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            items = ((json.dumps(_text(key), ensure_ascii=False), one) for key, one in value.items())
            return f"{{{', '.join([f'{key}: {as_json(one, finite=finite)}' for key, one in items])}}}"
        case list() | tuple():
            return f"[{', '.join([as_json(one, finite=finite) for one in value])}]"
        case _:
            return json.dumps(_text(value), ensure_ascii=False)


def _text(value: Any) -> str:
    match value:
        case date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return str(value)


class Query:
    """One query, in a database of its own.

    Args:
        sql: one SELECT.
        folder: for what does not fit into memory.
        memory: bytes that DuckDB may use.
        disk: bytes that it may spill.
        threads: how many it may use.

    Raises:
        UsageError: the query is not one SELECT, or has an error that is known without the records.
    """

    def __init__(self, sql: str, *, folder: str, memory: int, disk: int, threads: int) -> None:
        import duckdb
        import pyarrow as pa

        pa.set_cpu_count(threads)
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": os.path.join(folder, "spilled"),  # noqa: PTH118 - text, as DuckDB has it
            "max_temp_directory_size": f"{disk >> 20}MiB",
            "memory_limit": f"{memory >> 20}MiB",
            "threads": str(threads),
            "errors_as_json": "true",
        }
        self._sql = sql
        self._connection = duckdb.connect(":memory:", config=config)
        self._connection.execute("SET lock_configuration = true")
        self._statement = self._one_select()
        self._connection.register("records", schema().empty_table())
        for name, view in _views().items():
            self._connection.execute(f"CREATE VIEW {name} AS {view}")
        with _sql_errors(sql, shift=len(_EXPLAIN)):
            self._connection.execute(_EXPLAIN + sql)

    def run(self, records: dataset.Dataset) -> Iterator[list[tuple[Any, ...]]]:
        """Answer it.

        Yields:
            The names of the columns, as the only row; then rows.

        Raises:
            UsageError: the query cannot be answered.
            NothingToScanError: the records cannot be read.
        """
        self._connection.unregister("records")
        self._connection.register("records", records)
        with _sql_errors(self._sql):
            self._connection.execute(self._statement)
            yield [tuple(str(column[0]) for column in self._connection.description or [])]
            while rows := self._connection.fetchmany(_FETCHED):
                yield rows

    def _one_select(self) -> Any:
        import duckdb

        with _sql_errors(self._sql):
            statements = self._connection.extract_statements(self._sql)
        if len(statements) != 1:
            raise UsageError(
                f"The query has {counted(len(statements), 'statement')} in the place of one.", "Write one SELECT."
            )
        if statements[0].type == duckdb.StatementType.MULTI:  # PIVOT, which first looks for the values
            raise UsageError("A PIVOT must list its values.", "Write FROM … PIVOT (… FOR … IN (…)), or GROUP BY.")
        if statements[0].type != duckdb.StatementType.SELECT:
            kind = statements[0].type.name.replace("_", " ")
            raise UsageError(f"The query is no SELECT ({kind}), and records are only read.", "Write one SELECT.")
        return statements[0]


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


def opened(path: Path, folder: Path) -> dataset.Dataset:
    """The records of a file or a folder that `clue export --format parquet` wrote, or of a part of such a folder.

    Args:
        path: the file or the folder, absolute.
        folder: for links to files whose names pyarrow does not take, since they are not UTF-8.

    Raises:
        NothingToScanError: it is no such export, or one of a newer version.
    """
    import pyarrow as pa
    from pyarrow import dataset

    try:
        files = [path] if path.is_file() else sorted(file for below in _LAYOUT for file in path.glob(below))
        divided = {_is_divided(file) for file in files}
        if len(divided) != 1:
            raise ValueError("some of its files are parts of a divided export, and some are not.")
        base = _base(files[0].parent) if divided == {True} else None
        keys = pa.schema([schema().field(name) for name in PARTITIONS])
        links = folder / "export"
        return dataset.dataset(
            [
                _encodable(file, links / (f"{n}" if base is None else file.relative_to(base)))
                for n, file in enumerate(files)
            ],
            schema=schema(),
            format="parquet",
            partitioning=None if base is None else dataset.partitioning(keys, flavor="hive"),
            partition_base_dir=None if base is None else _encodable(base, links),
        )
    except (ValueError, OSError, pa.ArrowException) as error:
        raise NothingToScanError(
            f"{path} is not a Parquet export of clue: {_brief(str(error))}",
            "Name a results folder, or what clue export wrote.",
        ) from error


def _is_divided(file: Path) -> bool:
    """Whether a file is a part of a divided export, and so without its columns; raises ValueError, ArrowException or
    NothingToScanError if it is no export of this version of clue or an earlier one."""
    from pyarrow import parquet

    with file.open("rb") as stream, parquet.ParquetFile(stream) as found:
        names, rows, metadata = found.schema_arrow.names, found.metadata.num_rows, found.schema_arrow.metadata or {}
        types = dict(zip(names, found.schema_arrow.types, strict=True))
    version = metadata.get(SCHEMA_KEY, b"").decode("utf-8", "replace")
    if not version:
        raise ValueError(f"{file.name} has no {SCHEMA_KEY.decode()} in its metadata.")
    if is_newer(version):
        raise NothingToScanError(f"{file} is an export of a newer version of clue.", "Update clue.")
    known = dict(zip(schema().names, schema().types, strict=True))
    divided = not set(PARTITIONS) & set(names)
    missing = {*(known if version == SCHEMA_VERSION else ("kind", "locator")), *PARTITIONS}.difference(names)
    if missing := missing.difference(PARTITIONS if divided else ()):
        raise ValueError(f"{file.name} has no column {min(missing)}.")
    for name in names:
        if name not in known or names.count(name) > 1:
            raise ValueError(f"{file.name} has a column {name}, which no export has.")
        if types[name] != known[name]:
            raise ValueError(f"{file.name} has a column {name} of the type {types[name]}, which is {known[name]}.")
    if divided and rows and [folder.name.partition("=")[0] for folder in file.parents[1::-1]] != list(PARTITIONS):
        raise ValueError(f"{file.name} is a part of a divided export and not in its folder verdict=…/day=….")
    return divided


def _base(folder: Path) -> Path:
    """The folder of a divided export from one that is in it."""
    while folder.name.partition("=")[0] in PARTITIONS:
        folder = folder.parent
    return folder


def _encodable(path: Path, link: Path) -> str:
    """The path, or that of a link to it, if it is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
        return str(link)
    return str(path)


@contextmanager
def _sql_errors(sql: str, shift: int = 0) -> Iterator[None]:
    """Turn what DuckDB reports into an error with the place in the query.

    Args:
        sql: the query.
        shift: how many bytes stand before it in what DuckDB was given.
    """
    import duckdb

    try:
        yield
    except UnicodeDecodeError as error:
        raise NothingToScanError("The records cannot be read: a text is not UTF-8.") from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise UsageError(f"The query needs more memory than it may use: {_said(error, sql, shift)}", _LESS) from error
    except duckdb.PermissionException as error:
        raise UsageError(
            f"The query may read the records alone: {_said(error, sql, shift)}", f"Read from {', '.join(VIEWS)}."
        ) from error
    except duckdb.IOException as error:
        raise OutputError(
            f"The query cannot use its temporary files: {_said(error, sql, shift)}",
            "Free some space there, or set TMPDIR to another folder.",
        ) from error
    except duckdb.Error as error:
        said = _said(error, sql, shift)
        if f"{_UNREADABLE}Out of memory" in said:
            raise UsageError(f"The query needs more memory than it may use: {said}", _LESS) from error
        if _UNREADABLE in said or "Invalid unicode" in said:
            cause = said.rpartition(_UNREADABLE)[2]
            raise NothingToScanError(f"The records cannot be read: {cause}", "Write the export again.") from error
        if isinstance(error, duckdb.InternalException | duckdb.FatalException):
            raise UsageError(f"DuckDB failed: {said}", "Write the query otherwise, or the export again.") from error
        known = f"Tables: {', '.join(VIEWS)}." if said.startswith("Table ") else None
        raise UsageError(f"SQL: {said}", known or "`describe images` lists the columns of images.") from error


def _said(error: Exception, sql: str, shift: int) -> str:
    """What DuckDB says, with line and column, from 1, where it names a place."""
    text = str(error)
    try:
        said: dict[str, str] = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
        message = said["exception_message"]
    except (ValueError, KeyError):
        return _brief(text)
    if not said.get("position", "").isdigit():
        return _brief(message)
    before = sql.encode()[: max(0, int(said["position"]) - shift)].decode(errors="replace")
    place = f"(line {before.count(chr(10)) + 1}, column {len(before.rpartition(chr(10))[2]) + 1})"
    return f"{_brief(message).rstrip('.')} {place}."


def _brief(message: str) -> str:
    line = _NO_ADVICE.split(" ".join(message.split()), maxsplit=1)[0]
    line = line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."


def serve(requests: BinaryIO, replies: BinaryIO, setup: dict[str, Any]) -> None:
    """Answer two requests: `check`, whether the query is one, and then the `path` of an export to run it on.

    The setup has the arguments of `Query`. Rows are sent as a JSON array of arrays behind a header with its `size` in
    bytes. To `check` the answer is no row; to the `path`, the names of the columns as a row, all rows, and `done`. An
    `error`, with its `message` and `advice`, is the last answer.
    """
    inbox = _inbox(requests, setup["folder"])
    send_header(replies, {"ready": True})
    replies.flush()
    try:
        inbox.get()
        query = Query(**setup)
        _send_lines(replies, [])
        records = opened(Path(inbox.get()["path"]), Path(setup["folder"]))
        for rows in query.run(records):
            _send(replies, rows)
        send_header(replies, {"done": True})
    except ClueError as error:
        send_header(replies, {"error": type(error).__name__, "message": error.message, "advice": error.advice})
    replies.flush()


def _inbox(requests: BinaryIO, folder: str) -> queue.SimpleQueue[dict[str, Any]]:
    """The requests. When the parent is dead, and so cannot remove the folder, this removes it and ends the process at
    once: DuckDB may be busy for hours."""
    inbox = queue.SimpleQueue[dict[str, Any]]()

    def receive() -> None:
        while (request := receive_header(requests)) is not None:
            inbox.put(request)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    return inbox


def _send(replies: BinaryIO, rows: list[tuple[Any, ...]]) -> None:
    lines, size = list[bytes](), 0
    for row in rows:
        lines.append(as_json(row).encode())
        if len(lines[-1]) > LARGEST_ROW:
            raise UsageError(
                f"A row of the answer has more than {LARGEST_ROW >> 20} MiB.",
                "Select fewer columns, or a part of them.",
            )
        size += len(lines[-1])
        if size >= _SENT:
            _send_lines(replies, lines)
            lines, size = [], 0
    if lines:
        _send_lines(replies, lines)


def _send_lines(replies: BinaryIO, lines: list[bytes]) -> None:
    data = b"[%b]" % b",".join(lines)
    send_header(replies, {"size": len(data)})
    replies.write(data)
    replies.flush()


def main() -> None:
    """Serve on the standard streams, confined to what the first header says."""
    requests, replies = standard_streams(silent=False)
    setup = receive_header(requests)
    if setup is not None:
        confine(setup.pop("address_space"), file_size=setup["disk"])
        os.chdir(setup["folder"])  # DuckDB takes a file named `:memory:` in the current folder for its own
        serve(requests, replies, setup)


if __name__ == "__main__":
    main()
