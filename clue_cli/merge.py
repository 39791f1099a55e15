"""`clue merge`: several results folders of the same settings as one, as one scan would have written them.

Before anything is written the runs of all folders are compared: they must have the settings on which results depend,
and shards of one scan must be shards of the same evidence. Records are then added folder by folder
(`results.merging`). Counts of records are taken from what was merged; counts of what has no record, such as files that
are no pictures, are sums over the runs, of which each shard, or each list of paths, counts once.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from clue_cli import __version__
from clue_cli.custody.manifest import write_manifest
from clue_cli.custody.observed import Observed
from clue_cli.errors import ExitCode
from clue_cli.evidence.shard import LISTING
from clue_cli.explaining.check import refusals
from clue_cli.explaining.given import given
from clue_cli.merge_sources import Part, Setting, Source, check, distinct, was_cut_short, without_overlaps
from clue_cli.records import Counts, ImageRecord, RunRecord
from clue_cli.report import write_report
from clue_cli.results.folder import output_errors
from clue_cli.results.merging import MERGED, Found, MergedStore
from clue_cli.results.reader import LOG, ResultsReader
from clue_cli.results.record_log import Stamp
from clue_cli.scan.look_first import LookFirst
from clue_cli.scan.run_log import counted_as, exit_code, now, skipped_in_words
from clue_cli.terminal import counted
from model.reporter import Reporter

_INCOMPLETE = "Not everything was merged: "
"""How the warnings begin that a later merge may make untrue."""

_LISTED = 1000
"""Most entries of a list in `run.json`."""


def merge(
    folders: Sequence[Path],
    out: Path,
    reporter: Reporter,
    command_line: Sequence[str] = (),
    stop: threading.Event | None = None,
    first: LookFirst | None = None,
) -> RunRecord:
    """Join results folders.

    Args:
        folders: of scans or of earlier merges; they are only read.
        out: a new or empty folder, or that of an earlier merge, to which the others are added.
        reporter: receives the events.
        command_line: the command as typed, printable.
        stop: set to end early: what was merged stays, and the same call goes on.
        first: takes the records in, to say afterwards what to look at first.

    Returns:
        The run as `run.json` says it; it is `interrupted` if a scan did not finish, or a shard is missing.

    Raises:
        NothingToScanError: a folder holds no results, or those of a merge that did not finish.
        UsageError: other settings; shards that do not belong together; folders inside of one another.
        OutputError: the results cannot be written, or `out` holds something else.
    """
    stop = stop or threading.Event()
    sources = [Source(folder) for folder in distinct(folders, out)]
    check(sources)
    with Observed() as observed, MergedStore(out) as store:
        if store.earlier is not None and store.earlier.settings.get(MERGED) != "":
            earlier = Source(out, target=True)
            check([earlier, *sources])
        else:
            earlier = None
        merged = [*([earlier] if earlier else []), *sources]
        run = _begun(merged[0].latest, command_line)
        problems = store.open(run if earlier is None else earlier.as_running(), _stamp(run))
        if earlier is not None:
            store.keep_earlier(earlier.met())
        reporter.stage("Merging", "records")
        for source in sources:
            with ResultsReader(source.folder) as reader:
                problems += reader.problems(str(source.folder / LOG))
                held: Counter[str] = Counter()
                for records, met in store.add(reader, source.met(), partial(_refusals, source.latest)):
                    held.update(name for record in records if met for name in counted_as(record))
                    reporter.advance(len(records))
                    if stop.is_set():
                        reporter.finish()
                        return run.model_copy(update={"status": "interrupted", "exit_code": int(ExitCode.INTERRUPTED)})
            problems += source.not_as_counted(held)
            store.add_runs(source.folder)
        if was_cut_short(store.earlier) and (left := store.not_met()):
            problems.append(
                f"An earlier merge into {out} did not finish: {counted(left, 'record')} there of folders that were not "
                "merged again, or of evidence that their scans did not meet, are kept and not counted."
            )
        run = _merged(run, merged, store, problems, first)
        run = store.finish(run)
        with output_errors(out):
            write_report(out, run, store.records())
            write_manifest(store, observed, run, [source.folder for source in sources])
    reporter.finish()
    return run


def _stamp(run: RunRecord) -> Stamp:
    run_id = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}-{secrets.token_hex(3)}"
    return Stamp(run_id, str(run.model.get("digest")), "", "", "", run.settings_digest)


def _begun(first: RunRecord, command_line: Sequence[str]) -> RunRecord:
    """The run while nothing is merged yet."""
    return RunRecord(
        version=__version__,
        command_line=list(command_line),
        status="running",
        started=now(),
        evidence=[],
        model=first.model,
        synthetic=first.synthetic,
        error_rates=first.error_rates,
        settings={**first.settings, MERGED: ""},
        settings_digest=first.settings_digest,
        machine={},
    )


def _merged(
    run: RunRecord, sources: Sequence[Source], store: MergedStore, problems: list[str], first: LookFirst | None
) -> RunRecord:
    """`run.json` of the merge, as one scan would have written it."""
    parts = [part for source in sources for part in source.parts]
    taken = without_overlaps(parts)
    runs = [part.run for part in taken]
    counts = _counts(store, runs, first)
    skipped = _sums(one.skipped for one in runs)
    settings: dict[str, Setting] = _joined([one.settings for one in runs])
    for name in ("shard", *LISTING):
        settings.pop(name, None)
    settings[MERGED] = " ".join(one.run_id for one in runs)
    unfinished = [f"the scan in {part.folder} did not finish." for part in taken if part.run.status != "finished"]
    if absent := _absent(taken):
        settings["shard"] = f"all of {max(part.shard.count for part in taken)} but {absent}"
        unfinished.append(f"there are no results of {absent}.")
    problems = [*problems, *_in_words(store.found), *_archives_that_differ(parts), *_listings_that_differ(taken)]
    if store.found.repeated.count and len(taken) == len({part.run.run_id for part in parts}):
        problems.append(
            f"{counted(store.found.repeated.count, 'file')} had records in several folders. Each was merged once, but "
            "the numbers of files, archives and files that are no pictures are sums over the folders and may count "
            "them twice."
        )
    earlier = [source.latest for source in sources if MERGED in source.latest.settings]
    sentences = {words for one in [*runs, *earlier] for words in skipped_in_words(one.skipped)}
    warnings = [
        words
        for one in [*runs, *earlier]
        for words in one.warnings
        if words not in sentences and not words.startswith(_INCOMPLETE)
    ]
    warnings += [*skipped_in_words(skipped), *problems, *(_INCOMPLETE + words for words in unfinished)]
    code = exit_code(counts, interrupted=False)
    return run.model_copy(
        update={
            "status": "interrupted" if unfinished else "finished",
            "started": min(one.started for one in runs),
            "finished": now(),
            "seconds": sum(one.seconds or 0 for one in runs),
            "exit_code": int(ExitCode.SOME_FAILED if problems or unfinished else code),
            "evidence": list(dict.fromkeys(path for one in runs for path in one.evidence)),
            "model": _joined([one.model for one in runs]),
            "settings": settings,
            "machine": _joined([one.machine for one in runs]),
            "counts": counts,
            "not_pictures_by_type": dict(_sums(one.not_pictures_by_type for one in runs).most_common(100)),
            "not_opened": dict(_sums(one.not_opened for one in runs).most_common()),
            "skipped": dict(skipped),
            "earlier_results": list(dict.fromkeys(path for one in runs for path in one.earlier_results))[:_LISTED],
            "alerts": list(dict.fromkeys(path for one in runs for path in one.alerts))[:_LISTED],
            "archives": {locator: sha256 for one in runs for locator, sha256 in one.archives.items()},
            "evidence_compared": sum(one.evidence_compared for one in runs),
            "evidence_unchanged": _all([one.evidence_unchanged for one in runs]),
            "warnings": list(dict.fromkeys(warnings)),
        }
    )


def _refusals(run: RunRecord, record: ImageRecord, text: str) -> list[str]:
    return refusals(text, given(record, run))


def _counts(store: MergedStore, runs: Sequence[RunRecord], first: LookFirst | None) -> Counts:
    counts: Counter[str] = Counter()
    for record in store.met_records():
        counts.update(counted_as(record))
        if first is not None:
            first.add(record)
    for name in ("files", "archives", "not_pictures", "resumed"):
        counts[name] = sum(getattr(run.counts, name) for run in runs)
    return Counts(**counts)


def _absent(taken: Sequence[Part]) -> str:
    """The shards that are missing, in words; empty: none."""
    shards = [part.shard for part in taken if part.shard.count > 1]
    if not shards:
        return ""
    numbers = sorted(set(range(1, shards[0].count + 1)) - {shard.number for shard in shards})
    shown = ", ".join(f"{number}/{shards[0].count}" for number in numbers[:20]) + (", …" if len(numbers) > 20 else "")
    return f"shard {shown}" if len(numbers) == 1 else f"shards {shown}" if numbers else ""


def _in_words(found: Found) -> list[str]:
    words = (
        ("Different content under the same locator in two folders; both are kept: {}.", found.conflicts),
        (
            "Different answers about the same content in two folders, as different libraries or devices can give; "
            "the latest run was kept: {}.",
            found.differing,
        ),
        (
            "Pictures missing in the results folder that names them: {}. A scan into the merged folder makes them "
            "again.",
            found.missing,
        ),
        (
            "Pictures left out because they are damaged, or have not the size of their image: {}. A scan into the "
            "merged folder makes them again.",
            found.broken,
        ),
        ("Pictures left out because the record names those of another image: {}.", found.foreign),
        ("Verdict files that said something else than the record, written again from the record: {}.", found.altered),
        ("Explanations that do not pass the check, and are not shown: {}.", found.lies),
        ("Records of another model than their run names, kept and not counted: {}.", found.other_models),
    )
    return [text.format(f"{noted.count:,}, such as {noted}") for text, noted in words if noted.count]


def _archives_that_differ(parts: Sequence[Part]) -> Iterator[str]:
    seen: dict[str, tuple[str, Path]] = {}
    for part in parts:
        for locator, sha256 in part.run.archives.items():
            known, folder = seen.setdefault(locator, (sha256, part.folder))
            if known != sha256:
                yield f"The archive {locator} had other content in {part.folder} than in {folder}."


def _listings_that_differ(parts: Sequence[Part]) -> Iterator[str]:
    """What the shards of one scan say of the files that they listed, if it is not the same."""
    by_listing: dict[object, Part] = {}
    for part in parts:
        if part.shard.count > 1 and (listing := part.run.settings.get(LISTING[1])) is not None:
            by_listing.setdefault(listing, part)
    if len(by_listing) > 1:
        one, other, *_ = by_listing.values()
        lists = " and ".join(
            f"shard {part.shard} in {part.folder} listed {part.run.settings.get(LISTING[0])} files"
            for part in (one, other)
        )
        yield (
            f"The evidence was not the same for all shards: {lists}, by names and sizes. Of files that came, went, or "
            "were renamed meanwhile some may be in no shard, and some in two. Scan such shards again."
        )


def _sums(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _joined(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say by each name; where they differ, all of it as a text."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in facts for name in one):
        values = [one.get(name) for one in facts]
        differ = dict.fromkeys(map(str, values))
        joined[name] = values[0] if len(differ) == 1 else "; ".join(differ)
    return joined


def _all(values: Sequence[bool | None]) -> bool | None:
    """False if one is; None if it is not known of one."""
    return False if False in values else None if None in values else True
