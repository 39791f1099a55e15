"""Records and pictures of several results folders in one: each file once, and none lost.

Folders are added one after the other, so that memory and open files do not grow with their number. Of one locator:

    same content         the records that say most are kept: with most verdicts, of the whole file, of the latest run
    other content        both are kept; the later one becomes `locator~2`, as a scan calls the second file of a name
    failures, no content one is kept where they have the same code; they give way to records of any content

Pictures are hard links to those of the source folder where the file system has them, and copies elsewhere: results are
replaced and never changed in place, so neither folder can change the other. What a source folder says is checked: only
regular files in its own folders of pictures are taken, under the names that a scan gives to those of that image; they
are whole as far as they state it (`whole_pictures`), mask and heatmap have the size of their image, and the verdict's
file says what the record says.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, groupby
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from clue_cli.errors import OutputError
from clue_cli.records import FailureRecord, ImageRecord, RunRecord
from clue_cli.results import names
from clue_cli.results.explanations import EXPLANATIONS, ExplanationLog, explanations_in, record_digest
from clue_cli.results.folder import output_errors
from clue_cli.results.log import LONGEST_LINE
from clue_cli.results.notes import NOTES, NoteLog, notes_in
from clue_cli.results.reader import LOG, RUN, TORN, ResultsReader, holds_results, read_run
from clue_cli.results.record_log import RecordLog, Stamp, is_complete
from clue_cli.results.scan_store import PICTURE_FOLDERS, SUMMARY, ResultStore, json_of
from clue_cli.results.summary import MetRows
from clue_cli.results.whole_pictures import is_whole_jpeg, whole_png_size

Record = ImageRecord | FailureRecord
Refusals = Callable[[ImageRecord, str], list[str]]
"""Why a text about a record may not be shown; nothing if it may."""

MERGED = "merged_runs"
"""The setting of a merge's `run.json` that names the runs whose results it holds."""


_SHOWN = 300
"""Most characters of a locator in a warning."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A record that has explanations: its locator and digest here, and why those are refused that are, by their key."""

    locator: str
    digest: str
    lies: dict[str, list[str]]


@dataclass(slots=True)
class Noted:
    """How often something was found, and where first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, where: str) -> None:
        """Note one more."""
        self.count += 1
        if len(self.first) < 10:
            self.first.append(where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…")

    def __str__(self) -> str:
        return ", ".join(self.first) + (", …" if self.count > len(self.first) else "")


@dataclass(slots=True)
class Found:
    """What was found while folders were added.

    Attributes:
        repeated: files of which two runs have records.
        differing: files of which two folders say different things about the same content.
        conflicts: files of which two folders have different content.
        missing: images of which a picture is not there.
        foreign: images whose record names the picture of another one.
        broken: images of which a picture is not whole, or has not the size of its image.
        altered: images of which the verdict's file says something else than the record.
        lies: images with an explanation that does not pass the check.
        other_models: records of another model than that of the run.
    """

    repeated: Noted = field(default_factory=Noted)
    differing: Noted = field(default_factory=Noted)
    conflicts: Noted = field(default_factory=Noted)
    missing: Noted = field(default_factory=Noted)
    foreign: Noted = field(default_factory=Noted)
    broken: Noted = field(default_factory=Noted)
    altered: Noted = field(default_factory=Noted)
    lies: Noted = field(default_factory=Noted)
    other_models: Noted = field(default_factory=Noted)


class MergedStore(ResultStore):
    """The results folder of a merge: `open`, `add` for each source, then `finish` as of a scan.

    Args:
        out: a new or empty folder, or that of an earlier merge, whose records stay.

    Attributes:
        earlier: `run.json` of what is there, None in a new folder.
        found: what was noticed.

    Raises:
        OutputError: the folder holds something else, is in use, or cannot be written.
    """

    def __init__(self, out: Path) -> None:
        with output_errors(out):
            if out.is_dir() and holds_results(out) and not any(MERGED in run.settings for run in runs_in(out)):
                raise OutputError(
                    f"{out} holds the results of a scan and not of a merge.",
                    "Choose a new folder with --out, and name this one as a folder to merge.",
                )
        super().__init__(out)
        with output_errors(out):
            self.earlier = read_run(out / RUN)
        self.found = Found()

    def open(self, run: RunRecord, stamp: Stamp) -> list[str]:
        """Open the log, and write `run.json`, by which the folder is known again: a merge is running there.

        Args:
            run: what it says until the end.
            stamp: of this merge.

        Returns:
            What is wrong with the log, and what became of a signed manifest.

        Raises:
            OutputError: writing failed.
        """
        self._stamp = stamp
        self.add_runs(self.out)  # a scan may have written here meanwhile
        with output_errors(self.out / RUN):
            outdated = self._set_aside_manifests(read_run(self.out / RUN))
        self.write_run(run)
        with output_errors(self.out / LOG):
            self._log = RecordLog(self.out / LOG, self.out / TORN)
        return [*self._log.warnings, *outdated]

    def keep_earlier(self, met: Met) -> None:
        """Take over what an earlier merge left here."""
        for locator, group in groupby(self.records(), key=lambda record: record.locator):
            if all(map(met, group)):
                self._open_log.keep(locator)

    def add(self, source: ResultsReader, met: Met, refusals: Refusals) -> Iterator[tuple[list[Record], bool]]:
        """Add the records of a folder with their pictures, explanations, and notes of people.

        Args:
            source: the folder.
            met: whether its runs met a record.
            refusals: the check of explanations.

        Yields:
            The records of each file as they are in the folder, and whether its runs met the file.

        Raises:
            OutputError: reading or writing failed, or a log was changed meanwhile.
        """
        with ExitStack() as stack:
            with output_errors(source.path / EXPLANATIONS):
                theirs = explanations_in(source.path)
                if theirs is not None:
                    stack.enter_context(theirs)
            with output_errors(source.path / NOTES):
                noted = notes_in(source.path)
                if noted is not None:
                    stack.enter_context(noted)
            taken: dict[str, Explained] = {}
            moved: dict[tuple[str, str], str] = {}
            """By locator and SHA-256 where noted pictures are that have another locator here."""
            for _, group in groupby(source.records(), key=lambda record: record.locator):
                records = list(group)
                was_met = all(map(met, records)) and not self._are_of_other_model(records)
                locator = self._place(source.path, records, was_met)
                if theirs is not None:
                    taken |= self._explained(theirs, records, locator, refusals)
                if noted is not None and locator != records[0].locator:
                    moved |= {
                        (one.locator, one.file.sha256): locator
                        for one in records
                        if one.file and noted.has(one.locator)
                    }
                yield records, was_met
            if theirs is not None:
                self._add_explanations(theirs, taken)
            if noted is not None:
                self._add_notes(noted, moved)

    def _are_of_other_model(self, group: list[Record]) -> bool:
        for record in group:
            if isinstance(record, ImageRecord) and record.model.digest != self._open_stamp.model_digest:
                self.found.other_models.add(record.locator)
                return True
        return False

    def _explained(
        self, theirs: ExplanationLog, group: list[Record], locator: str, refusals: Refusals
    ) -> dict[str, Explained]:
        """How the explanations of a file's records are taken over, by the digests of these records.

        One that passed the check must pass it again: the file may have been written by anybody.
        """
        found: dict[str, Explained] = {}
        for record in group:
            if not isinstance(record, ImageRecord) or not theirs.explains(before := record_digest(record)):
                continue
            here = self._open_log.current(locator)
            same = [ours for ours in here if isinstance(ours, ImageRecord) and _said([ours]) == _said([record])]
            lies = {one.key: why for one in theirs.accepted(record) if (why := refusals(record, one.text or ""))}
            if lies:
                self.found.lies.add(record.locator)
            found[before] = Explained(locator, record_digest(same[0]) if same else before, lies)
        return found

    def _add_explanations(self, theirs: ExplanationLog, taken: Mapping[str, Explained]) -> None:
        with output_errors(self.out / EXPLANATIONS), ExplanationLog(self.out / EXPLANATIONS) as ours:
            for explanation in theirs.entries():
                if (about := taken.get(explanation.record)) is None:
                    continue  # about no record of that folder: a lie about those of others, or history
                change: dict[str, object] = {"locator": about.locator, "record": about.digest}
                if explanation.status == "accepted" and (why := about.lies.get(explanation.key)):
                    change |= {"status": "discarded", "reasons": why}
                explanation = explanation.model_copy(update=change)
                known = ours.last(explanation.record, explanation.key)
                if known is None or (explanation.status == "accepted" != known.status):
                    ours.append(explanation)

    def _add_notes(self, theirs: NoteLog, moved: Mapping[tuple[str, str], str]) -> None:
        """Take over all notes, those that no record fits too: they are people's work."""
        with output_errors(self.out / NOTES), NoteLog(self.out / NOTES) as ours:
            for note in theirs.entries():
                locator = moved.get((note.locator, note.sha256), note.locator)
                ours.append(note.model_copy(update={"locator": locator}))

    def add_runs(self, source: Path) -> None:
        """Keep the runs of a folder in `runs/`: records refer to them.

        Raises:
            OutputError: reading or writing failed.
        """
        with output_errors(self.out / "runs"):
            for run in runs_in(source):
                if not run.run_id or MERGED in run.settings:
                    continue
                kept = f"runs/{names.mirrored(run.run_id, suffix='.json')}"
                known = read_run(self.out / kept)
                if known is None or (known.status != "finished" and run.status == "finished"):
                    self._folder.write(kept, json_of(run), durable=True)

    def met_records(self) -> Iterator[Record]:
        """All current records whose evidence the merged runs met."""
        return (record for record, met in self._open_log.records() if met)

    def _place(self, source: Path, group: list[Record], met: bool) -> str:
        """Add the records of a file if they are not here, or say more; returns the locator that they have here."""
        wanted = group[0].locator
        for locator in _locators(wanted):
            current = self._open_log.current(locator)
            if not current or _same_content(current, group):
                break
        if locator != wanted:
            self.found.conflicts.add(f"{wanted} (kept as {locator})")
        if current:
            if current[0].run_id != group[0].run_id:
                self.found.repeated.add(locator)
            equal = _said(current) == _said(group)
            if not equal and _answers(current) and _answers(group) and is_complete(current) and is_complete(group):
                self.found.differing.add(locator)
            gains = self._has_more_pictures(source, current, group) if equal else _rank(group) > _rank(current)
            if not gains:
                if met:
                    self._open_log.keep(locator)
                return locator
            met = met or self._open_log.is_met(locator)
            for record in self._open_log.forget(locator):
                self._remove_pictures(record)
        for record in group:
            if isinstance(record, ImageRecord):
                self._take_image(source, record, locator)
            else:
                self._append(record.model_copy(update={"locator": locator}))
        self._open_log.keep(locator, met=met)
        return locator

    def _has_more_pictures(self, source: Path, current: list[Record], group: list[Record]) -> bool:
        """Whether a picture of the current records is not here and is in the source."""
        for ours, theirs in zip(current, group, strict=True):
            if isinstance(ours, ImageRecord) and isinstance(theirs, ImageRecord):
                for name, path in ours.outputs:
                    if path is not None and picture_in(self.out, path) is None:
                        found = self._checked(source, theirs, name)
                        if isinstance(found, Path) or name == "verdict":
                            return True
        return False

    def _take_image(self, source: Path, record: ImageRecord, locator: str) -> None:
        named = [name for name, path in record.outputs if path is not None]
        outputs = self.outputs(locator, record.page, record.page_count, named)
        taken = record.model_copy(update={"locator": locator, "outputs": outputs})
        for name, path in record.outputs:
            if path is None:
                continue
            found = self._checked(source, record, name)
            if isinstance(found, Noted):
                found.add(f"{locator} ({name})")
            elif name != "verdict" or (taken == record and found.read_bytes() == json_of(record)):
                self._folder.link(found, getattr(outputs, name))
                continue
            if name == "verdict":
                self._folder.write(outputs.verdict, json_of(taken))
        self._append(taken)

    def _checked(self, source: Path, record: ImageRecord, name: str) -> Path | Noted:
        """The file that a record of a folder names; or where to note why it is left out."""
        path = getattr(record.outputs, name)
        if not path.partition("/")[2].startswith(_own_names(record.locator, record.page, record.page_count)):
            return self.found.foreign
        file = picture_in(source, path)
        if file is None:
            return self.found.missing
        with output_errors(file):
            if name == "verdict":
                return file if _verdict_says(file, record) else self.found.altered
            if path.endswith(".jpg"):
                return file if is_whole_jpeg(file) else self.found.broken
            size = whole_png_size(file)
        fits = size == (record.width, record.height) if name in ("mask", "heatmap") else size is not None
        return file if fits else self.found.broken


class Met:
    """Whether the merged runs of a folder met the evidence of a record; to be asked in the order of the log's records.

    If the latest run met all of them, so did that run; else `summary.csv` says it, and those count that one of the
    other merged runs wrote.

    Args:
        folder: the results folder.
        latest: its latest run.
        run_ids: of the merged runs, and of those that they continued.
    """

    def __init__(self, folder: Path, latest: RunRecord, run_ids: frozenset[str]) -> None:
        self._all = not latest.counts.not_met and latest.status == "finished"
        self._run_ids: frozenset[str] = frozenset() if MERGED in latest.settings else run_ids
        # A run that did not come to its end has left the summary of the one before; that of a merge is still true.
        says = latest.status in ("finished", "interrupted") or MERGED in latest.settings
        self._rows = MetRows(folder / SUMMARY) if says and not self._all else None

    def __call__(self, record: Record) -> bool:
        """Whether they met that of the record."""
        in_summary = self._rows is not None and self._rows.met(record)
        return self._all or in_summary or record.run_id in self._run_ids


def runs_in(folder: Path) -> Iterator[RunRecord]:
    """The runs of a results folder that can be read: the latest first.

    Raises:
        OutputError: one is of a newer version of clue.
        OSError: one cannot be read.
    """
    former = folder / "runs"
    for path in (folder / RUN, *(sorted(former.glob("*.json")) if former.is_dir() else ())):
        if not path.is_symlink() and (run := read_run(path)) is not None:
            yield run


def _locators(wanted: str) -> Iterator[str]:
    yield wanted
    yield from (f"{wanted}~{number}" for number in count(2))


def _same_content(one: Sequence[Record], other: Sequence[Record]) -> bool:
    contents = [{record.file.sha256 for record in group if record.file is not None} for group in (one, other)]
    if all(contents):
        return not contents[0].isdisjoint(contents[1])
    return any(contents) or _said(one) == _said(other)


def _said(group: Sequence[Record]) -> list[object]:
    """What records say of a file, but for where their pictures are and how they came about."""
    return [
        (record.page, record.verdicts, record.regions, record.settings_digest)
        if isinstance(record, ImageRecord)
        else (record.page, record.code)
        for record in group
    ]


def _answers(group: Sequence[Record]) -> int:
    return sum(isinstance(record, ImageRecord) for record in group)


@lru_cache(maxsize=16)
def _own_names(locator: str, page: int, page_count: int) -> tuple[str, ...]:
    """How the names begin that a scan gives to the pictures of a page, for each length of the hash."""
    return tuple(f"{names.stem(locator, page, page_count, length)}." for length in (0, *names.HASH_LENGTHS))


def _verdict_says(file: Path, record: ImageRecord) -> bool:
    """Whether the file of a verdict says what the record says."""
    with file.open("rb") as stream:
        content = stream.read(LONGEST_LINE)
    try:
        return ImageRecord.model_validate_json(content) == record
    except ValidationError:
        return False


def _rank(group: Sequence[Record]) -> tuple[int, bool, bool, str]:
    """Of two groups of records of the same content, the larger one is kept."""
    return (
        _answers(group),
        is_complete(group),
        any(record.file for record in group),
        max(record.run_id for record in group),
    )


def picture_in(source: Path, relative: str) -> Path | None:
    """The file that a record of a folder names, None if it is not there or is not one of a scan's pictures."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not PICTURE_FOLDERS.intersection(path.parts[:1]):
        return None
    file = source.joinpath(*path.parts)
    try:
        status = file.lstat()
    except (OSError, ValueError):
        return None
    # A power failure can leave the name of a file without its content.
    return file if stat.S_ISREG(status.st_mode) and status.st_size and _is_inside(source, file.parent) else None


@lru_cache(maxsize=64)
def _is_inside(source: Path, folder: Path) -> bool:
    """Whether no symbolic link leads out of the results folder."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source))
