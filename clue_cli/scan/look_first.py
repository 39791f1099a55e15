"""What to look at first: the few records of a run that a person should open before all others, in five lines."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clue_cli.plain_words import region_words
from clue_cli.records import FailureCode, FailureRecord, ImageRecord, RunRecord, Verdict, Weight
from clue_cli.terminal import counted, printable
from clue_cli.texts import texts
from model.reporter import Reporter

MOST = 5
"""Lines."""
_LOCATOR, _MESSAGE = 60, 90
"""Characters that are shown of a locator, its beginning and its end, and of why something failed."""

ORDER = ("forged", "alert", "generated", "inconclusive", "failed")
"""What comes first. Within a group it is the higher score, of inconclusive ones the one nearest to its threshold or
above it; of failures, those that can hide many pictures."""

_TITLE = "Look first at (forged, on the alert list, generated, inconclusive, failed; of each the strongest):"

_MANY = frozenset(
    {
        FailureCode.ARCHIVE_ENCRYPTED,
        FailureCode.ARCHIVE_CORRUPT,
        FailureCode.ARCHIVE_TOO_DEEP,
        FailureCode.ARCHIVE_LIMIT,
        FailureCode.TOO_MANY_PAGES,
    }
)
"""Failures that can hide many pictures."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record as it is shown; the least `key` comes first."""

    key: tuple[float, str, int]
    content: tuple[str, int]
    record: ImageRecord | FailureRecord
    copies: int = 0


class LookFirst:
    """Keeps the first records of each group while all pass; memory does not grow with their number."""

    def __init__(self) -> None:
        self._groups: dict[str, list[_Entry]] = {name: [] for name in ORDER}

    def add(self, record: ImageRecord | FailureRecord) -> None:
        """Take a record into account. Pictures of the same content in the same group take one line."""
        name = _group(record)
        if name is None:
            return
        entries, page = self._groups[name], record.page or 0
        key = (_rank(name, record), record.locator, page)
        content = (record.file.sha256 if record.file and isinstance(record, ImageRecord) else record.locator, page)
        same = next((number for number, entry in enumerate(entries) if entry.content == content), None)
        if same is not None:
            known = entries[same]
            first = known if known.key <= key else _Entry(key, content, record)
            entries[same] = replace(first, copies=known.copies + 1)
        else:
            entries.append(_Entry(key, content, record))
        entries.sort(key=lambda entry: entry.key)
        del entries[MOST:]

    def lines(self) -> list[str]:
        """At most five lines in the order of `ORDER`, at least one of each group that has any."""
        places = {name: min(1, len(entries)) for name, entries in self._groups.items()}
        for name, entries in self._groups.items():
            places[name] += min(len(entries) - places[name], MOST - sum(places.values()))
        return [_line(name, entry) for name, entries in self._groups.items() for entry in entries[: places[name]]]

    def report(self, run: RunRecord, page: str, reporter: Reporter) -> None:
        """Say it, and where the page is; of a run without a flagged picture, what that means.

        Args:
            run: with its counts.
            page: path or URL.
        """
        counts = run.counts
        if not (counts.forged or counts.inconclusive or counts.generated or counts.synthetic_inconclusive):
            reporter.note(_nothing(run))
        if lines := self.lines():
            reporter.note(_TITLE)
            for line in lines:
                reporter.note(f"  {line}")
            reporter.note(f"All results: {page}")


def _group(record: ImageRecord | FailureRecord) -> str | None:
    if isinstance(record, FailureRecord):
        return None if record.code is FailureCode.EMPTY_FILE else "failed"
    verdicts = {answer.verdict for answer in record.verdicts.values()}
    if Verdict.FORGED in verdicts:
        return "forged"
    if any(finding.kind == "on_alert_list" for finding in record.findings):
        return "alert"
    if Verdict.GENERATED in verdicts:
        return "generated"
    return "inconclusive" if Verdict.INCONCLUSIVE in verdicts else None


def _rank(group: str, record: ImageRecord | FailureRecord) -> float:
    if isinstance(record, FailureRecord):
        return 0.0 if record.code in _MANY else 1.0
    if record.synthetic is not None and (group == "generated" or record.verdict is Verdict.NO_EVIDENCE):
        return -(record.synthetic.score or 0.0)
    if record.verdict is Verdict.INCONCLUSIVE:  # thresholds differ: of screens, of small photographs
        return record.localization.score_threshold - record.score
    return -record.score


def _line(group: str, entry: _Entry) -> str:
    record = entry.record
    where = _shortened(printable(record.locator), _LOCATOR)
    if record.page or (isinstance(record, ImageRecord) and record.page_count > 1):
        where += f", page {(record.page or 0) + 1}"
    if entry.copies:
        where += f" ({counted(entry.copies, 'more time')})"
    if isinstance(record, FailureRecord):
        return f"{where}: failed, {_shortened(printable(record.message), _MESSAGE)}"
    return f"{where}: {', '.join(_why(group, record))}"


def _why(group: str, record: ImageRecord) -> list[str]:
    words = [f"{record.verdict.value.replace('_', ' ')} ({record.score:.2f})"]
    if record.verdict is not Verdict.NO_EVIDENCE:
        words += filter(None, [region_words(record, texts("en"))])
    if record.synthetic is not None and record.synthetic.verdict is not Verdict.NO_EVIDENCE:
        second = record.synthetic
        of = "" if second.score is None else f" ({second.score:.2f})"
        words.append(f"{'generated' if second.verdict is Verdict.GENERATED else 'inconclusive whether generated'}{of}")
    if any(finding.kind == "on_alert_list" for finding in record.findings):
        words.append("on the alert list")
    others = sum(
        finding.weight is Weight.SUPPORTS_EDIT and finding.kind != "marked_regions" for finding in record.findings
    )
    if others and group != "generated":
        words.append(f"{counted(others, 'further finding')} for an edit")
    return words


def _nothing(run: RunRecord) -> str:
    counts = run.counts
    if not counts.images:
        said = "No picture was examined."
    else:
        said = (
            f"No picture of {counts.images:,} was flagged, which is no proof that none was edited: many edited "
            "pictures get “no evidence”, too."
        )
    left = []
    if counts.failures:
        left.append(counted(counts.failures, "failure"))
    if number := sum(run.not_opened.values()):
        left.append(f"{counted(number, 'file')} that can hold pictures")
    if number := sum(run.skipped.values()):
        left.append(f"{number:,} left out by the options")
    return said + (f" Not examined: {', '.join(left)}." if left else "")


def _shortened(text: str, most: int) -> str:
    """The text, or its beginning and its longer end."""
    if len(text) <= most:
        return text
    head = most // 3
    return f"{text[:head]}…{text[-(most - head - 1) :]}"
