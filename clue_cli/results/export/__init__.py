"""Records in the formats of other programs. A format is one module here with a function `write`; its name is the
module's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from clue_cli.records import FailureRecord, ImageRecord, RunRecord
    from clue_cli.remote import Url
    from clue_cli.results.merging import Noted


@dataclass(slots=True)
class Source:
    """The results folder that the records are of, for formats that need more of it.

    Attributes:
        folder: the folder on this machine; of results in an object store it holds no pictures.
        run: the latest run; None if it is not known.
        selection: in words, which of the records are exported; empty: all of them.
        url: where the results are, if that is not `folder`.
        missing: what an export should hold and does not, by its kind, e.g. `mask is missing`; filled by `write`.
    """

    folder: Path
    run: RunRecord | None = None
    selection: str = ""
    url: Url | None = None
    missing: dict[str, Noted] = field(default_factory=dict)

    @contextmanager
    def picture(self, relative: str) -> Iterator[Path | None]:
        """A picture that a record names, as a file to be read within the block; None if there is none.

        Raises:
            NothingToScanError: the object store cannot be read.
        """
        from clue_cli.results.merging import picture_in

        if self.url is None:
            yield picture_in(self.folder, relative)
            return
        from clue_cli.results.remote.copy import fetched_picture

        with fetched_picture(self.url, self.folder, relative) as file:
            yield file

    def miss(self, kind: str, where: str) -> None:
        """Note what is not in the export, and of which record."""
        from clue_cli.results.merging import Noted

        self.missing.setdefault(kind, Noted()).add(where)


Writer = Callable[[BinaryIO, Iterable["ImageRecord | FailureRecord"], Source], None]
"""Writes the records to a binary stream, one at a time."""

FORMATS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of the formats."""


def writer(name: str) -> Writer:
    """The writer of a format; `name` is one of FORMATS."""
    function: Writer = import_module(f"{__name__}.{name}").write
    return function
