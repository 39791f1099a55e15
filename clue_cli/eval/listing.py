"""`clue eval --list`: every benchmark, what it should hold, where it is from, on what terms, and whether it is here."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

from clue_cli.errors import NothingToScanError
from clue_cli.terminal import printable
from model.evaluation import EvaluationError, status
from model.evaluation.benchmarks import Status


def listing(root: Path | None, *, width: int | None = None, colour: bool = False) -> str:
    """Text for a terminal.

    Raises:
        NothingToScanError: the root cannot be read.
    """
    try:
        found = status(root)
    except EvaluationError as error:
        raise NothingToScanError(f"{error}.", "Check --root, or CLUE_DATA.") from error
    buffer = io.StringIO()
    console = Console(
        file=buffer, force_terminal=colour, no_color=not colour, width=width, markup=False, highlight=False, emoji=False
    )
    where = f"looked for in {root}" if root else "not looked for: neither --root nor CLUE_DATA says where they lie"
    console.print(Text(printable(f"Benchmarks, {where}"), "bold"), soft_wrap=True)
    for one in found:
        for line, style in _lines(one):
            console.print(Text(printable(line), style), soft_wrap=True)
    return buffer.getvalue()


def _lines(one: Status) -> list[tuple[str, str]]:
    benchmark, found = one.benchmark, one.found
    style = "dim" if found is None else "bold green" if found.complete else "bold yellow"
    lines = [(f"{benchmark.name}: {one.words}", style), (f"    {benchmark.title}; {benchmark.expected}", "")]
    if found is not None:
        lines.append((f"    found in {found.folder}, layout {found.layout}", ""))
        if found.problems:
            lines.append((f"    {len(found.problems)} problems, the first: {found.problems[0]}", "yellow"))
    lines += [(f"    obtained from {benchmark.obtained}; terms: {benchmark.terms}", "")]
    lines += [(f"    known damage: {words}", "") for words in benchmark.damage]
    if found is None:
        lines += [(f"    layout {layout.describe()}", "") for layout in benchmark.layouts]
    return lines
