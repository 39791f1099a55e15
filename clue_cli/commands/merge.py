"""`clue merge`: the options, one call, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clue_cli.commands.options import Quiet, command_line, graceful_stop, path
from clue_cli.errors import ExitCode
from clue_cli.terminal import complain


def merge(
    results: Annotated[
        list[Path], typer.Argument(parser=path, metavar="RESULTS...", help="Results folders of scans, or of merges.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=path,
            metavar="DIR",
            help="Results folder: a new or empty one, or that of an earlier merge, to which RESULTS are added.",
        ),
    ],
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Keep results of different settings apart: a folder in DIR for each, named after the model and a "
            "digest of the settings, and an index.html that says what differs.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Join results folders of the same settings, such as those of shards, as one scan would have written them.

    RESULTS are only read; pictures are linked where the file system can.
    The exit code is 1 if a scan did not finish, a shard is missing, or
    anything else needs a look; what it is stands in run.json and on the page.
    """
    from collections import defaultdict

    from clue_cli.merge import merge as run
    from clue_cli.merge_apart import merge_apart, worst
    from clue_cli.progress import ShownReporter
    from clue_cli.scan.look_first import LookFirst
    from clue_cli.scan.run_log import note_limits, verdict_rows

    looks: dict[str, LookFirst] = defaultdict(LookFirst)
    with graceful_stop() as stop, ShownReporter(quiet=quiet) as reporter:
        if apart:
            runs = merge_apart(results, out, reporter, command_line(), stop, looks.__getitem__)
            done = {out / name: one for name, one in runs.items()}
        else:
            done = {out: run(results, out, reporter, command_line(), stop, looks[out.name])}
        code = worst(list(done.values()))
        if code is ExitCode.INTERRUPTED or not done:
            complain("Interrupted.", "What was merged is recorded; repeat the command to go on.")
            raise typer.Exit(ExitCode.INTERRUPTED)
        for folder, one in done.items():
            for warning in one.warnings:
                reporter.note(f"warning: {warning}", "warning")
            page = str(folder / "index.html")
            reporter.summary(f"Merge {one.status}", [*verdict_rows(one), ("page", page, "")])
            looks[folder.name].report(one, page, reporter)
            note_limits(one, reporter)
    raise typer.Exit(code)
