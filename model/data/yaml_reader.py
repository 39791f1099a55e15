"""YAML read value by value, so that every complaint names the file, the line, the key, what was found and expected.

Only the safe part of YAML is read: nodes are composed, never constructed as objects, so a tag such as
`!!python/object` is a wrong value like any other.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml.constructor import SafeConstructor

from model.errors import ClueError

LARGEST_FILE = 1 << 20
"""Bytes: a description of data that is larger than this is something else."""
MOST_ITEMS = 1000
"""Of a list: with aliases, a small file can ask for the same folder a hundred thousand times."""

_USUAL_TAGS = [
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
]
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{([^}]*)\})")


class MixError(ClueError, ValueError):
    """A mix that cannot be used.

    Attributes:
        where: file, line and key, such as `mix.yaml, line 4, sources[0].weight`.
        found: what is there.
        expected: what should be there.
    """

    exit_code = 2
    advice = "`clue schema --mix` describes the file; --dry-run shows what clue finds in it."

    def __init__(self, where: str, found: str, expected: str) -> None:
        super().__init__(legible(f"{where}: {found}; expected {expected}"))
        self.where, self.found, self.expected = where, found, expected

    def __reduce__(self) -> tuple[type[MixError], tuple[str, str, str]]:
        return type(self), (self.where, self.found, self.expected)  # errors travel between processes


def legible(text: str) -> str:
    """The text on one line, with what no terminal should be sent written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file, and where it stands."""

    file: Path
    node: yaml.Node
    key: str

    @property
    def where(self) -> str:
        """File, line and key in words."""
        line = f"{self.file}, line {self.node.start_mark.line + 1}"
        return f"{line}, {self.key}" if self.key else line

    def error(self, expected: str, found: str | None = None) -> MixError:
        """What to raise when this value is not what was expected."""
        return MixError(self.where, found or f"found {self._in_words()}", expected)

    def is_text(self) -> bool:
        """Whether this is a single value rather than a mapping or a list."""
        return isinstance(self.node, yaml.ScalarNode)

    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def mapping(self, known: Sequence[str], expected: str | None = None) -> dict[str, Value]:
        """The values of a mapping by key.

        Raises:
            MixError: not a mapping, a key that is not in `known`, or the same key twice.
        """
        if not isinstance(self.node, yaml.MappingNode) or not self._tag_is("map"):
            raise self.error(expected or f"a mapping with {_either(known)}")
        values: dict[str, Value] = {}
        for key_node, node in self.node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            at = Value(self.file, key_node, f"{self.key}.{_short(key)}" if self.key else _short(key))
            if key not in known:
                close = difflib.get_close_matches(key[:80], known, 1)
                hint = f"unknown key; did you mean `{close[0]}`?" if close else "unknown key"
                raise at.error(f"one of {', '.join(known)}", hint)
            if key in values:
                raise at.error("each key once", f"found twice, first in line {values[key].node.start_mark.line + 1}")
            values[key] = Value(self.file, node, at.key)
        return values

    def items(self, expected: str) -> list[Value]:
        """The values of a list."""
        if not isinstance(self.node, yaml.SequenceNode) or not self._tag_is("seq"):
            raise self.error(expected)
        if len(self.node.value) > MOST_ITEMS:
            raise self.error(f"at most {MOST_ITEMS}")
        return [Value(self.file, node, f"{self.key}[{i}]") for i, node in enumerate(self.node.value)]

    def text(self, expected: str) -> str:
        """A text that is not empty. Numbers and dates are taken as they are written."""
        if not isinstance(self.node, yaml.ScalarNode) or not self._tag_is("str", "int", "float", "timestamp", "bool"):
            raise self.error(expected)
        if not self.node.value:
            raise self.error(expected)
        return str(self.node.value)

    def number(self, low: float, high: float) -> float:
        """A number of the closed range."""
        expected = f"a number from {low:g} to {high:g}"
        try:
            if not isinstance(self.node, yaml.ScalarNode) or self.node.style or not self._tag_is("int", "float", "str"):
                raise ValueError
            number = float(self.node.value)
        except ValueError:
            raise self.error(expected) from None
        if not (math.isfinite(number) and low <= number <= high):
            raise self.error(expected)
        return number

    def whole(self, low: int, high: int) -> int:
        """A whole number of the closed range."""
        expected = f"a whole number from {low} to {high}"
        if not isinstance(self.node, yaml.ScalarNode) or not re.fullmatch(r"[-+]?[0-9]{1,18}", self.node.value):
            raise self.error(expected)
        if not low <= int(self.node.value) <= high:
            raise self.error(expected)
        return int(self.node.value)

    def flag(self) -> bool:
        """True or false."""
        known = SafeConstructor.bool_values
        word = self.node.value.lower() if isinstance(self.node, yaml.ScalarNode) else ""
        if not self._tag_is("bool") or word not in known:
            raise self.error("true or false")
        return known[word]

    def folder(self) -> Path:
        """A folder that exists: variables expanded, relative to the file."""
        path = self._path("a folder")
        if not _exists(path.is_dir):
            raise self.error("a folder that exists", f"there is no folder {_short(str(path))}")
        return path

    def regular_file(self) -> Path:
        """A file that exists: variables expanded, relative to the file."""
        path = self._path("a file")
        if not _exists(path.is_file):
            raise self.error("a file that exists", f"there is no file {_short(str(path))}")
        return path

    def _path(self, what: str) -> Path:
        def expand(match: re.Match[str]) -> str:
            if match[1]:
                return "$"
            name = match[2] or match[3]
            if not os.environ.get(name or ""):
                found = f"the environment variable {_short(name or '')!r} is not set"
                raise self.error("variables that are set (write $$ for a dollar sign)", found)
            return os.environ[name]

        written = self.text(f"the path of {what}")
        try:
            return self.file.parent / Path(_VARIABLE.sub(expand, written)).expanduser()
        except RuntimeError:
            raise self.error("the path of " + what, f"`{_short(written)}`: there is no such home folder") from None

    def _tag_is(self, *names: str) -> bool:
        return self.node.tag in [f"tag:yaml.org,2002:{name}" for name in names]

    def _in_words(self) -> str:
        tagged = "" if self.node.tag in _USUAL_TAGS else f" tagged `{_short(self.node.tag)}`"
        if isinstance(self.node, yaml.MappingNode):
            return f"a mapping{tagged}"
        if isinstance(self.node, yaml.SequenceNode):
            return f"a list of {len(self.node.value)}{tagged}"
        return "nothing" if self._tag_is("null") else f"`{_short(str(self.node.value))}`{tagged}"


def read_yaml(path: Path) -> tuple[Value, bytes]:
    """The top of a YAML file, and its bytes.

    Raises:
        MixError: no such file, too large, not YAML, or empty.
    """
    try:
        if not path.is_file():
            raise MixError(str(path), "there is no such file", "a YAML file")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise MixError(str(path), error.strerror or str(error), "a YAML file that can be read") from error
    if len(data) > LARGEST_FILE:
        raise MixError(str(path), "the file is larger than 1 MiB", "a YAML file that describes the data")
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise MixError(where, error.problem or error.context or "not YAML", "YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        raise MixError(str(path), " ".join(str(error).split()), "YAML") from error
    except RecursionError:
        raise MixError(str(path), "values nested too deeply", "YAML of a few levels") from None
    if node is None:
        raise MixError(str(path), "the file is empty", "a mapping with `sources`")
    return Value(path, node, ""), data


def _exists(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _either(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
