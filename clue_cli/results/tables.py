"""Records as rows of an Arrow table, for Parquet and for queries.

The columns are the fields of `ImageRecord` and `FailureRecord`, with types derived from those in `records.py`, and
`ADDED`. `kind` says which of the two a row is; the columns of the other are null. A group of fields, such as `file`, is
a struct; `regions` and `findings` are lists of structs; `verdicts` is a struct with an answer for each question, null
if it was not asked. A mapping to values of several types, such as a finding's `data`, is JSON text. Integers are signed
and of 64 bits; `seed` is unsigned.

pyarrow (extra `tables`) is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from enum import StrEnum
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

from clue_cli import __version__
from clue_cli.records import SCHEMA_VERSION, FailureRecord, ImageRecord
from clue_cli.results.summary import cell

if TYPE_CHECKING:
    import pyarrow

Record = ImageRecord | FailureRecord
_Convert = Callable[[Any], Any] | None

SCHEMA_KEY = b"clue.schema_version"
"""Key of the schema's version in the metadata of the Arrow schema, and of a Parquet file."""

_JSON = TypeAdapter(dict[str, str | int | float | bool | None])
_ROWS, _BYTES = 1000, 16 << 20
_EXIF_TIME, _RUN_TIME = "%Y:%m:%d %H:%M:%S", "%Y%m%dT%H%M%S.%fZ"


class Added(NamedTuple):
    """A column that is computed from a record: its type, by pyarrow's alias, what it means, and its value."""

    type: str
    meaning: str
    value: Callable[[Record], Any]


_AS_IN_CSV = "As in `summary.csv`."


def run_started(record: Record) -> datetime | None:
    """When the run began that wrote the record, UTC, as its `run_id` says; None if that says nothing."""
    return _time(record.run_id.rpartition("-")[0], _RUN_TIME)


def day(record: Record) -> date | None:
    """The day of `run_started`."""
    started = run_started(record)
    return None if started is None else started.date()


def _date_time_original(record: Record) -> datetime | None:
    return _time(record.exif.date_time_original or "", _EXIF_TIME) if isinstance(record, ImageRecord) else None


@lru_cache(4096)  # one run has many records
def _time(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text.strip(), form)
    except ValueError:
        return None


ADDED = {
    "synthetic_verdict": Added("string", _AS_IN_CSV, lambda record: cell(record, "synthetic_verdict")),
    "synthetic_score": Added("double", _AS_IN_CSV, lambda record: cell(record, "synthetic_score")),
    "synthetic_confidence": Added("double", _AS_IN_CSV, lambda record: cell(record, "synthetic_confidence")),
    "date_time_original": Added("timestamp[ms]", "EXIF, as claimed; null if it is not a time.", _date_time_original),
    "run_started": Added("timestamp[us]", "Start of the run that wrote the record, UTC.", run_started),
    "day": Added("date32", "Day of `run_started`.", day),
}
"""The columns that no field is."""


def columns(model: type[BaseModel]) -> list[str]:
    """The names of the columns of one kind of record, in order."""
    added = ADDED if model is ImageRecord else ("run_started", "day")
    return [*model.model_fields, *model.model_computed_fields, *added]


@cache
def schema() -> pyarrow.Schema:
    """The Arrow schema of all rows; its metadata hold the versions of the records' schema and of clue."""
    import pyarrow as pa

    fields = {field.name: field for model in (FailureRecord, ImageRecord) for field in _column(model)[0]}
    added = [
        pa.field(name, pa.type_for_alias(column.type), metadata={"description": column.meaning})
        for name, column in ADDED.items()
    ]
    names = dict.fromkeys([*columns(ImageRecord), *columns(FailureRecord)])
    ordered = [fields[name] for name in names if name in fields]
    versions = {SCHEMA_KEY: SCHEMA_VERSION, b"clue.version": __version__}
    return pa.schema([*ordered, *added], metadata=versions)


class Rows:
    """Collects records and turns them into Arrow batches; memory is bounded by what a batch may hold.

    A batch ends at 1,000 rows, or when the records in it have 16 MiB as JSON.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, record: Record) -> pyarrow.RecordBatch | None:
        """Add a record.

        Returns:
            The batch that it completes, if it completes one.

        Raises:
            ValueError: a number of the record does not fit into its column.
        """
        convert = _column(type(record))[1]
        row: dict[str, Any] = record.model_dump()
        if convert is not None:
            row = convert(row)
        for name, column in ADDED.items():
            row[name] = column.value(record)
        self._rows.append(row)
        self._bytes += len(record.model_dump_json())
        return self.take() if len(self._rows) >= _ROWS or self._bytes >= _BYTES else None

    def take(self) -> pyarrow.RecordBatch | None:
        """The batch of what was added since the last one; None if nothing was. Errors as of `add`."""
        import pyarrow as pa

        if not self._rows:
            return None
        rows, self._rows, self._bytes = self._rows, [], 0
        try:
            return pa.RecordBatch.from_pylist(rows, schema=schema())
        except (OverflowError, pa.ArrowException) as error:
            which = next((row["locator"] for row in rows if not _fits(row)), "unknown")
            raise ValueError(f"that of {which} has a value that no column holds: {str(error).rstrip('.')}") from error


def _fits(row: dict[str, Any]) -> bool:
    import pyarrow as pa

    try:
        pa.RecordBatch.from_pylist([row], schema=schema())
    except (OverflowError, pa.ArrowException):
        return False
    return True


@cache
def _column(annotation: Any) -> tuple[Any, _Convert]:
    """The Arrow type of a field's type, and what turns a value into one of it; None: nothing need be done."""
    import pyarrow as pa

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        (one,) = (argument for argument in arguments if argument is not NoneType)
        kind, convert = _column(one)
        return kind, None if convert is None else _unless_none(convert)
    if origin is list:
        kind, convert = _column(arguments[0])
        return pa.list_(kind), None if convert is None else lambda values: list(map(convert, values))
    if origin is dict:
        return _mapping(*arguments)
    if origin is Literal:
        return pa.string(), None
    if issubclass(annotation, BaseModel):
        return _of_fields(annotation)
    for scalar, kind in ((StrEnum, pa.string()), (str, pa.string()), (bool, pa.bool_()), (int, pa.int64())):
        if issubclass(annotation, scalar):
            return kind, None
    if annotation is float:
        return pa.float64(), None
    raise TypeError(f"no column can hold {annotation}")


def _unless_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _mapping(key: Any, value: Any) -> tuple[Any, _Convert]:
    import pyarrow as pa

    if get_origin(value) in (Union, UnionType):
        return pa.string(), lambda values: _JSON.dump_json(values).decode()
    kind, convert = _column(value)
    if not issubclass(key, StrEnum):
        return pa.map_(pa.string(), kind), lambda values: list(values.items())
    each = convert or (lambda one: one)
    struct = pa.struct([pa.field(member.value, kind) for member in key])
    return struct, lambda values: {name: each(one) for name, one in values.items()}


def _of_fields(model: type[BaseModel]) -> tuple[Any, _Convert]:
    import pyarrow as pa

    annotations: dict[str, Any] = {name: field.annotation for name, field in model.model_fields.items()}
    annotations |= {name: field.return_type for name, field in model.model_computed_fields.items()}
    meanings = {name: field.description for name, field in model.model_fields.items()}
    fields, converts = [], {}
    for name, annotation in annotations.items():
        kind, convert = _column(annotation)
        kind = pa.uint64() if name == "seed" else kind
        meaning = meanings.get(name)
        fields.append(pa.field(name, kind, metadata={"description": meaning} if meaning else None))
        if convert is not None:
            converts[name] = convert

    def convert_all(values: dict[str, Any]) -> dict[str, Any]:
        return values | {name: convert(values[name]) for name, convert in converts.items()}

    return pa.struct(fields), convert_all if converts else None
