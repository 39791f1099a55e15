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
        (Counts(images=3), False, (FailOn.UNREAD,), ExitCode.OK),
    ],
)
def test_precedence(counts: Counts, interrupted: bool, fail_on: tuple[FailOn, ...], expected: ExitCode) -> None:
    assert exit_code(counts, interrupted=interrupted, fail_on=fail_on) is expected


@pytest.mark.parametrize(
    ("counts", "fail_on", "expected"),
    [
        (Counts(images=3), (), ExitCode.OK),
        (Counts(images=3), (FailOn.UNREAD,), ExitCode.SOME_FAILED),
        (Counts(not_pictures=3), (FailOn.UNREAD,), ExitCode.SOME_FAILED),
        (Counts(not_pictures=3), (), ExitCode.NOTHING_TO_SCAN),
        (Counts(images=3, forged=1), (FailOn.UNREAD, FailOn.FORGED), ExitCode.FORGED_FOUND),
    ],
)
def test_what_was_not_opened_counts_if_asked(counts: Counts, fail_on: tuple[FailOn, ...], expected: ExitCode) -> None:
    assert exit_code(counts, interrupted=False, fail_on=fail_on, not_opened=2) is expected
