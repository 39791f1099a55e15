"""The records of a page in a temporary file, so that memory stays flat, and what ranks and counts them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from markupsafe import Markup

from clue_cli.records import FailureRecord, ImageRecord, ModelInfo, RunRecord, Verdict
from clue_cli.report.details import explanations, image_detail, model_facts
from clue_cli.report.inert import embed, printable
from clue_cli.report.rows import SECOND_ORDER, VERDICT_ORDER, failure_row, image_row, second_word
from clue_cli.results.explanations import ExplanationLog
from clue_cli.results.groups import Groups
from clue_cli.results.notes import MergedNote, NoteLog

_PIECE = 1 << 16
"""Bytes of JSON that go to the page at once."""


MOST_PHRASES = 500


@dataclass
class Lines:
    """Where JSON texts are in the spool: 12 bytes of memory for each."""

    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class Phrases:
    """Texts that come again and again in the details, told once: at most `MOST_PHRASES`, found among recent ones."""

    known: dict[str, int] = field(default_factory=dict)
    recent: dict[int, None] = field(default_factory=dict)

    def short(self, text: str) -> str | int:
        """The number of a text that came before, or the text."""
        if (number := self.known.get(text)) is not None:
            return number
        if (key := hash(text)) not in self.recent:
            if len(self.recent) == MOST_PHRASES:
                del self.recent[next(iter(self.recent))]
            self.recent[key] = None
            return text
        if len(self.known) == MOST_PHRASES:
            return text
        del self.recent[key]
        return self.known.setdefault(text, len(self.known))


@dataclass
class Spool:
    """The records as JSON texts in a temporary file, and what is needed to rank, count and group them."""

    stream: BinaryIO
    explained: ExplanationLog | None = None
    noted: NoteLog | None = None
    run: RunRecord | None = None
    images: Lines = field(default_factory=Lines)
    details: Lines = field(default_factory=Lines)
    failures: Lines = field(default_factory=Lines)
    verdicts: array[int] = field(default_factory=lambda: array("b"))
    seconds: array[int] = field(default_factory=lambda: array("b"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    models: dict[str, int] = field(default_factory=dict)
    known_models: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    phrases: Phrases = field(default_factory=Phrases)
    groups: Groups = field(default_factory=Groups)
    notes: Lines = field(default_factory=Lines)
    notes_of: array[int] = field(default_factory=lambda: array("q"))
    """Numbers of the images whose notes the lines of `notes` are, ascending."""

    def add(self, record: ImageRecord | FailureRecord) -> None:
        """Add a record.

        Raises:
            OSError: the disk is full or gone, or what was written about the records cannot be read.
            ValueError: the record names a file outside of the results folder, or a number that is not finite.
        """
        if isinstance(record, FailureRecord):
            self._put(self.failures, failure_row(record))
            return
        model = self._model(record.model)
        self._put(self.images, [*image_row(record), *self._filed(record)])
        detail = image_detail(record, model, self.run) | explanations(record, self.explained)
        if words := detail.get("words"):
            detail["words"] = list(map(self.phrases.short, words))
        self._put(self.details, detail)
        if notes := self._notes(record):
            self.notes_of.append(len(self.verdicts))
            self._put(self.notes, [[one.mark, one.note, one.who, one.when] for one in notes])
        self.groups.add(record)
        self.verdicts.append(VERDICT_ORDER.index(record.verdict))
        self.seconds.append(SECOND_ORDER.index(second_word(record)))
        self.scores.append(record.score)

    def _filed(self, record: ImageRecord) -> list[Any]:
        """What else is in a row, for the filters: see `values.js`."""
        kinds = sorted({self.kinds.setdefault(found.kind, len(self.kinds)) for found in record.findings})
        kind_of_file = self.types.setdefault(printable(record.file.sniffed_type), len(self.types))
        name = printable(record.locator)
        return [kinds or 0, kind_of_file, *([record.locator] if name != record.locator else [])]

    def _notes(self, record: ImageRecord) -> list[MergedNote]:
        if self.noted is None:
            return []
        try:
            return self.noted.of(record)
        except UnicodeEncodeError:  # half of a surrogate pair in a name: a note, which is UTF-8, cannot be about it
            return []

    def _model(self, model: ModelInfo) -> int:
        key = repr([value for name, value in vars(model).items() if name != "seed"])
        if key not in self.known_models:
            self.known_models[key] = self.models.setdefault(embed(model_facts(model)), len(self.models))
        return self.known_models[key]

    def _put(self, lines: Lines, value: Any) -> None:
        text = embed(value).encode("ascii")
        lines.start.append(self.stream.tell())
        lines.length.append(len(text))
        self.stream.write(text)

    def strongest_first(self) -> Sequence[int]:
        """Numbers of the images: forged, generated, inconclusive, no evidence of an edit; then by falling score."""
        verdicts, generated = np.asarray(self.verdicts), np.asarray(self.seconds) == 0
        rank = np.where(generated & (verdicts > 0), 0.5, verdicts)
        order = np.lexsort((-np.asarray(self.scores), rank))
        return array("q", order.tobytes())

    def split(self, numbers: Sequence[int], lines: list[Lines], most: int, most_bytes: int) -> list[Sequence[int]]:
        """The numbers cut into parts of at most `most`, and of about `most_bytes`; at least one part."""
        starts, size = [0], 0
        for place, number in enumerate(numbers):
            own = sum(line.length[number] for line in lines)
            if place > starts[-1] and (place - starts[-1] == most or size + own > most_bytes):
                starts.append(place)
                size = 0
            size += own
        return [numbers[start:end] for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True)]

    def count(self, verdict: Verdict) -> int:
        """How many images have this answer to the first question."""
        return self.verdicts.count(VERDICT_ORDER.index(verdict))

    def count_second(self, word: str) -> int:
        """How many images have this answer to the second question, one of `SECOND_ORDER`."""
        return self.seconds.count(SECOND_ORDER.index(word))

    def groups_json(self, numbers: Sequence[int]) -> str:
        """The groups of copies with a member among these images, in the form that `groups.js` reads.

        Of each group its number, size, whether verdicts differ, the place of its representative among `numbers` or -1,
        and its members here: place, bits by which they differ from the representative, and a number that is the same
        for the same bytes.
        """
        found: dict[int, list[Any]] = {}
        for place, index in enumerate(numbers):
            if (copy := self.groups.copy(index)) is None:
                continue
            if copy.group not in found:
                group = self.groups.group(copy.group)
                found[copy.group] = [group.number, group.size, group.verdicts_differ, -1, []]
            if copy.representative == index:
                found[copy.group][3] = place
            found[copy.group][4].append([place, copy.distance, copy.same_file])
        return embed(list(found.values()))

    def notes_json(self, numbers: Sequence[int]) -> Iterator[Markup]:
        """The notes in the results folder about these images, by their places: see `notes.js`."""
        line_of = {number: line for line, number in enumerate(self.notes_of)}
        separator = "{"
        for place, number in enumerate(numbers if line_of else ()):
            if (line := line_of.get(number)) is not None:
                yield Markup(f'{separator}"{place}":{self._text(self.notes, line).decode("ascii")}')
                separator = ","
        yield Markup("}" if separator == "," else "{}")

    def _text(self, lines: Lines, number: int) -> bytes:
        self.stream.seek(lines.start[number])
        return self.stream.read(lines.length[number])

    def json_list(self, lines: Lines, numbers: Sequence[int]) -> Iterator[Markup]:
        """The texts of these numbers as one JSON list, piece by piece."""
        separator, texts, size = "[", list[bytes](), 0
        for number in numbers:
            texts.append(self._text(lines, number))
            size += lines.length[number]
            if size >= _PIECE:
                yield Markup(separator + b",".join(texts).decode("ascii"))
                separator, texts, size = ",", [], 0
        if texts:
            yield Markup(separator + b",".join(texts).decode("ascii"))
        yield Markup("]" if len(numbers) else "[]")
