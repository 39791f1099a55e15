"""`clue compare`: the pictures of one results folder that are in others."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clue_cli.commands.options import Quiet, path, path_or_url
from clue_cli.commands.results import ResultsAnywhere, warn_of_damage
from clue_cli.errors import CopyFound, ExitCode, UsageError
from clue_cli.terminal import counted, printable, say, write_stdout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clue_cli.comparing import CsvMatches, Match, Side, Totals
    from clue_cli.records import FailureRecord, ImageRecord
    from clue_cli.results.reader import ResultsReader
    from model.reporter import Reporter

    Record = ImageRecord | FailureRecord

_SHOWN = 20
"""Matches that are shown on the terminal."""

Others = Annotated[
    list[Any],  # Path or Url
    typer.Argument(
        parser=path_or_url,
        metavar="OTHER…",
        help="Results folders in which the pictures of RESULTS are looked for, or their URLs.",
    ),
]


def compare(
    results: ResultsAnywhere,
    others: Others,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=path, metavar="FILE", help="CSV file to write, with a row for each match."),
    ] = None,
    fail_on: Annotated[
        Literal["found", "differ"] | None,
        typer.Option(
            help="Exit with code 6 if a picture is in another folder (found), or is there with another verdict "
            "(differ).",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Look for the pictures of a results folder in others: the same file, or a picture that looks alike.

    Each picture that is found is shown once for each OTHER, with the picture there that is nearest to it,
    how far apart they are, and, where the verdicts differ, what may explain it. All folders are only read.
    """
    for folder in (results, *others):
        if out is not None and isinstance(folder, Path) and out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{out} is inside a results folder.", "Name a file elsewhere with --out.")
    if any(_same(results, other) for other in others):
        raise UsageError(f"{results} is to be compared with itself.", "clue report shows the copies in one folder.")
    from clue_cli.comparing import CsvMatches
    from clue_cli.progress import ShownReporter
    from clue_cli.results.folder import output_errors
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.remote.copy import local_copy
    from model.whole_file import whole_file

    found = differ = damaged = 0
    with ExitStack() as stack:
        reporter = stack.enter_context(ShownReporter(quiet=quiet or not sys.stderr.isatty()))
        stack.enter_context(nullcontext() if out is None else output_errors(out, resumes=False))
        folder = stack.enter_context(local_copy(results))
        file = None if out is None else CsvMatches(stack.enter_context(whole_file(out, sync=True)))
        with ResultsReader(folder) as reader:
            for other in others:
                reporter.stage(f"comparing with {other}", "records")
                totals, left_out = _compared(reader, other, file, reporter, quiet)
                _warn(totals, reader, results, other, first=other is others[0])
                found, differ = found + totals.found, differ + totals.differ
                damaged += left_out + reader.left_out
        if file is not None:
            file.detach()
    if (fail_on == "found" and found) or (fail_on == "differ" and differ):
        number = found if fail_on == "found" else differ
        words = f"{counted(number, 'picture')} found" + ("" if fail_on == "found" else " with another verdict")
        raise CopyFound(f"--fail-on {fail_on}: {words}.")
    raise typer.Exit(ExitCode.SOME_FAILED if damaged else ExitCode.OK)


def _compared(
    reader: ResultsReader, other: Any, file: CsvMatches | None, reporter: Reporter, quiet: bool
) -> tuple[Totals, int]:
    """Compare with one folder, show what was found, and count the damaged lines of its log, which are left out."""
    from clue_cli.comparing import Comparison
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.remote.copy import local_copy

    def told(records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            reporter.advance()
            yield record

    differing: list[Match] = []
    alike: list[Match] = []
    with (
        local_copy(other) as folder,
        ResultsReader(folder) as reader_b,
        Comparison(told(reader_b.records())) as comparison,
    ):
        for match in comparison.matches(told(reader.records())):
            if file is not None:
                file.write(match, str(other))
            kept = differing if match.differ else alike
            if len(kept) < _SHOWN:
                kept.append(match)
        reporter.finish()
        if reader_b.problems() or reader_b.unfinished:
            say(f"{printable(str(other))}:")
            warn_of_damage(reader_b)
    if not quiet:
        shown = _shown(str(other), comparison.totals, [*differing, *alike][:_SHOWN])
        write_stdout("".join(f"{line}\n" for line in shown))
    return comparison.totals, reader_b.left_out


def _warn(totals: Totals, reader: ResultsReader, results: Any, other: Any, *, first: bool) -> None:
    """Say what a reader of the matches must know; of `results` with the first of the others only."""
    if first and (reader.problems() or reader.unfinished):
        say(f"{printable(str(results))}:")
        warn_of_damage(reader)
    for number, folder in ((totals.without_look if first else 0, results), (totals.without_look_b, other)):
        if number:
            say(
                f"{counted(number, 'picture')} of {printable(str(folder))} compared by bytes alone: screens, drawings "
                "and pages, and pictures without a perceptual hash, as are nearly flat ones and those of earlier "
                "versions of clue."
            )
    if totals.cut:
        say(
            "Warning: some pictures have so many that look alike that not all were compared; the nearest one, or a "
            "near copy, may be missing. Exact copies are complete."
        )


def _shown(other: str, totals: Totals, matches: list[Match]) -> list[str]:
    lines = [
        f"{totals.found:,} of {counted(totals.images, 'picture')} found among {totals.images_b:,} in "
        f"{printable(other)}: {totals.exact:,} the same file, {totals.near:,} that look alike; "
        f"verdicts differ in {totals.differ:,}."
    ]
    for match in matches:
        same = f", one of {match.in_b:,}" if match.in_b > 1 else ""
        away = "same file" if match.kind == "exact" else f"looks alike, {counted(match.distance, 'bit')} apart"
        lines += [f"  {away}{same}", f"    A  {_side(match.a)}", f"    B  {_side(match.b)}"]
        if match.differ:
            lines.append(f"    VERDICTS DIFFER{': ' if match.why else ''}{'; '.join(match.why)}")
    if totals.found > len(matches):
        lines.append(f"  and {totals.found - len(matches):,} more (--out writes all of them)")
    return lines


def _side(side: Side) -> str:
    second = "" if side.synthetic_verdict is None else f", generated as a whole: {side.synthetic_verdict}"
    page = f" (page {side.page})" if side.page else ""
    return f"{side.verdict} {side.score:.2f}{second}  {printable(side.locator)}{page}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return str(one) == str(other)
