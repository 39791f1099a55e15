"""`clue notes`: what people noted on the page of a scan becomes a part of the results, apart from the records."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import path
from clue_cli.commands.results import Results
from clue_cli.errors import ExitCode, NothingToScanError, UsageError
from clue_cli.terminal import counted, printable, say, write_stdout

if TYPE_CHECKING:
    from clue_cli.results.notes import MergeOfNotes, Note, NoteLog, NotesFile
    from clue_cli.results.reader import ResultsReader

_NAMED = 10
"""Notes that are named in a warning."""
_WORDS = {"checked": "checked", "to_be_checked": "to be checked", "not_relevant": "not relevant", "note": "only a text"}


def notes(
    results: Results,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path, metavar="FILE…", help="Notes that the page has saved.", show_default="list what is noted"
        ),
    ] = None,
    any_run: Annotated[
        bool,
        typer.Option(
            "--any-run",
            help="Also take notes that were made on the page of a run that these results do not know, such as that of "
            "an earlier merge, about pictures that are here.",
        ),
    ] = False,
) -> None:
    """Merge notes that people made on the page into a results folder, or list its notes.

    They are kept in RESULTS/notes.jsonl. The records are not changed, and no note
    is ever removed: of each person the latest one about a picture counts. A note
    about a picture that is not in the results, or has another SHA-256, is kept
    in the file and named. Merging the same file again adds nothing.
    """
    if files:
        code = _merge(results, files, any_run=any_run)
    else:
        if any_run:
            raise UsageError("--any-run goes with files to merge.", "Name the files that the page has saved.")
        code = _list(results)
    raise typer.Exit(code)


def _merge(results: Path, files: list[Path], *, any_run: bool) -> ExitCode:
    from clue_cli.results.folder import ResultsFolder, output_errors
    from clue_cli.results.notes import NOTES, NoteLog, read_notes
    from clue_cli.results.reader import ResultsReader
    from clue_cli.results.scan_store import LOCK

    ResultsReader(results).close()  # nothing, not even a lock, is left in a folder that holds something else
    read = [read_notes(file) for file in files]
    folder = ResultsFolder(results)
    try:
        folder.lock(LOCK, f"Another command of clue is writing to {results}.", "Wait until it is done.")
        with ResultsReader(results) as reader:
            if not any_run:
                _check_runs(reader, read)
            with output_errors(results / NOTES):
                _check_place(results / NOTES)
                with NoteLog(results / NOTES) as log:
                    done = _append(reader, log, read)
                    disagreements, damaged = log.disagreements(), log.damaged
    finally:
        folder.release()
    say(f"{counted(done.added, 'note')} merged, {done.known:,} known already.")
    _warn("with a time that has not come yet: they outdate what these people note until then", done.future)
    _warn("about pictures that are not here, or have another SHA-256; kept in notes.jsonl", done.unplaced)
    if disagreements:
        say(f"People disagree about {counted(disagreements, 'picture')}; clue notes RESULTS lists all notes.")
    if damaged:
        say(f"Warning: {counted(damaged, 'damaged line')} of {NOTES} left out.")
    return ExitCode.SOME_FAILED if done.unplaced else ExitCode.OK


def _check_place(log: Path) -> None:
    if log.is_symlink():
        raise NothingToScanError(f"{log} is a symbolic link; clue writes none into a results folder.")


def _check_runs(reader: ResultsReader, read: list[NotesFile]) -> None:
    """Raise UsageError if a file is of a run that neither the results' runs nor their records name."""
    from clue_cli.results.merging import MERGED, runs_in

    wanted = {file.run_id for file in read}
    for run in runs_in(reader.path):
        wanted -= {run.run_id, *str(run.settings.get(MERGED, "")).split()}
    if wanted:
        for record in reader.records():
            wanted.discard(record.run_id)
    for file in read:
        if file.run_id in wanted:
            raise UsageError(
                f"{file.path} holds notes on run {printable(file.run_id[:100])}, which is none of {reader.path}.",
                "Nothing was merged. Name the results on whose page they were made; --any-run takes those about "
                "pictures that are here as well.",
            )


def _append(reader: ResultsReader, log: NoteLog, read: list[NotesFile]) -> MergeOfNotes:
    from clue_cli.results.notes import MergedNote, MergeOfNotes, is_future

    done, now = MergeOfNotes(), datetime.now(UTC)
    for file in read:
        for note in file.notes:
            merged = MergedNote(**note.model_dump(), merged=now.isoformat(timespec="seconds"))
            if log.append(merged):
                done.added += 1
            else:
                done.known += 1
            if is_future(note, now):
                done.future.append(note)
            if not _is_here(reader, note):
                done.unplaced.append(note)
    return done


def _is_here(reader: ResultsReader, note: Note) -> bool:
    """Whether a record is about the picture of a note."""
    return any(
        record.file is not None and record.file.sha256 == note.sha256 and (record.page or 0) == note.page
        for record in reader.of(note.locator)
    )


def _warn(what: str, found: list[Note]) -> None:
    if not found:
        return
    say(f"Warning: {counted(len(found), 'note')} {what}:")
    for note in found[:_NAMED]:
        say(f"  {_shown(note.locator, 200)} (page {note.page}), {_shown(note.who, 60)}, {printable(note.when)}")
    if len(found) > _NAMED:
        say(f"  and {len(found) - _NAMED:,} more")


def _list(results: Path) -> ExitCode:
    from clue_cli.results.folder import output_errors
    from clue_cli.results.notes import NOTES, counted_marks, notes_in
    from clue_cli.results.reader import ResultsReader

    with ResultsReader(results) as reader, output_errors(results / NOTES):
        log = notes_in(results)
        if log is None:
            say(f"Nothing is noted in {printable(str(results))}.")
            return ExitCode.OK
        with log:
            for who, marks in counted_marks(log).items():
                shown = ", ".join(f"{count:,} {_WORDS[mark]}" for mark, count in marks.items())
                if not write_stdout(f"{_shown(who, 200)}: {shown}\n"):
                    return ExitCode.OK
            if disagreements := log.disagreements():
                write_stdout(f"People disagree about {counted(disagreements, 'picture')}.\n")
            for note in log.current():
                if note.mark is None and not note.note:
                    continue  # taken back
                where = note.locator if note.page == 0 else f"{note.locator} (page {note.page})"
                here = "" if _is_here(reader, note) else "no such picture here"
                cells = (where, _WORDS.get(note.mark or "", ""), note.who, note.when, note.note, here)
                if not write_stdout("\t".join(printable(cell) for cell in cells).rstrip("\t") + "\n"):
                    return ExitCode.OK
            if log.damaged or log.torn:
                say(f"Warning: {counted(log.damaged + log.torn, 'damaged line')} of {NOTES} left out.")
    return ExitCode.OK


def _shown(text: str, most: int) -> str:
    return printable(text if len(text) <= most else f"{text[:most]}…")
