"""The user's own files, checked: PyYAML reads, pydantic checks, and every complaint names file, line and key.

A dataclass says what a file may hold: its fields are the keys, their types and ranges the values. Presets are among
what `clue --help` imports, so that pydantic and PyYAML are imported when a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from model.errors import UserError

if TYPE_CHECKING:
    import yaml
    from pydantic import GetCoreSchemaHandler, TypeAdapter

Checked = TypeVar("Checked")
Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

NO_KEY = {"key": False}
"""Metadata of a field that is not in the file, but set by what reads it."""

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "is_instance_of": "a text",
    "list_type": "a list",
    "pattern_regex": "a regular expression",
    "string_type": "a text",
    "too_short": "at least one value",
    "tuple_type": "a list",
}
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_NO_MAPPING = ("dataclass_type", "dict_type", "model_type")


class ConfigError(UserError, ValueError):
    """A file that cannot be used.

    Attributes:
        where: file, line and key, such as `mix.yaml, line 4, sources[0].weight`.
        found: what is there.
        expected: what should be there.
    """

    def __init__(self, where: str, found: str, expected: str) -> None:
        super().__init__(legible(f"{where}: {found}; expected {expected}"))
        self.where, self.found, self.expected = where, found, expected

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str], dict[str, Any]]:
        return type(self), (self.where, self.found, self.expected), self.__dict__  # errors travel between processes


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Give a ConfigError from inside the block this advice if it has none."""
    try:
        yield
    except ConfigError as error:
        error.advice = error.advice or advice
        raise


class Keyed:
    """Base of dataclasses whose fields are the keys of a file: it may hold no others, and numbers are finite."""

    __slots__ = ()
    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True)
class Between:
    """The range of a number, with both ends, or `above` the first."""

    low: float
    high: float
    above: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic import AfterValidator

        return AfterValidator(self._inside).__get_pydantic_core_schema__(source, handler)

    def _inside(self, number: float) -> float:
        if not self.low <= number <= self.high or (self.above and number == self.low):
            low, high = f"{self.low:.10g}", f"{self.high:.10g}"
            raise ValueError(f"a number above {low}, up to {high}" if self.above else f"a number from {low} to {high}")
        return number


class _AnyText:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic import InstanceOf

        return handler.generate_schema(InstanceOf[str])


Text = Annotated[str, _AnyText()]
"""A text that need not be UTF-8, such as the name of a file; pydantic refuses such a `str`."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A YAML file, read: every scalar is the text that is written there, or None.

    Attributes:
        lines: the line of each value.
        digest: SHA-256 of the file's bytes, hex.
    """

    path: Path
    value: Any = None
    lines: Mapping[Place, int] = field(default_factory=dict)
    digest: str = ""

    def where(self, *place: str | int) -> str:
        """File, line and key of a value in words; the line of what it would stand in where it is left out."""
        known = max(n for n in range(len(place) + 1) if place[:n] in self.lines)
        line = f"{self.path}, line {self.lines[place[:known]]}"
        return f"{line}, {dotted(place)}" if place else line

    def check(self, kind: type[Checked], *place: str | int) -> Checked:
        """The value at a place, as `kind`.

        Raises:
            ConfigError: it is something else.
        """
        value = self.value
        for part in place:
            value = value[part]
        return check(kind, value, lambda inner: self.where(*place, *_in_document(value, inner)), self.path.parent)


def check(kind: type[Checked], value: Any, where: Callable[[Place], str], context: Any = None) -> Checked:
    """A value of JSON or YAML as `kind`, a dataclass.

    Args:
        where: says where a part of the value stands.
        context: for the validators of `kind`.

    Raises:
        ConfigError: it is something else; names the first part that is wrong.
    """
    from pydantic import ValidationError

    try:
        found: Checked = _adapter(cast(Hashable, kind)).validate_python(value, context=context)
        return found
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # A misspelt key is also a missing one: say what was written.
        first = next((one for one in errors if one["type"] in _UNKNOWN), errors[0])
        raise _complaint(kind, first, where) from None


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(cast(Any, kind))


def unknown_key(where: str, key: str, known: Iterable[str]) -> ConfigError:
    """What to raise for a key that is not known, with the one that was probably meant."""
    import difflib

    close = difflib.get_close_matches(key[:80], list(known := list(known)), 1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return ConfigError(where, f"unknown key `{_short(key)}`{hint}", f"one of {', '.join(known)}")


def read_yaml(path: Path) -> ConfigFile:
    """Read a YAML file, or a JSON file, which is YAML as well. No tag makes an object of anything.

    Raises:
        ConfigError: no such file, not YAML, a key twice, or empty.
    """
    import hashlib

    import yaml

    try:
        if not path.is_file():
            raise ConfigError(str(path), "there is no such file", "a YAML file")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), error.strerror or str(error), "a YAML file that can be read") from error
    lines: dict[Place, int] = {}
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
        if node is None:
            raise ConfigError(str(path), "the file is empty", "a mapping")
        return ConfigFile(path, _value(path, node, (), lines), lines, hashlib.sha256(data).hexdigest())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(at, error.problem or error.context or "not YAML", "YAML") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(str(path), " ".join(str(error).split()), "YAML") from error
    except RecursionError:
        raise ConfigError(str(path), "values nested too deeply", "YAML of a few levels") from None


def legible(text: str) -> str:
    """The text on one line, with what no terminal should be sent written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def dotted(place: Place) -> str:
    """A place in words, such as `sources[0].weight`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_short(part)}" for part in place).removeprefix(".")


def _value(path: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    import yaml

    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_value(path, item, (*place, number), lines) for number, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    values = {}
    for key_node, item in node.value:
        at = f"{path}, line {key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(at, "a key that is a list or a mapping", "a word")
        inner = (*place, str(key_node.value))
        if inner in lines:
            found = f"found twice, first in line {lines[inner]}"
            raise ConfigError(f"{at}, {dotted(inner)}", found, "each key once")
        lines[inner] = key_node.start_mark.line + 1
        values[str(key_node.value)] = _value(path, item, inner, lines)
    return values


def _in_document(value: Any, place: Place) -> Place:
    """The parts of a place that are in the value: pydantic also names fields that a short form leaves out."""
    found: list[str | int] = []
    for part in place:
        if part in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
            value = value[part]
            found.append(part)
    return tuple(found)


def _complaint(kind: Any, error: Mapping[str, Any], where: Callable[[Place], str]) -> ConfigError:
    place, name = error["loc"], error["type"]
    place = place[: place.index("[key]")] if "[key]" in place else place  # as pydantic calls a key that is wrong
    if name in _UNKNOWN:
        return unknown_key(where(place), str(place[-1]), _keys(kind, place[:-1]))
    if name == "missing":
        return ConfigError(where(place[:-1]), f"`{place[-1]}` is missing", f"the key `{place[-1]}`")
    if name in _NO_MAPPING:
        keys = ", ".join(f"`{key}`" for key in _keys(kind, place))
        expected = f"a mapping with {keys}" if keys else "a mapping"
    elif name == "value_error" and isinstance(inner := error["ctx"]["error"], ConfigError):
        return ConfigError(f"{where(place)}.{inner.where}", inner.found, inner.expected)
    elif name == "value_error":
        expected = str(error["ctx"]["error"])
    elif name == "too_long":
        expected = f"at most {error['ctx']['max_length']} values"
    else:
        expected = _EXPECTED.get(name) or error["msg"].removeprefix("Input should be ")
        expected = f"a number {expected}" if expected.startswith(("greater", "less")) else expected
    return ConfigError(where(place), f"found {_in_words(error['input'])}", expected)


def _keys(kind: Any, place: Place) -> list[str]:
    """The keys of the mapping at a place."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    for part in place:
        in_dict, in_tuple = get_origin(kind) is dict, isinstance(part, int)
        kind = get_args(kind)[1 if in_dict else 0] if in_dict or in_tuple else get_type_hints(kind)[str(part)]
        kind = get_args(kind)[0] if NoneType in get_args(kind) else kind
    if not is_dataclass(kind):
        return list(getattr(kind, "model_fields", ()))
    own = sorted(fields(kind), key=lambda one: one.kw_only is True)
    return [one.name for one in own if one.metadata.get("key", True)]


def _in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a mapping"
    return "nothing" if value is None else f"`{_short(str(value))}`"


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
