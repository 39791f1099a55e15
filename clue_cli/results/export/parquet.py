"""Parquet: one row per record, in the columns of `clue_cli/results/tables.py`, compressed with zstd.

A file's metadata hold `clue.schema_version`, `clue.version` and `clue.run_ids`, a JSON list. A partitioned export is a
folder in Hive's layout, `verdict=forged/day=2026-01-31/part-0001.parquet`: the columns `verdict` and `day` are in the
names of its folders and not in the files. Failures have no verdict, which the name `__HIVE_DEFAULT_PARTITION__` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.export import Source
from clue_cli.results.tables import Rows, day, schema

if TYPE_CHECKING:
    import pyarrow

PARTITIONS = ("verdict", "day")
"""The columns by which a partitioned export is divided."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_ROWS, _BYTES = 50_000, 64 << 20
"""A row group ends at this many rows or bytes in memory."""
_OPEN = 32
"""Most files that are open at once."""
_HELD = 256 << 20
"""Most bytes that the open files hold in memory together."""
_RUNS = 1000
"""Most run ids in the metadata of a file; the column `run_id` has all of them."""


def write(to: BinaryIO, records: Iterable[ImageRecord | FailureRecord], source: Source | None = None) -> None:
    """Write one file.

    Raises:
        ValueError: a number of a record does not fit into its column.
    """
    with _File(to) as file:
        for record in records:
            file.add(record)


def write_partitioned(folder: Path, records: Iterable[ImageRecord | FailureRecord]) -> None:
    """Write one file for each verdict and day into a folder. Of more than 32 files at once, one is closed, and what
    follows of it goes into a further part. Errors as of `write`, and OSError.
    """
    files: dict[Path, _File] = {}
    parts: dict[Path, int] = {}
    try:
        for record in records:
            below = folder.joinpath(*_below(record))
            file = files.pop(below, None)
            if file is None:
                if len(files) >= _OPEN:
                    files.pop(next(iter(files))).close()  # the one that was longest without a record
                below.mkdir(parents=True, exist_ok=True)
                parts[below] = parts.get(below, 0) + 1
                file = _File(below / f"part-{parts[below]:04d}.parquet", without=PARTITIONS)
            files[below] = file
            if file.add(record) and sum(one.held for one in files.values()) > _HELD:
                max(files.values(), key=lambda one: one.held).flush()
        if not parts:  # no record: a reader finds the columns all the same
            _File(folder / "part-0001.parquet", without=PARTITIONS).close()
    finally:
        for file in files.values():
            file.close()


def _below(record: ImageRecord | FailureRecord) -> tuple[str, str]:
    verdict = record.verdict.value if isinstance(record, ImageRecord) else _NULL
    return f"verdict={verdict}", f"day={day(record) or _NULL}"


class _File:
    """A Parquet file that is being written.

    Attributes:
        held: bytes in memory that no row group has yet.
    """

    def __init__(self, to: BinaryIO | Path, without: tuple[str, ...] = ()) -> None:
        from pyarrow import parquet

        self._schema = _without(schema(), without)
        self._own = to.open("xb") if isinstance(to, Path) else None  # pyarrow takes no name that is not UTF-8
        self._writer = parquet.ParquetWriter(self._own or to, self._schema, compression="zstd", write_page_index=True)
        self._rows, self._batches = Rows(), list[Any]()
        self._runs: dict[str, None] = {}
        self.held = 0

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, record: ImageRecord | FailureRecord) -> bool:
        """Add a row; returns whether `held` grew."""
        if len(self._runs) < _RUNS:
            self._runs[record.run_id] = None
        return self._hold(self._rows.add(record))

    def flush(self) -> None:
        """Write what is held as a row group."""
        import pyarrow as pa

        if self._batches:
            batches, self._batches, self.held = self._batches, [], 0
            self._writer.write_table(pa.Table.from_batches(batches, self._schema))

    def close(self) -> None:
        """Write the rest, and the end of the file."""
        try:
            self._hold(self._rows.take())
            self.flush()
            self._writer.add_key_value_metadata({"clue.run_ids": json.dumps(sorted(filter(None, self._runs)))})
        finally:
            self._writer.close()
            if self._own is not None:
                self._own.close()

    def _hold(self, batch: pyarrow.RecordBatch | None) -> bool:
        if batch is None:
            return False
        self._batches.append(batch.select(self._schema.names))
        self.held += batch.nbytes
        if self.held >= _BYTES or sum(len(one) for one in self._batches) >= _ROWS:
            self.flush()
        return True


def _without(whole: pyarrow.Schema, names: tuple[str, ...]) -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema([field for field in whole if field.name not in names], metadata=whole.metadata)
