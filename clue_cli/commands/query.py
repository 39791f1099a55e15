"""`clue query`: SQL over the records of a scan."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from decimal import Decimal
from enum import StrEnum
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from clue_cli.commands.options import path_or_url, require_extra
from clue_cli.commands.results import warn_of_damage
from clue_cli.errors import ExitCode, UsageError
from clue_cli.progress import ShownReporter
from clue_cli.results.query_worker import as_json
from clue_cli.results.summary import harmless
from clue_cli.terminal import counted, printable, say, to_stdout

if TYPE_CHECKING:
    from clue_cli.results.query import Answer

_SHOWN_ROWS, _SHOWN_LENGTH = 1000, 200
"""Most rows of a table, and characters of one of its cells."""
_NARROWEST = 10
"""Characters that each column gets at least; where a terminal is too narrow for that, each row is a table."""


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def query(
    results: Annotated[
        Any,  # Path or Url
        typer.Argument(
            parser=path_or_url,
            metavar="RESULTS",
            help="Results folder or Parquet export of a scan, or the URL of a results folder in a store.",
        ),
    ],
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="One SELECT on images, failures, regions and findings; 'describe images' lists columns."
        ),
    ],
    form: Annotated[
        Form,
        typer.Option(
            "--format", help=f"Format of the answer; a table shows the first {_SHOWN_ROWS:,} rows.", show_default=True
        ),
    ] = Form.TABLE,
) -> None:
    """Answer an SQL query over the records of a results folder or of a Parquet export of it.

    The SQL is DuckDB's. A query can read the records and nothing else, neither other files nor addresses, and writes
    nothing but temporary files. A results folder is read as a whole for each query: if there are many records, make
    an export with clue export --format parquet, and query that.
    """
    require_extra("query", "duckdb", "pyarrow", extra="tables")
    from clue_cli.results.query import answer
    from clue_cli.results.remote.copy import local_copy

    with (
        ShownReporter(quiet=not sys.stderr.isatty()) as reporter,
        local_copy(results) as folder,
        answer(folder, sql, reporter) as found,
    ):
        if form is Form.TABLE:
            _show_table(found)
        else:
            write = _write_csv if form is Form.CSV else _write_json
            to_stdout(lambda stream: write(stream, found))
        if found.reader is not None:
            warn_of_damage(found.reader)
    raise typer.Exit(ExitCode.OK)


def _show_table(found: Answer) -> None:
    rows = list(islice(found.rows, _SHOWN_ROWS))
    names = list(map(printable, found.columns))
    cells = [[_short(_text(value)) for value in row] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100_000
    if len(names) * _NARROWEST <= width:
        right = [any(isinstance(row[place], int | float | Decimal) for row in rows) for place in range(len(names))]
        text = _table(names, cells, right, width)
    else:
        text = "".join(
            _table(["column", "value"], list(map(list, zip(names, row, strict=True))), [], width) for row in cells
        )
    to_stdout(lambda stream: stream.write(text.encode()))
    if next(found.rows, None) is not None:
        say(f"The first {counted(_SHOWN_ROWS, 'row')}; --format csv or json writes all.")


def _table(names: list[str], rows: list[list[str]], right: list[bool], width: int) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, number in zip_longest(names, right, fillvalue=False):
        table.add_column(Text(str(name)), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=width, markup=False, highlight=False, emoji=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _short(text: str) -> str:
    shown = printable(text[: _SHOWN_LENGTH + 1])
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}…"


def _write_csv(to: BinaryIO, found: Answer) -> None:
    """UTF-8 and CRLF; as in `summary.csv`, a cell that a spreadsheet would take for a formula gets an apostrophe. On a
    terminal, what it might obey is escaped."""
    text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
    shown = printable if sys.stdout.isatty() else str
    try:
        writer = csv.writer(text)
        writer.writerow(shown(str(harmless(name))) for name in found.columns)
        for row in found.rows:
            writer.writerow(shown(cell) if isinstance(cell, str) else cell for cell in map(_cell, row))
    finally:
        text.detach()


def _write_json(to: BinaryIO, found: Answer) -> None:
    """An array of objects, one a line. Infinity and NaN are null; what a terminal might obey is escaped."""
    twice = {name for name in found.columns if found.columns.count(name) > 1}
    if twice:
        raise UsageError(f"Two columns are named {min(twice)}.", "Name one of them otherwise, with AS.")
    before = b"[\n"
    for row in found.rows:
        text = as_json(dict(zip(found.columns, row, strict=True)), finite=True)
        if not text.isprintable():
            text = "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)
        to.write(before + text.encode())
        before = b",\n"
    to.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _cell(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return _text(value) if isinstance(value, Decimal) else harmless(_text(value))


def _text(value: Any) -> str:
    """A value as the text of a cell; empty for NULL."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str | float) else as_json(value, finite=True)
