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
    quiet: Quiet = False,
) -> None:
    """Join results folders of the same settings, such as those of shards, as one scan would have written them.

    RESULTS are only read; pictures are linked where the file system can.
    The exit code is 1 if a scan did not finish, a shard is missing, or
    anything else needs a look; what it is stands in run.json and on the page.
    """
    from clue_cli.merge import merge as run
    from clue_cli.progress import ShownReporter
    from clue_cli.scan.run_log import note_limits, verdict_rows

    with graceful_stop() as stop, ShownReporter(quiet=quiet) as reporter:
        done = run(results, out, reporter, command_line(), stop)
        code = ExitCode(done.exit_code or ExitCode.OK)
        if code is ExitCode.INTERRUPTED:
            complain("Interrupted.", "What was merged is recorded; repeat the command to go on.")
            raise typer.Exit(code)
        for warning in done.warnings:
            reporter.note(f"warning: {warning}", "warning")
        page = ("page", str(out / "index.html"), "")
        reporter.summary(f"Merge {done.status}", [*verdict_rows(done), page])
        note_limits(done, reporter)
    raise typer.Exit(code)
