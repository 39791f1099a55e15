"""Which records of a results folder a page or an export is made of."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from clue_cli.errors import UsageError
from clue_cli.records import FailureRecord, ImageRecord, Verdict
from clue_cli.results.summary import COLUMNS, Cell, cell

_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|!=|=|<|>|~)\s*(.*)", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBERS = (
    *("page", "page_count", "score", "confidence", "forged_area_ratio", "region_count", "width", "height"),
    *("byte_size", "synthetic_score", "synthetic_confidence"),
)
_LARGEST_LIST = 64 << 20


@dataclass(frozen=True, slots=True)
class Condition:
    """A column of `summary.csv`, an operator (= != < <= > >=, or ~ for "contains"), and a value."""

    column: str
    sign: str
    value: str

    def __call__(self, record: ImageRecord | FailureRecord) -> bool:
        """Whether the record meets it. An empty cell meets only `!=`; text is compared without regard to case."""
        found: Cell = cell(record, self.column)
        if found is None:
            return self.sign == "!="
        if self.sign in _ORDERS:
            return isinstance(found, (int, float)) and _ORDERS[self.sign](found, float(self.value))
        text, value = str(found).casefold(), self.value.casefold()
        if self.sign == "~":
            return value in text
        equal = (
            found == float(self.value) if isinstance(found, (int, float)) and _is_number(self.value) else text == value
        )
        return equal == (self.sign == "=")

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.value}"


@dataclass(frozen=True, slots=True)
class Queried:
    """The records that an SQL query named.

    Attributes:
        sql: the query.
        keys: their locators, or pairs of locator and page.
        by_page: whether these are pairs.
        missing: keys that no record had so far.
    """

    sql: str
    keys: Collection[str] | Collection[tuple[str, int | None]]
    by_page: bool
    missing: set[str | tuple[str, int | None]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", set(self.keys))

    def __call__(self, record: ImageRecord | FailureRecord) -> bool:
        """Whether the query named the record."""
        key = (record.locator, record.page) if self.by_page else record.locator
        self.missing.discard(key)
        return key in self.keys

    def __str__(self) -> str:
        return f"query {self.sql}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The records that meet all that is asked for; all of them if nothing is.

    Attributes:
        only: verdicts on edited regions, `generated`, or `failure`; empty: any.
        locators: those of the records; None: any.
        conditions: all of which must hold.
        queried: those that a query named; None: any.
        missing: locators that no record had so far.
    """

    only: tuple[str, ...] = ()
    locators: Collection[str] | None = None
    conditions: tuple[Condition, ...] = ()
    queried: Queried | None = None
    missing: set[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", set(self.locators or ()))

    def __call__(self, record: ImageRecord | FailureRecord) -> bool:
        """Whether the record is selected."""
        self.missing.discard(record.locator)
        queried = self.queried is None or self.queried(record)  # always asked: it notes what is missing
        return (
            queried
            and (not self.only or not _answers(record).isdisjoint(self.only))
            and (self.locators is None or record.locator in self.locators)
            and all(condition(record) for condition in self.conditions)
        )

    def __bool__(self) -> bool:
        return bool(self.only or self.conditions) or self.locators is not None or self.queried is not None

    def __str__(self) -> str:
        parts = [f"only {', '.join(self.only)}"] if self.only else []
        parts += [] if self.locators is None else [f"a list of {len(self.locators):,} locators"]
        parts += map(str, self.conditions)
        return "; ".join(parts if self.queried is None else [*parts, str(self.queried)])


def _answers(record: ImageRecord | FailureRecord) -> set[str]:
    if isinstance(record, FailureRecord):
        return {"failure"}
    generated = record.synthetic is not None and record.synthetic.verdict is Verdict.GENERATED
    return {record.verdict.value, *({Verdict.GENERATED.value} if generated else ())}


def condition(text: str) -> Condition:
    """The condition that a text states, e.g. `score>=0.8` or `camera_model~canon`.

    Raises:
        UsageError: it states none, or names no column.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a condition.", "Write a column, one of = != < <= > >= ~, and a value, as in score>=0.8."
        )
    column, sign, value = match[1], match[2], match[3].strip()
    if column not in _columns():
        raise UsageError(f"There is no column {column}.", f"The columns are: {', '.join(_columns())}.")
    if value.startswith("="):
        raise UsageError(f"{text!r} has two signs.", "Write one of = != < <= > >= ~.")
    if sign in _ORDERS and not (_is_number(value) and column in _NUMBERS):
        raise UsageError(f"{text!r} compares what is not a number.", f"Columns of numbers: {', '.join(_NUMBERS)}.")
    return Condition(column, sign, value)


def _columns() -> list[str]:
    """The columns that a condition can name: all but the one that only the scan knows."""
    return [name for name in COLUMNS if name != "met_in_this_run"]


def read_locators(path: Path) -> frozenset[str]:
    """The locators in a text file, one a line, as the records have them.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise UsageError(f"{path} is larger than {_LARGEST_LIST >> 20} MiB.")
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error
    return frozenset(line for line in text.split("\n") for line in [line.removesuffix("\r")] if line)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
