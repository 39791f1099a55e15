"""The report for a court file: paginated PDFs made from a results folder, which is only read.

One volume has up to `IMAGES_PER_VOLUME` pages of images. The records are read once and spooled to a temporary file, so
that memory grows with a volume and not with their number. Typst sets the pages (`report.typ`) in a process of its own
(`typst_process.py`). Everything that comes from evidence and results is data for it, never markup.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from clue_cli.case_report.front import Contents, failure_list, failure_row, front, image_list, image_row, settings
from clue_cli.case_report.image import OTHERS, Pictured, image_page, moment
from clue_cli.case_report.pictures import Printed, RecordPictures
from clue_cli.case_report.typeset import Block, typeset
from clue_cli.errors import OutputError, UsageError
from clue_cli.records import FailureRecord, ImageRecord, RunRecord
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import ResultsFolder
from clue_cli.results.groups import Groups, Kind
from clue_cli.results.notes import NoteLog, notes_in
from clue_cli.results.reader import ResultsReader
from clue_cli.results.selection import Selection
from clue_cli.results.summary import NOT_ASKED
from clue_cli.texts import Texts
from model.reporter import SILENT, Reporter
from model.whole_file import whole_file

IMAGES_PER_VOLUME = 250
ROWS_PER_VOLUME = 5_000
"""Lines of the full list in one volume; half of them, or fewer, stand behind the images. Both limits are for memory."""
BYTES_PER_VOLUME = 24_000_000
"""About the most JSON in one volume; evidence can be made so that its records are large."""
MOST_VOLUMES = 200
MANIFEST = "manifest.sha256"
_LARGEST_MANIFEST = 1 << 16


def write_pdf(
    reader: ResultsReader,
    selection: Selection,
    target: Path,
    text: Texts,
    *,
    title: str = "",
    made: datetime | None = None,
    reporter: Reporter = SILENT,
    images_per_volume: int = IMAGES_PER_VOLUME,
    rows_per_volume: int = ROWS_PER_VOLUME,
) -> list[Path]:
    """Write the report; each file appears when all are made, whole.

    Args:
        reader: of the results folder, whose `run` is there.
        selection: the images that get a page; the lists name all records.
        target: the PDF; further volumes lie beside it as `NAME-0002.pdf` and so on.
        text: the language.
        title: of the case, in the reader's words.
        made: when; None for now.
        images_per_volume, rows_per_volume: most pages of images, and lines of the lists, in one volume.

    Returns:
        The volumes, in their order.

    Raises:
        UsageError: there would be more than `MOST_VOLUMES` volumes, or a file would be written where it must not.
        TypesettingError: a volume cannot be made.
        OSError: a file cannot be read or written.
    """
    run = reader.run
    if run is None:
        raise ValueError("the results have no run.json")
    made = made or datetime.now(UTC).replace(microsecond=0)
    with tempfile.TemporaryFile() as stream, notes_in(reader.path) or nullcontext() as noted:
        spool = _Spool(stream)
        contents = Contents(title, str(reader.path.absolute()), made.isoformat(), options_of(selection))
        reporter.stage("Reading records", "records", run.counts.images + run.counts.failures)
        for record in reader.records():
            spool.add(record, selection(record), contents, text)
            reporter.advance()
        contents.damaged, contents.newer = reader.damaged, reader.newer
        contents.damaged_notes = 0 if noted is None else noted.damaged + noted.torn
        contents.manifest = _manifest(reader.path)
        contents.explanations = (reader.path / EXPLANATIONS).is_file()
        volumes = _plan(spool, images_per_volume, rows_per_volume)
        if len(volumes) > MOST_VOLUMES:
            raise UsageError(
                f"The report would have {len(volumes):,} volumes: {contents.selected:,} images are selected, of "
                f"{contents.images:,}; at most {MOST_VOLUMES} volumes are made.",
                "Select fewer images with --only, --where or --list, or divide the results.",
            )
        names = [_volume(target, volume.number) for volume in volumes]
        for name in names:
            check_target(name, run)
        reporter.stage("Typesetting", "images", contents.selected)
        printer = _Printer(reader, run, contents, spool, text, made, noted, reporter)
        with ExitStack() as files:
            for name, volume in reversed(list(zip(names, volumes, strict=True))):
                output = files.enter_context(whole_file(name, sync=True))
                printer.write(volume, len(volumes), output)
    reporter.finish()
    return names


def check_target(target: Path, run: RunRecord) -> None:
    """Raise UsageError if the PDF would lie in the evidence of a run, or replace a file that is no PDF."""
    place = target.resolve()
    for evidence in run.evidence:
        if set(evidence) <= set("./\\"):
            continue  # a folder without a name, which was the current one of the scan and may be another one now
        if place.is_relative_to(Path(evidence).resolve()):
            raise UsageError(
                f"{target} lies in the evidence {evidence}.",
                "Evidence is never written to: choose another place with --pdf.",
            )
    if target.is_dir() or (target.exists() and not _is_pdf(target)):
        raise UsageError(f"{target} exists and is no PDF.", "It is not replaced: choose another name with --pdf.")


def _is_pdf(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(5) in (b"%PDF-", b"")


def later_volumes(volumes: Sequence[Path]) -> list[Path]:
    """Files beside a report that have the names of further volumes: they are of an earlier, longer one."""
    first, found = volumes[0], list[Path]()
    number = len(volumes) + 1
    while (later := _volume(first, number)).exists():
        found.append(later)
        number += 1
    return found


def _volume(first: Path, number: int) -> Path:
    return first if number == 1 else first.with_name(f"{first.stem}-{number:04d}{first.suffix}")


def options_of(selection: Selection) -> str:
    """A selection as the options that state it, which is the same in all languages; empty: all records."""
    words = [f"--only {','.join(selection.only)}"] if selection.only else []
    if selection.locators is not None:
        words.append(f"--list ({len(selection.locators)})")
    words += [f"--where {shlex.quote(str(condition))}" for condition in selection.conditions]
    if selection.queried is not None:
        words.append(f"--query {shlex.quote(selection.queried.sql)}")
    return " ".join(words)


@dataclass
class _Lines:
    """Where texts are in the spool."""

    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class _Spool:
    """Selected records, and the lines of the lists, as JSON in a temporary file.

    Attributes:
        paged: of each selected record, its index among all images.
        groups: of copies among all images.
    """

    stream: BinaryIO
    pages: _Lines = field(default_factory=_Lines)
    images: _Lines = field(default_factory=_Lines)
    failures: _Lines = field(default_factory=_Lines)
    paged: array[int] = field(default_factory=lambda: array("q"))
    groups: Groups = field(default_factory=Groups)

    def add(self, record: ImageRecord | FailureRecord, selected: bool, contents: Contents, text: Texts) -> None:
        if isinstance(record, FailureRecord):
            contents.failures += 1
            self._put(self.failures, json.dumps(failure_row(contents.failures, record, text)))
            return
        contents.images += 1
        contents.verdicts[record.verdict.value] = contents.verdicts.get(record.verdict.value, 0) + 1
        second = NOT_ASKED if record.synthetic is None else record.synthetic.verdict.value
        contents.second[second] = contents.second.get(second, 0) + 1
        self._put(self.images, json.dumps(image_row(contents.images, record, text)))
        self.groups.add(record)
        if selected:
            contents.selected += 1
            self.paged.append(contents.images - 1)
            # Lone surrogates are no JSON for pydantic's own writer.
            self._put(self.pages, json.dumps(record.model_dump(mode="python"), default=str))

    def _put(self, lines: _Lines, value: str) -> None:
        content = value.encode("ascii")
        lines.start.append(self.stream.tell())
        lines.length.append(len(content))
        self.stream.write(content)

    def items(self, lines: _Lines, numbers: range) -> Iterator[Any]:
        """What was put, by number."""
        for number in numbers:
            self.stream.seek(lines.start[number])
            yield json.loads(self.stream.read(lines.length[number]))


@dataclass(frozen=True, slots=True)
class _Volume:
    """What is in one volume: numbers of pages, and of lines of the two lists."""

    number: int
    pages: range = range(0)
    images: range = range(0)
    failures: range = range(0)
    last: bool = False


def _plan(spool: _Spool, pages_per_volume: int, rows_per_volume: int) -> list[_Volume]:
    """The volumes: pages of images, then the lists, which share the last volume of pages if they fit."""
    pages = _cut(spool.pages, pages_per_volume) or [range(0)]
    volumes = [_Volume(number, pages=part) for number, part in enumerate(pages, 1)]
    images, failures = _cut(spool.images, rows_per_volume), _cut(spool.failures, rows_per_volume)
    rows = len(spool.images) + len(spool.failures)
    if len(images) <= 1 and len(failures) <= 1 and rows <= rows_per_volume // 2:
        volumes[-1] = replace(volumes[-1], images=range(len(spool.images)), failures=range(len(spool.failures)))
    else:
        volumes += [_Volume(0, images=part) for part in images]
        volumes += [_Volume(0, failures=part) for part in failures]
    volumes = [replace(volume, number=number) for number, volume in enumerate(volumes, 1)]
    volumes[-1] = replace(volumes[-1], last=True)
    return volumes


def _cut(lines: _Lines, most: int) -> list[range]:
    """Numbers in parts of at most `most`, and of about `BYTES_PER_VOLUME`."""
    starts, size = [0], 0
    for number in range(len(lines)):
        if number > starts[-1] and (number - starts[-1] == most or size + lines.length[number] > BYTES_PER_VOLUME):
            starts.append(number)
            size = 0
        size += lines.length[number]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True) if end > start]


@dataclass(frozen=True, slots=True)
class _Printer:
    """Makes volumes."""

    reader: ResultsReader
    run: RunRecord
    contents: Contents
    spool: _Spool
    text: Texts
    made: datetime
    notes: NoteLog | None
    reporter: Reporter

    def write(self, volume: _Volume, count: int, output: BinaryIO) -> None:
        """Typeset a volume in a temporary folder and copy it to a file."""
        with tempfile.TemporaryDirectory(prefix="clue-") as temporary:
            folder = Path(temporary)
            pdf = typeset(folder, self._head(volume, count), self._blocks(volume, folder))
            with pdf.open("rb") as stream:
                while piece := stream.read(1 << 20):
                    output.write(piece)

    def _head(self, volume: _Volume, count: int) -> dict[str, Any]:
        text, heading = self.text, self.text("report.heading")
        title = f"{heading}: {self.contents.title}" if self.contents.title else heading
        footer = text("report.footer", run=self.run.run_id or "–", date=moment(self.made.isoformat(), text))
        if count > 1:
            part = text("report.volume", volume=text.number(volume.number), volumes=text.number(count))
            title, footer = f"{title}, {part}", f"{part} · {footer}"
        return {
            "title": title,
            "author": f"{self.run.tool} {self.run.version}",
            "keywords": [self.run.run_id] if self.run.run_id else [],
            "language": text.language,
            "footer": footer,
            "page": text("report.page", page="{page}", pages="{pages}"),
            "created": int(self.made.timestamp()),
        }

    def _blocks(self, volume: _Volume, folder: Path) -> Iterator[Block]:
        if volume.number == 1:
            yield from front(self.run, self.contents, self.text)
        else:
            title = self.text("report.heading")
            yield {"kind": "title", "text": title, "subtitle": self.contents.title}
        if volume.pages:
            yield {"kind": "page"}
            yield {"kind": "heading", "level": 1, "text": self.text("report.parts.images")}
        for place, content in zip(volume.pages, self.spool.items(self.spool.pages, volume.pages), strict=True):
            if place > volume.pages.start:
                yield {"kind": "page"}
            record = ImageRecord.model_validate(content)
            pictured = self._printed(record, folder, place)
            place_of = place + 1, self.contents.selected
            copies = self._copies(self.spool.paged[place])
            yield from image_page(record, self.run, pictured, self._noted(record), copies, place_of, self.text)
            self.reporter.advance()
        lists: list[Iterator[Block]] = []
        if volume.images or (volume.last and not self.contents.images):
            rows = [self._listed(number) for number in volume.images]
            lists.append(image_list(rows, volume.images.start + 1, self.contents.images, self.text))
        if volume.failures or (volume.last and not self.contents.failures):
            rows = list(self.spool.items(self.spool.failures, volume.failures))
            lists.append(failure_list(rows, self.contents.failures, self.text))
        if volume.last:
            lists.append(settings(self.run, self.text))
        yield {"kind": "page"}
        yield from chain.from_iterable(lists)

    def _listed(self, index: int) -> list[Any]:
        """The line of an image in the full list, with the group of copies that it is in."""
        (row,) = self.spool.items(self.spool.images, range(index, index + 1))
        if (group := self.spool.groups.of(index)) is not None:
            row[1] = self.text("report.appendix.group", name=row[1], group=self.text.number(group))
        return list(row)

    def _copies(self, index: int) -> list[str]:
        """What an image is to its copies, in words; nothing if it has none."""
        copy = self.spool.groups.copy(index)
        if copy is None:
            return []
        group, number = self.spool.groups.group(copy.group), self.text.number(copy.group)
        if copy.representative == index:
            said = [self.text.counted("report.image.copies_of_it", group.size - 1, group=number)]
        else:
            key = "copies_exact" if copy.kind is Kind.EXACT else "copies_near"
            (first,) = self.spool.items(self.spool.images, range(copy.representative, copy.representative + 1))
            said = [self.text(f"report.image.{key}", group=number, name=first[1], distance=str(copy.distance))]
        return [*said, self.text("report.image.copies_differ")] if group.verdicts_differ else said

    def _noted(self, record: ImageRecord) -> list[str]:
        """What people noted about an image, the latest of each person; what they took back is left out."""
        notes = [] if self.notes is None else self.notes.of(record)
        return [
            self.text(
                "report.image.note_is",
                who=note.who,
                when=moment(note.when, self.text),
                said=" ".join(filter(None, [note.mark and self.text(f"report.image.marks.{note.mark}"), note.note])),
            )
            for note in notes
            if note.mark is not None or note.note
        ]

    def _printed(self, record: ImageRecord, folder: Path, place: int) -> Pictured:
        pictures = RecordPictures(ResultsFolder(self.reader.path), record)

        def kept(printed: Printed, name: str) -> tuple[Printed, str | None]:
            if not printed.content:
                return printed, None
            file = f"{place}-{name}{printed.suffix}"
            (folder / file).write_bytes(printed.content)
            return Printed(suffix=printed.suffix), file

        main, outlined = pictures.outlined()
        others = {
            output: kept(pictures.other(output), output)
            for output in OTHERS
            if getattr(record.outputs, output) is not None
        }
        return Pictured(
            main=kept(main, "main"),
            mask=kept(pictures.mask(), "mask"),
            heat=kept(pictures.heat(), "heat"),
            others=others,
            outlined=outlined,
        )


def _manifest(results: Path) -> tuple[str, ...]:
    """SHA-256 of `manifest.sha256`, and its lines; empty if there is none."""
    path = results / MANIFEST
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise OutputError(f"{path} is no file.", "Check the results folder.")
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_MANIFEST + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}.", "Check the results folder.") from error
    lines = content[:_LARGEST_MANIFEST].decode("utf-8", "replace").splitlines()
    return hashlib.sha256(content).hexdigest(), *lines[:20]
