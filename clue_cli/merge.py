"""`clue merge`: several results folders of the same settings as one, as one scan would have written them.

Before anything is written the runs of all folders are compared: they must have the settings on which results depend,
and shards of one scan must be shards of the same evidence. Records are then added folder by folder
(`results.merging`). Counts of records are taken from what was merged; counts of what has no record, such as files that
are no pictures, are sums over the runs, of which each shard, or each list of paths, counts once.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from clue_cli import __version__
from clue_cli.errors import ExitCode, NothingToScanError, UsageError
from clue_cli.evidence.shard import Shard
from clue_cli.records import Counts, RunRecord
from clue_cli.report import write_report
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import output_errors
from clue_cli.results.merging import MERGED, Found, MergedStore, Met, runs_in
from clue_cli.results.reader import LOG, RUN, ResultsReader, read_run
from clue_cli.results.record_log import Stamp
from clue_cli.results.scan_store import SUMMARY
from clue_cli.scan.run_log import counted_as, exit_code, now, skipped_in_words
from clue_cli.terminal import counted, printable
from model.reporter import Reporter

_INCOMPLETE = "Not everything was merged: "
"""How the warnings begin that a later merge may make untrue."""

_LISTED = 1000
"""Most entries of a list in `run.json`."""

_OF_RECORDS = ("images", "forged", "no_evidence", "inconclusive", "failures")
"""The fields of `Counts` that count records, and that every version of clue writes."""

_WALKING = (
    *("hidden", "follow_links", "include_results", "files_from_sha256", "include", "exclude", "since", "video"),
    *("known_sha256", "alert_sha256"),
)
"""Settings that say which files a scan examines; a result does not depend on them."""

Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Part:
    """One run of a scan whose results are merged.

    Attributes:
        folder: where they are.
        run: its `run.json`.
        shard: the part of the evidence; `1/1` for all of it.
    """

    folder: Path
    run: RunRecord
    shard: Shard

    @property
    def files(self) -> tuple[Hashable, ...]:
        """Equal for two runs of the same shard, or of the same paths."""
        evidence = tuple(self.run.evidence) if self.shard.count == 1 else ()
        return self.shard, evidence, *_walking(self.run)


def merge(
    folders: Sequence[Path],
    out: Path,
    reporter: Reporter,
    command_line: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> RunRecord:
    """Join results folders.

    Args:
        folders: of scans or of earlier merges; they are only read.
        out: a new or empty folder, or that of an earlier merge, to which the others are added.
        reporter: receives the events.
        command_line: the command as typed, printable.
        stop: set to end early: what was merged stays, and the same call goes on.

    Returns:
        The run as `run.json` says it; it is `interrupted` if a scan did not finish, or a shard is missing.

    Raises:
        NothingToScanError: a folder holds no results, or those of a merge that did not finish.
        UsageError: other settings; shards that do not belong together; folders inside of one another.
        OutputError: the results cannot be written, or `out` holds something else.
    """
    stop = stop or threading.Event()
    sources = [_Source(folder) for folder in _apart(folders, out)]
    _check(sources)
    with MergedStore(out) as store:
        if store.earlier is not None and store.earlier.settings.get(MERGED) != "":
            earlier = _Source(out, target=True)
            _check([earlier, *sources])
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
                if reader.damaged:
                    problems.append(f"{counted(reader.damaged, 'damaged line')} of {source.folder / LOG} left out.")
                held: Counter[str] = Counter()
                for records, met in store.add(reader, source.met()):
                    held.update(name for record in records if met for name in counted_as(record))
                    reporter.advance(len(records))
                    if stop.is_set():
                        reporter.finish()
                        return run.model_copy(update={"status": "interrupted", "exit_code": int(ExitCode.INTERRUPTED)})
            problems += source.not_as_counted(held)
            store.add_runs(source.folder)
        if _was_cut_short(store.earlier) and (left := store.not_met()):
            problems.append(
                f"An earlier merge into {out} did not finish: {counted(left, 'record')} there of folders that were not "
                "merged again, or of evidence that their scans did not meet, are kept and not counted."
            )
        run = _merged(run, merged, store, problems)
        run = store.finish(run)
        with output_errors(out):
            write_report(out, run, store.records())
    reporter.finish()
    return run


class _Source:
    """A results folder, and the runs whose results it holds.

    Args:
        folder: the folder.
        target: whether it is the one that others are added to, so that an earlier merge may go on.

    Attributes:
        folder: the folder.
        latest: its `run.json`.
        parts: its latest run, and those of other shards that wrote there before; of a merge the runs that it joined.
    """

    def __init__(self, folder: Path, *, target: bool = False) -> None:
        self.folder = folder
        _check_entries(folder)
        with output_errors(folder):
            runs = list(runs_in(folder))
            latest = read_run(folder / RUN)
        if latest is None:
            if (folder / LOG).is_file():
                message = f"{folder / RUN} is missing or damaged: the settings of these results are not known."
                raise NothingToScanError(message, "Repeat that scan, which reuses the results that are there.")
            message = f"There are no results of clue scan in {folder}."
            raise NothingToScanError(message, "Name folders that --out of a scan wrote.")
        if _was_cut_short(latest) and not target:
            raise NothingToScanError(f"The merge in {folder} did not finish.", "Repeat that merge, then this one.")
        self.latest = latest
        by_id = {run.run_id: run for run in runs}
        if MERGED in latest.settings:
            joined = str(latest.settings[MERGED]).split()
            if missing := [run_id for run_id in joined if run_id not in by_id]:
                message = f"{folder / 'runs'} lacks {counted(len(missing), 'run')} of a merge, such as {missing[0]}."
                raise NothingToScanError(message, "Merge the folders of its scans again.")
            chosen, continued = [by_id[run_id] for run_id in joined], set()
        else:
            others = [run for run in runs[1:] if _is_other_shard(run, latest)]
            former = {str(run.settings["shard"]): run for run in others}
            chosen = [latest, *former.values()]  # of each shard its latest run
            continued = {run.run_id for run in others}
        self.parts = [Part(folder, run, _shard(folder, run)) for run in chosen]
        self._run_ids = frozenset(continued | {run.run_id for run in chosen})

    def met(self) -> Met:
        """Whether these runs met the evidence of a record."""
        return Met(self.folder, self.latest, self._run_ids)

    def as_running(self) -> RunRecord:
        """The run while others are added to the folder."""
        settings = self.latest.settings | {MERGED: " ".join(part.run.run_id for part in self.parts)}
        return self.latest.model_copy(update={"status": "running", "settings": settings})

    def not_as_counted(self, held: Counter[str]) -> list[str]:
        """In words, whether the log holds other records than `run.json` counts: lines were lost, or added.

        Args:
            held: how many records were met, by the fields of `Counts`.
        """
        runs = [self.latest] if MERGED in self.latest.settings else [part.run for part in self.parts]
        if any(run.status not in ("finished", "interrupted") for run in runs):
            return []
        # A file that changed during the scan can have failed twice, and has one record.
        names = [name for name in _OF_RECORDS if name != "failures" or all(run.evidence_unchanged for run in runs)]
        said = {name: sum(getattr(run.counts, name) for run in runs) for name in names}
        differ = [f"{name} {held[name]:,} of {said[name]:,}" for name in names if held[name] != said[name]]
        where = f"{self.folder / LOG} does not hold the records that {RUN} counts"
        return [f"{where}: {', '.join(differ)}. Lines were lost, or written by something else."] if differ else []


def _was_cut_short(run: RunRecord | None) -> bool:
    return run is not None and MERGED in run.settings and run.status == "running"


def _check_entries(folder: Path) -> None:
    """Raise NothingToScanError if what is read lies elsewhere: whoever made the folder could have it read anything."""
    for name in (RUN, LOG, EXPLANATIONS, SUMMARY, "runs"):
        if (folder / name).is_symlink():
            raise NothingToScanError(
                f"{folder / name} is a symbolic link; clue writes none into a results folder.",
                "Copy what it points to in its place, if you know where it comes from.",
            )


def _is_other_shard(run: RunRecord, latest: RunRecord) -> bool:
    shard, own = run.settings.get("shard"), latest.settings.get("shard")
    return None not in (shard, own) and shard != own and run.settings_digest == latest.settings_digest


def _shard(folder: Path, run: RunRecord) -> Shard:
    try:
        return Shard.parse(str(run.settings.get("shard", "1/1")))
    except ValueError as error:
        raise NothingToScanError(f"A run in {folder} names no shard: {error}.") from error


def _check(sources: Sequence[_Source]) -> None:
    parts = [part for source in sources for part in source.parts]
    _check_settings(parts)
    _check_shards([part for part in parts if part.shard.count > 1])


def _apart(folders: Sequence[Path], out: Path) -> list[Path]:
    """The folders, each once, without `out`."""
    found: dict[str, Path] = {os.path.realpath(folder): folder for folder in folders}
    target = Path(os.path.realpath(out))
    found.pop(str(target), None)
    for real, folder in found.items():
        if target.is_relative_to(real) or Path(real).is_relative_to(target):
            raise UsageError(f"Of {out} and {folder}, one lies in the other.", "Choose another folder with --out.")
    if not found:
        raise UsageError(f"There is nothing to merge into {out}.", "Name at least one other results folder.")
    return list(found.values())


def _check_settings(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.run.settings_digest != first.run.settings_digest:
            differ = "; ".join(_differences(first.run, part.run)) or "a setting that run.json does not show"
            raise UsageError(
                f"{first.folder} and {part.folder} were scanned with different settings: {differ}.",
                "Results of different settings cannot be compared. Scan one of them again with the settings of the "
                "other, or merge them into folders of their own.",
            )


def _differences(one: RunRecord, other: RunRecord) -> Iterator[str]:
    def said(run: RunRecord) -> dict[str, object]:
        facts: dict[str, object] = {"version": run.version, **run.settings}
        facts |= {name: run.model.get(name) for name in ("digest", "dtype", "device", "calibration_sha256")}
        return facts | {"synthetic": None if run.synthetic is None else run.synthetic.digest}

    left, right = said(one), said(other)
    # Where results do not depend on the words, but on the files behind them, their digests differ.
    passing = {*_WALKING, "shard", MERGED, "model", "calibration", "known", "alert", "batch", "files_from"}
    for name in dict.fromkeys([*left, *right]):
        if name not in passing and left.get(name) != right.get(name):
            yield f"{printable(name)} {printable(str(left.get(name)))} and {printable(str(right.get(name)))}"


def _check_shards(shards: Sequence[Part]) -> None:
    """Raise UsageError if shards are not of one and the same division of the evidence."""
    advice = "Merge the shards of each scan into a folder of their own first."
    for part in shards[1:]:
        first, both = shards[0], f"{shards[0].folder} and {part.folder}"
        if part.shard.count != first.shard.count:
            raise UsageError(f"{both} are of {first.shard.count} and of {part.shard.count} shards.", advice)
        ours, theirs = _walking(first.run), _walking(part.run)
        if differ := [name for name, one, other in zip(_WALKING, ours, theirs, strict=True) if one != other]:
            raise UsageError(f"{both} are shards of scans with different options: {', '.join(differ)}.", advice)
        # The name of a single path does not matter; see `evidence.shard`.
        if len(first.run.evidence) != len(part.run.evidence) or (
            len(first.run.evidence) > 1 and _names(first.run) != _names(part.run)
        ):
            raise UsageError(f"{both} are shards of scans of different paths.", advice)


def _walking(run: RunRecord) -> list[Setting]:
    return [run.settings.get(name) for name in _WALKING]


def _names(run: RunRecord) -> list[str]:
    return [PurePath(path.replace("\\", "/")).name for path in run.evidence]


def _without_overlaps(parts: Iterable[Part]) -> list[Part]:
    """The runs whose sums count: each once, of each shard the finished and latest one.

    Two runs of everything may have met other files under the same paths: only an unfinished one gives way to another.
    """
    once = {part.run.run_id: part for part in parts}.values()
    finished = {part.files for part in once if part.run.status == "finished"}
    taken: dict[tuple[Hashable, ...], Part] = {}
    for part in sorted(once, key=_order):
        if part.shard.count > 1 or part.run.status != "finished":
            if part.shard.count > 1 or part.files not in finished:
                taken[part.files] = part
        else:
            taken[part.run.run_id,] = part
    return list(taken.values())


def _order(part: Part) -> tuple[bool, str]:
    return part.run.status == "finished", part.run.run_id


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
        settings={**first.settings, MERGED: ""},
        settings_digest=first.settings_digest,
        machine={},
    )


def _merged(run: RunRecord, sources: Sequence[_Source], store: MergedStore, problems: list[str]) -> RunRecord:
    """`run.json` of the merge, as one scan would have written it."""
    parts = [part for source in sources for part in source.parts]
    taken = _without_overlaps(parts)
    runs = [part.run for part in taken]
    counts = _counts(store, runs)
    skipped = _sums(one.skipped for one in runs)
    settings: dict[str, Setting] = _joined([one.settings for one in runs])
    settings.pop("shard", None)
    settings[MERGED] = " ".join(one.run_id for one in runs)
    unfinished = [f"the scan in {part.folder} did not finish." for part in taken if part.run.status != "finished"]
    if absent := _absent(taken):
        settings["shard"] = f"all of {max(part.shard.count for part in taken)} but {absent}"
        unfinished.append(f"there are no results of {absent}.")
    problems = [*problems, *_in_words(store.found), *_archives_that_differ(parts)]
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
            "evidence_unchanged": _all([one.evidence_unchanged for one in runs]),
            "warnings": list(dict.fromkeys(warnings)),
        }
    )


def _counts(store: MergedStore, runs: Sequence[RunRecord]) -> Counts:
    counts: Counter[str] = Counter()
    for record in store.met_records():
        counts.update(counted_as(record))
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
            "Pictures left out because they are damaged, or have not the size of their image: {}. A scan into the merged "
            "folder makes them again.",
            found.broken,
        ),
        ("Pictures left out because the record names those of another image: {}.", found.foreign),
        ("Verdict files that said something else than the record, written again from the record: {}.", found.altered),
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
