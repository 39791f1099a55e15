"""From what a run counted to its exit code."""

from __future__ import annotations

from collections.abc import Collection

from clue_cli.errors import ExitCode
from clue_cli.records import Counts
from clue_cli.scan.options import FailOn


def exit_code(counts: Counts, *, interrupted: bool, fail_on: Collection[FailOn] = ()) -> ExitCode:
    """The exit code of a run that came to its end or was stopped; precedence as in `clue_cli.errors`.

    Args:
        counts: of this run, the resumed records included.
        interrupted: whether it was stopped before the end.
        fail_on: what was asked for with `--fail-on`.
    """
    if interrupted:
        return ExitCode.INTERRUPTED
    if FailOn.FORGED in fail_on and counts.forged:
        return ExitCode.FORGED_FOUND
    if counts.failures:
        return ExitCode.SOME_FAILED
    return ExitCode.OK if counts.images else ExitCode.NOTHING_TO_SCAN
