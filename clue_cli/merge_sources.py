"""The results folders that `clue merge` is given: what their runs were, and which of them fit together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.evidence.shard import LISTING, Shard
from clue_cli.records import RunRecord
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import output_errors
from clue_cli.results.merging import MERGED, Met, runs_in
from clue_cli.results.notes import NOTES
from clue_cli.results.reader import LOG, RUN, read_run
from clue_cli.results.scan_store import SUMMARY
from clue_cli.terminal import counted, printable

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


class Source:
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
        if was_cut_short(latest) and not target:
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


def was_cut_short(run: RunRecord | None) -> bool:
    """Whether it is that of a merge that did not come to its end."""
    return run is not None and MERGED in run.settings and run.status == "running"


def _check_entries(folder: Path) -> None:
    """Raise NothingToScanError if what is read lies elsewhere: whoever made the folder could have it read anything."""
    for name in (RUN, LOG, EXPLANATIONS, NOTES, SUMMARY, "runs"):
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


def check(sources: Sequence[Source]) -> None:
    """Raise UsageError if their runs have other settings, or are shards that do not belong together."""
    parts = [part for source in sources for part in source.parts]
    _check_settings(parts)
    _check_shards([part for part in parts if part.shard.count > 1])


def distinct(folders: Sequence[Path], out: Path) -> list[Path]:
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
                "other, or have --apart make a folder for each.",
            )


def _differences(one: RunRecord, other: RunRecord) -> Iterator[str]:
    left, right = judged_by(one), judged_by(other)
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            yield f"{name} {left.get(name)} and {right.get(name)}"


def judged_by(run: RunRecord) -> dict[str, str]:
    """What its results depend on, by name, printable."""
    facts: dict[str, object] = {"version": run.version, **run.settings}
    facts |= {name: run.model.get(name) for name in ("digest", "dtype", "device", "calibration_sha256")}
    facts["synthetic"] = None if run.synthetic is None else run.synthetic.digest
    # Where results do not depend on the words, but on the files behind them, their digests differ.
    passing = {*_WALKING, "shard", *LISTING, MERGED, "model", "calibration", "known", "alert", "batch", "files_from"}
    return {printable(name): printable(str(value)) for name, value in facts.items() if name not in passing}


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
        if len(first.run.evidence) != len(part.run.evidence) or (
            _names(first.run) != _names(part.run) and not _may_be_mounted_elsewhere(first.run, part.run)
        ):
            raise UsageError(f"{both} are shards of scans of different paths.", advice)


def _walking(run: RunRecord) -> list[Setting]:
    return [run.settings.get(name) for name in _WALKING]


def _may_be_mounted_elsewhere(one: RunRecord, other: RunRecord) -> bool:
    """Whether two shards of a single path can be of the same files although it has two names; see `evidence.shard`."""
    listings = [run.settings.get(LISTING[1]) for run in (one, other)]
    return len(one.evidence) == 1 and (None in listings or listings[0] == listings[1])


def _names(run: RunRecord) -> list[str]:
    return [PurePath(path.replace("\\", "/")).name for path in run.evidence]


def without_overlaps(parts: Iterable[Part]) -> list[Part]:
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
