"""Records in the formats of other programs. A format is one module here with a function `write`; its name is the
module's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from clue_cli.records import FailureRecord, ImageRecord

Writer = Callable[[BinaryIO, Iterable["ImageRecord | FailureRecord"]], None]
"""Writes the records to a binary stream, one at a time."""

FORMATS = tuple(sorted(module.name for module in iter_modules(__path__)))
"""The names of the formats."""


def writer(name: str) -> Writer:
    """The writer of a format; `name` is one of FORMATS."""
    function: Writer = import_module(f"{__name__}.{name}").write
    return function
