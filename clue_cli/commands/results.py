"""`clue report` and `clue export`: the results of a scan as a page or in another format."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from clue_cli.commands.options import path, path_or_url, require_extra
from clue_cli.errors import ExitCode, NothingToScanError, OutputError, UsageError
from clue_cli.results.export import FORMATS, Source, writer
from clue_cli.terminal import counted, printable, say, to_stdout

if TYPE_CHECKING:
    from clue_cli.remote import Url
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.selection import Selection

ANSWERS = ("forged", "generated", "inconclusive", "no_evidence", "failure")
"""Values of `--only`."""

_SELECTION, _PDF = "Which records", "Report as PDF"
_NAMED = 10
"""Locators without a record that are named."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

Results = Annotated[Path, typer.Argument(parser=path, metavar="RESULTS", help="Results folder of a scan.")]
ResultsAnywhere = Annotated[
    Any,  # Path or Url
    typer.Argument(parser=path_or_url, metavar="RESULTS", help="Results folder of a scan, or its URL in a store."),
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,NAME…]",
        help=f"Only records with these verdicts, or failures: {', '.join(ANSWERS)}. inconclusive and no_evidence are "
        "about edited regions; --where synthetic_verdict=… selects by the second question.",
        rich_help_panel=_SELECTION,
    ),
]
Locators = Annotated[
    Path | None,
    typer.Option(
        "--list",
        parser=path,
        metavar="FILE",
        help="Only records whose locators are in this text file, one per line.",
        rich_help_panel=_SELECTION,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only records that meet a condition on a column of summary.csv, as in score>=0.8 or "
        "camera_model~canon (contains). Can be repeated; all conditions must hold.",
        rich_help_panel=_SELECTION,
    ),
]

Query = Annotated[
    str | None,
    typer.Option(
        "--query",
        metavar="SQL",
        help="Only records that this SQL names in a column locator, as in 'select locator from images where "
        "score > 0.9'; with a column page, only these pages. Their order stays that of the results. See clue query.",
        rich_help_panel=_SELECTION,
    ),
]


def report(
    results: ResultsAnywhere,
    only: Only = None,
    locators: Locators = None,
    where: Where = None,
    query: Query = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the page, without .html.", show_default="index, or selection"),
    ] = None,
    pdf: Annotated[
        Path | None,
        typer.Option(
            "--pdf",
            parser=path,
            metavar="FILE",
            help="Write a report for the file of a court instead of a page: a PDF with a page for each selected image "
            "and a list of all. An earlier one is replaced; what is in RESULTS is only read.",
            rich_help_panel=_PDF,
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Name or number of the case, for the title page of the PDF.", rich_help_panel=_PDF
        ),
    ] = None,
    language: Annotated[Literal["en", "de"], typer.Option(help="Language of the PDF.", rich_help_panel=_PDF)] = "en",
) -> None:
    """Write the page of a results folder again, an additional page of selected records, or a PDF.

    The page is written into RESULTS, because it shows the pictures there;
    records and pictures are only read.
    """
    selection = _with_query(selection_of(only, locators, where), "report", results, query)
    if pdf is not None:
        if name is not None:
            raise UsageError("--name is the name of a page, and --pdf writes none.", "Leave one of them out.")
        _write_pdf(results, selection, pdf, title or "", language)
    for option, given in (("--title", title is not None), ("--language", language != "en")):
        if given:
            raise UsageError(f"{option} is for the PDF.", "Add --pdf FILE.")
    chosen = name or ("selection" if selection else "index")
    if not _NAME.fullmatch(chosen):
        raise UsageError(f"--name {chosen!r} cannot be the name of a page.", "Use letters, digits, - and _.")
    if re.search(r"-\d{4,}$", chosen):
        raise UsageError(f"--name {chosen!r} is the name of a further part of a page.", "Choose another --name.")
    if selection and chosen.casefold() == "index":
        raise UsageError("index.html shows all records.", "Choose another --name for a selection.")
    from clue_cli.custody.additions import note_additions
    from clue_cli.report import write_report
    from clue_cli.results.folder import output_errors
    from clue_cli.results.places import folder_at
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.scan_store import LOCK, PICTURE_FOLDERS

    if isinstance(results, Path):
        ResultsReader(results).close()  # nothing, not even a lock, is left in a folder that holds something else
    folder = folder_at(results, PICTURE_FOLDERS)
    try:
        folder.make()
        ResultsReader(folder.root).close()
        folder.lock(LOCK, f"A scan is writing to {folder.shown}.")
        with ResultsReader(folder.root) as reader:  # as the last scan left it, now that none can go on
            if reader.run is None:
                message = f"{folder.shown}/run.json is missing or damaged."
                raise NothingToScanError(message, "clue export needs no run.json.")
            chosen_records = filter(selection, reader.records())
            with output_errors(folder.root):
                page = write_report(folder.root, reader.run, chosen_records, name=chosen, selection=str(selection))
            pages = [page.name, *(part.name for part in sorted(folder.root.glob(f"{chosen}-*.html")))]
            note_additions(folder.root, filter(re.compile(rf"{chosen}(-\d{{4,}})?\.html").fullmatch, pages), "report")
            folder.publish_pages(chosen)
            warn_of_damage(reader)
            _warn_of_notes(reader)
            warn_of_missing(selection)
    except ValueError as error:
        raise NothingToScanError(f"A record of {results} cannot be shown: {error}.") from error
    except NothingToScanError as error:
        error.message = error.message.replace(str(folder.root), folder.shown)
        raise
    except OutputError as error:
        if not isinstance(results, Path):
            raise
        advice = "The page is written into the results folder: wait for the scan, make the folder writable, or copy it."
        raise OutputError(error.message, advice) from error
    finally:
        folder.release()
    say(printable(f"Page: {page if isinstance(results, Path) else f'{folder.shown}/{page.name}'}"))
    raise typer.Exit(ExitCode.OK)


def _write_pdf(results: Path | Url, selection: Selection, target: Path, title: str, language: str) -> NoReturn:
    """Write the PDF, and end the command."""
    require_extra("report --pdf", "typst", extra="pdf")
    if not isinstance(results, Path):
        raise UsageError(
            "A PDF is made from a results folder on this machine, since it shows the pictures there.",
            "Download the folder first, or run clue report where it is.",
        )
    if target.suffix.lower() != ".pdf":
        raise UsageError(f"--pdf {target} does not end in .pdf.", "Name the file as in --pdf case.pdf.")
    from clue_cli.case_report import later_volumes, write_pdf
    from clue_cli.progress import ShownReporter
    from clue_cli.results.folder import ResultsFolder, output_errors
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.scan_store import LOCK
    from clue_cli.texts import texts

    ResultsReader(results).close()  # nothing, not even a lock, is left in a folder that holds something else
    with (
        ExitStack() as held,
        ResultsReader(results) as reader,
        ShownReporter(quiet=not sys.stderr.isatty()) as reporter,
    ):
        inside = target.resolve().is_relative_to(results.resolve())
        if inside:
            folder = ResultsFolder(results)
            try:
                folder.lock(LOCK, f"A scan is writing to {folder.shown}.")
            except OutputError as error:
                raise OutputError(error.message, "Wait for the scan, or choose another place with --pdf.") from error
            held.callback(folder.release)
        if reader.run is None:
            message = f"{results / 'run.json'} is missing or damaged."
            raise NothingToScanError(message, "clue export needs no run.json.")
        try:
            with output_errors(target, resumes=False):
                volumes = write_pdf(reader, selection, target, texts(language), title=title, reporter=reporter)
        except ValueError as error:
            raise NothingToScanError(f"A record of {results} cannot be shown: {error}.") from error
        except OutputError as error:
            raise OutputError(error.message, "Make room, or choose another place with --pdf.") from error
        reporter.finish()
        if inside:
            _note_inside(results, volumes)
        warn_of_damage(reader)
        _warn_of_notes(reader)
        warn_of_missing(selection)
    for volume in volumes:
        say(printable(f"PDF: {volume}"))
    for stale in later_volumes(volumes):
        say(printable(f"Warning: {stale} is a volume of an earlier report, and not of this one."))
    raise typer.Exit(ExitCode.OK)


def _note_inside(results: Path, volumes: list[Path]) -> None:
    """Note PDFs that were written into the results folder, which is locked, so that `clue verify` knows them."""
    from clue_cli.custody.additions import note_additions
    from clue_cli.results.manifest_names import PAGE_NAME

    root = results.resolve()
    names = [one.name for one in volumes if one.resolve().parent == root and PAGE_NAME.fullmatch(one.name)]
    if names:
        note_additions(results, names, "report")
    if len(names) < len(volumes):
        say(
            "Warning: clue verify will call the PDF added. It knows one by its name if that begins with a letter and "
            "has no special characters, and it lies in no folder below RESULTS."
        )


def export(
    results: ResultsAnywhere,
    form: Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="Format to write.")] = "csv",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=path, metavar="FILE", help="File to write.", show_default="standard output"),
    ] = None,
    partition: Annotated[
        bool,
        typer.Option(
            "--partition",
            help="Write a folder of Parquet files, divided by verdict and day of the run (Hive's layout).",
        ),
    ] = False,
    only: Only = None,
    locators: Locators = None,
    where: Where = None,
    query: Query = None,
) -> None:
    """Write the records of a results folder in another format. The folder is only read.

    Records of earlier versions of clue are converted to the current schema.
    case is CASE/UCO in JSON-LD, for programs of digital forensics. coco holds
    the marked regions, for annotation tools; it alone reads pictures, the masks.
    """
    if form not in FORMATS:
        raise UsageError(f"There is no format {form!r}.", f"The formats are: {', '.join(FORMATS)}.")
    _check_parquet(form, out, partition)
    if out is not None and isinstance(results, Path) and out.resolve().is_relative_to(results.resolve()):
        raise UsageError(f"{out} is inside the results folder.", "Name a file elsewhere with --out.")
    selection = _with_query(selection_of(only, locators, where), "export", results, query)
    from clue_cli.results.folder import output_errors
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.remote.copy import local_copy
    from model.whole_file import whole_file, whole_folder

    with local_copy(results) as folder, ResultsReader(folder) as reader:
        records = filter(selection, reader.records())
        url = None if isinstance(results, Path) else results
        source = Source(folder, reader.run, str(selection), url)
        complete = True
        try:
            if out is None:
                complete = to_stdout(lambda stream: writer(form)(stream, records, source))
            elif partition:
                from clue_cli.results.export.parquet import write_partitioned

                with output_errors(out, resumes=False), whole_folder(out) as parts:
                    write_partitioned(parts, records)
            else:
                with output_errors(out, resumes=False), whole_file(out, sync=True) as stream:
                    writer(form)(stream, records, source)
        except ValueError as error:
            raise NothingToScanError(f"A record of {results} cannot be exported: {error}.") from error
        warn_of_damage(reader)
        left_out = reader.left_out > 0
        if complete:
            warn_of_missing(selection)
    for kind, records_without in source.missing.items():
        say(printable(f"Warning: {kind}, of {counted(records_without.count, 'record')}: {records_without}."))
    raise typer.Exit(ExitCode.SOME_FAILED if source.missing or left_out else ExitCode.OK)


def _check_parquet(form: str, out: Path | None, partition: bool) -> None:
    if form != "parquet":
        if partition:
            raise UsageError(f"--partition does not go with --format {form}.", "Add --format parquet.")
        return
    require_extra("export --format parquet", "pyarrow", extra="tables")
    if out is None:
        raise UsageError("Parquet is not written to standard output.", "Name a file with --out.")
    if partition and (out.exists() or out.is_symlink()):
        raise UsageError(f"{out} exists.", "Name a new folder with --out.")


def _with_query(selection: Selection, command: str, results: Path | Url, query: str | None) -> Selection:
    """The selection, of which only the records that the query names are left."""
    if query is None:
        return selection
    require_extra(f"{command} --query", "duckdb", "pyarrow", extra="tables")
    from clue_cli.progress import ShownReporter
    from clue_cli.results.query import queried
    from clue_cli.results.remote.copy import local_copy

    with ShownReporter(quiet=not sys.stderr.isatty()) as reporter, local_copy(results) as folder:
        return replace(selection, queried=queried(folder, query, reporter))


def selection_of(only: str | None, locators: Path | None, where: list[str] | None) -> Selection:
    """The selection that the options state; raises UsageError for what cannot be understood."""
    from clue_cli.results.selection import Selection, condition, read_locators

    wanted = tuple(dict.fromkeys(word.strip() for word in only.split(","))) if only is not None else ()
    if unknown := [word for word in wanted if word not in ANSWERS]:
        raise UsageError(f"--only does not know {unknown[0]!r}.", f"It knows {', '.join(ANSWERS)}.")
    return Selection(wanted, None if locators is None else read_locators(locators), tuple(map(condition, where or [])))


def warn_of_damage(reader: ResultsReader) -> None:
    """Say which records of a results folder were left out or are of a newer version, and whether the scan finished."""
    for problem in reader.problems():
        say(printable(f"Warning: {problem}"))
    if reader.unfinished:
        say("Warning: the scan did not finish; these are the records written so far.")


def _warn_of_notes(reader: ResultsReader) -> None:
    """Say how many notes of people could not be read and are in no report."""
    from clue_cli.results.notes import NOTES, notes_in

    with notes_in(reader.path) or nullcontext() as log:
        if log is not None and (lines := log.damaged + log.torn):
            say(f"Warning: {counted(lines, 'damaged line')} of {NOTES} left out.")


def warn_of_missing(selection: Selection) -> None:
    """Name the first locators of `--list` and `--query` that no record has."""
    queried = set() if selection.queried is None else selection.queried.missing
    named = {key if isinstance(key, str) else f"{key[0]} (page {key[1]})" for key in queried}
    for option, missing in (("--list", selection.missing), ("--query", named)):
        if missing:
            say(f"Warning: {counted(len(missing), 'locator')} of {option} without a record:")
            say(*(f"  {printable(locator)}" for locator in sorted(missing)[:_NAMED]))
        if len(missing) > _NAMED:
            say(f"  and {len(missing) - _NAMED:,} more")
