"""`clue merge --apart`: results of different settings side by side, each group in a folder named after its settings.

    DIR/mini-0f3a5c9e1b7d/   one merge: the name of the model, and the first digits of the digest of the settings
    DIR/index.html           names the folders, what differs between their settings, and what was found

The name follows from the settings alone: a repeated merge, or one of further folders, finds its folders again.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from clue_cli.errors import ExitCode, OutputError
from clue_cli.merge import merge
from clue_cli.merge_sources import Source, check, distinct, judged_by
from clue_cli.records import RunRecord
from clue_cli.report import asset, content_policy, environment
from clue_cli.results.folder import ResultsFolder, output_errors
from clue_cli.results.reader import RUN, holds_results, read_run
from clue_cli.results.scan_store import LOCK, PAGE
from clue_cli.scan.look_first import LookFirst
from model.reporter import Reporter

_DIGITS = 12
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,40}}-[0-9a-f]{{{_DIGITS}}}")


def merge_apart(
    folders: Sequence[Path],
    out: Path,
    reporter: Reporter,
    command_line: Sequence[str] = (),
    stop: threading.Event | None = None,
    first: Callable[[str], LookFirst] | None = None,
) -> dict[str, RunRecord]:
    """Join results folders of equal settings, each group in a folder of its own; arguments as of `merge`.

    Args:
        first: gives, by the name of its folder, what collects the first records of a merge.

    Returns:
        The runs of the merges by the names of their folders; after `stop` only those that were begun.

    Raises:
        NothingToScanError, UsageError: as `merge`; nothing was written.
        OutputError: the results cannot be written, or `out` holds something else.
    """
    stop = stop or threading.Event()
    groups: dict[str, list[Source]] = {}
    for source in map(Source, distinct(folders, out)):
        groups.setdefault(source.latest.settings_digest, []).append(source)
    for sources in groups.values():
        check(sources)
    folder = ResultsFolder(out)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        _check_ours(folder)
    folder.lock(LOCK, f"Another merge is writing to {out}.")
    try:
        done: dict[str, RunRecord] = {}
        for digest, sources in groups.items():
            if stop.is_set():
                break
            name = _name(out, digest, sources[0].latest)
            look = None if first is None else first(name)
            done[name] = merge([source.folder for source in sources], out / name, reporter, command_line, stop, look)
        _write_index(folder)
    finally:
        folder.release()
    return done


def worst(runs: Sequence[RunRecord]) -> ExitCode:
    """The exit code of several merges, by the precedence of `clue_cli.errors`."""
    codes = {ExitCode(run.exit_code or 0) for run in runs}
    order = (ExitCode.INTERRUPTED, ExitCode.SOME_FAILED, ExitCode.NOTHING_TO_SCAN)
    return next((code for code in order if code in codes), ExitCode.OK)


def _name(out: Path, settings_digest: str, run: RunRecord) -> str:
    """That of the folder in `out` with these settings, or of a new one; one model can have several names."""
    if not re.fullmatch("[0-9a-f]{64}", settings_digest):
        settings_digest = hashlib.sha256(settings_digest.encode(errors="replace")).hexdigest()
    digits = settings_digest[:_DIGITS]
    if known := [name for name in _merges(out) if name.endswith(f"-{digits}")]:
        return known[0]
    model = re.sub(r"[^A-Za-z0-9._-]+", "_", str(run.model.get("name"))).strip(".-")[-40:].strip(".-") or "model"
    return f"{model}-{digits}"


def _check_ours(folder: ResultsFolder) -> None:
    """Refuse a folder that holds anything but merges side by side."""
    out = folder.root
    if holds_results(out):
        raise OutputError(f"{out} is a results folder itself.", "Choose a new or an empty folder with --out.")
    foreign = folder.foreign({LOCK, PAGE, *_merges(out)})
    if foreign is not None or ((out / PAGE).exists() and not _merges(out)):
        raise OutputError(
            f"{out} holds something else than merges of clue: {foreign or PAGE}.",
            "Nothing was changed there. Choose a new or an empty folder with --out.",
        )


def _merges(out: Path) -> list[str]:
    """The names of the folders of merges, begun ones too, in alphabetical order."""
    return sorted(
        path.name for path in out.iterdir() if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def _write_index(folder: ResultsFolder) -> None:
    runs = {name: run for name in _merges(folder.root) if (run := read_run(folder.root / name / RUN)) is not None}
    style, differing = asset("clue_cli.report", "page.css"), dict(_differing(runs))
    policy = content_policy(style=style, images="'none'")
    template = environment("clue_cli.report").get_template("apart.html.j2")
    html = template.render(csp=policy, style=Markup(style), runs=runs, differing=differing)
    folder.write(PAGE, html.encode(errors="backslashreplace"))


def _differing(runs: dict[str, RunRecord]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each setting that is not the same in all folders, with its value by folder."""
    said = {name: judged_by(run) for name, run in runs.items()}
    for setting in sorted({setting for facts in said.values() for setting in facts}):
        values = {name: facts.get(setting, "None") for name, facts in said.items()}
        if len(set(values.values())) > 1:
            yield setting, values
