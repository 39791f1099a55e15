"""Records and pictures of several results folders in one: each file once, and none lost.

Folders are added one after the other, so that memory and open files do not grow with their number. Of one locator:

    same content         the records that say most are kept: of the whole file, with most verdicts, of the latest run
    other content        both are kept; the later one becomes `locator~2`, as a scan calls the second file of a name
    failures, no content one is kept where they have the same code; they give way to records of any content

Pictures are hard links to those of the source folder where the file system has them, and copies elsewhere: results are
replaced and never changed in place, so neither folder can change the other. What a source folder says is checked: only
regular files in its own folders of pictures are taken, and a mask has the size of its image.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, groupby
from pathlib import Path, PurePosixPath

from clue_cli.errors import OutputError
from clue_cli.records import FailureRecord, ImageRecord, RunRecord
from clue_cli.results import names
from clue_cli.results.explanations import EXPLANATIONS, ExplanationLog, explanations_in
from clue_cli.results.folder import output_errors
from clue_cli.results.reader import LOG, RUN, TORN, ResultsReader, holds_results, read_run
from clue_cli.results.record_log import RecordLog, Stamp, is_complete, pictures
from clue_cli.results.scan_store import PICTURE_FOLDERS, ResultStore, json_of

Record = ImageRecord | FailureRecord

MERGED = "merged_runs"
"""The setting of a merge's `run.json` that names the runs whose results it holds."""

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(slots=True)
class Noted:
    """How often something was found, and where first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, where: str) -> None:
        """Note one more."""
        self.count += 1
        if len(self.first) < 10:
            self.first.append(where)

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
        wrong_masks: images whose mask is none, or of another size.
    """

    repeated: Noted = field(default_factory=Noted)
    differing: Noted = field(default_factory=Noted)
    conflicts: Noted = field(default_factory=Noted)
    missing: Noted = field(default_factory=Noted)
    wrong_masks: Noted = field(default_factory=Noted)


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
        """Open the log; in a new folder, write `run.json`, by which it is known again.

        Returns:
            What is wrong with the log.

        Raises:
            OutputError: writing failed.
        """
        self._stamp = stamp
        if self.earlier is None:
            self.write_run(run)
        with output_errors(self.out / LOG):
            self._log = RecordLog(self.out / LOG, self.out / TORN)
        return self._log.warnings

    def keep_earlier(self, met: Met) -> None:
        """Take over what an earlier merge left here."""
        for locator, group in groupby(self.records(), key=lambda record: record.locator):
            if all(map(met, group)):
                self._open_log.keep(locator)

    def add(self, source: ResultsReader, met: Met) -> Iterator[int]:
        """Add the records of a folder with their pictures; yields the number of records of each file, for progress.

        Raises:
            OutputError: writing failed, or a log was changed meanwhile.
        """
        for _, group in groupby(source.records(), key=lambda record: record.locator):
            records = list(group)
            self._place(source.path, records, all(map(met, records)))
            yield len(records)

    def add_explanations(self, source: Path) -> None:
        """Add what `clue explain` wrote in a folder.

        Raises:
            OutputError: reading or writing failed.
        """
        with output_errors(self.out / EXPLANATIONS):
            theirs = explanations_in(source)
            if theirs is None:
                return
            with theirs, ExplanationLog(self.out / EXPLANATIONS) as ours:
                for explanation in theirs.entries():
                    if ours.last(explanation.record, explanation.key) is None:
                        ours.append(explanation)

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

    def _place(self, source: Path, group: list[Record], met: bool) -> None:
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
            if _said(current) != _said(group) and is_complete(current) and is_complete(group):
                self.found.differing.add(locator)
            better = _rank(group) > _rank(current) and _said(group) != _said(current)
            if not better and all(_picture(self.out, path) for path in _pictures(current)):
                if met:
                    self._open_log.keep(locator)
                return
            self._remove_outdated(locator)
        for record in group:
            if isinstance(record, ImageRecord):
                self._take_image(source, record, locator)
            else:
                self._append(record.model_copy(update={"locator": locator}))
        self._open_log.keep(locator, met=met)

    def _take_image(self, source: Path, record: ImageRecord, locator: str) -> None:
        named = self.outputs(locator, record.page, record.page_count, panels=True, thumbnail=True, synthetic=True)
        outputs = named.model_copy(update={name: None for name, path in record.outputs if path is None})
        taken = record.model_copy(update={"locator": locator, "outputs": outputs})
        for name, path in record.outputs:
            if path is None or (name == "verdict" and taken != record):
                continue
            file = _picture(source, path)
            if file is None:
                self.found.missing.add(f"{locator} ({name})")
            elif name == "mask" and _png_size(file) != (record.width, record.height):
                self.found.wrong_masks.add(locator)
            else:
                self._folder.link(file, getattr(outputs, name))
        if taken != record:
            self._folder.write(taken.outputs.verdict, json_of(taken))
        self._append(taken)


class Met:
    """Whether the merged runs of a folder met the evidence of a record.

    A folder does not say it of each record. If its latest run met all of them, so did that run; else those count that
    one of its own runs wrote.

    Args:
        latest: the latest run of the folder.
        run_ids: of the runs that are merged.
    """

    def __init__(self, latest: RunRecord, run_ids: frozenset[str]) -> None:
        self._all = not latest.counts.not_met and (latest.status == "finished" or MERGED in latest.settings)
        self._run_ids = run_ids

    def __call__(self, record: Record) -> bool:
        """Whether they met that of the record."""
        return self._all or record.run_id in self._run_ids


def runs_in(folder: Path) -> Iterator[RunRecord]:
    """The runs of a results folder that can be read: the latest first.

    Raises:
        OutputError: one is of a newer version of clue.
        OSError: one cannot be read.
    """
    former = folder / "runs"
    for path in (folder / RUN, *(sorted(former.glob("*.json")) if former.is_dir() else ())):
        if (run := read_run(path)) is not None:
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


def _pictures(group: Sequence[Record]) -> list[str]:
    return [path for record in group if isinstance(record, ImageRecord) for path in pictures(record.outputs)]


def _rank(group: Sequence[Record]) -> tuple[bool, int, bool, str]:
    """Of two groups of records of the same content, the larger one is kept."""
    images = sum(isinstance(record, ImageRecord) for record in group)
    return is_complete(group), images, any(record.file for record in group), max(record.run_id for record in group)


def _picture(source: Path, relative: str) -> Path | None:
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


def _png_size(file: Path) -> tuple[int, int] | None:
    """Width and height in the header of a PNG, None if it is none."""
    with file.open("rb") as stream:
        head = stream.read(24)
    if len(head) < 24 or not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return width, height
