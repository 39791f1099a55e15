"""Which exit code wins."""

from __future__ import annotations

import pytest

from clue_cli.errors import ExitCode
from clue_cli.records import Counts
from clue_cli.scan.options import FailOn
from clue_cli.scan.run_log import exit_code


@pytest.mark.parametrize(
    ("counts", "interrupted", "fail_on", "expected"),
    [
        (Counts(images=3), False, (), ExitCode.OK),
        (Counts(images=3, forged=1), False, (), ExitCode.OK),
        (Counts(images=3, failures=1), False, (), ExitCode.SOME_FAILED),
        (Counts(failures=1), False, (), ExitCode.SOME_FAILED),
        (Counts(), False, (), ExitCode.NOTHING_TO_SCAN),
        (Counts(files=9, not_pictures=9), False, (FailOn.FORGED,), ExitCode.NOTHING_TO_SCAN),
        (Counts(images=3, forged=1), False, (FailOn.FORGED,), ExitCode.FORGED_FOUND),
        (Counts(images=3, forged=1, failures=1), False, (FailOn.FORGED,), ExitCode.FORGED_FOUND),
        (Counts(images=3, failures=1), False, (FailOn.FORGED,), ExitCode.SOME_FAILED),
        (Counts(images=3), False, (FailOn.FORGED,), ExitCode.OK),
        (Counts(images=3, forged=1, failures=1), True, (FailOn.FORGED,), ExitCode.INTERRUPTED),
        (Counts(), True, (), ExitCode.INTERRUPTED),
    ],
)
def test_precedence(counts: Counts, interrupted: bool, fail_on: tuple[FailOn, ...], expected: ExitCode) -> None:
    assert exit_code(counts, interrupted=interrupted, fail_on=fail_on) is expected
