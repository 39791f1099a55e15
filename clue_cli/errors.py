"""Exit codes, and the exceptions that users see.

    model.errors.ClueError        an error described in one sentence
     ├── UserError                2   `model.errors` lists those of `model`
     │    └── UsageError          2   a wrong option or value
     ├── WeightsError             4   weights missing, damaged or of another model
     ├── NothingToScanError       3   a missing path, or no picture in the evidence
     ├── RemoteError              3   (remote) a store cannot be reached or read any more
     ├── OutputError              5   the results folder cannot be written
     ├── ForgedFound              6   `--fail-on forged` and an image was forged, or `generated` and one was generated
     ├── CopyFound                6   `clue compare --fail-on` and a picture is in another folder
     └── DataProblemError         1   `--strict` and a data set or a prediction has a problem

If several apply to a scan, the first of these wins: INTERRUPTED, FORGED_FOUND, SOME_FAILED, NOTHING_TO_SCAN, OK.
An exception ends the run, so its code stands alone.

Each exception carries its exit code and the advice that goes with it; `clue_cli.app.run` is the one place that
turns an exception into a message on stderr and an exit code.
"""

from __future__ import annotations

from enum import IntEnum

from model.errors import ClueError, UserError, WeightsError

__all__ = [
    "Aborted",
    "ClueError",
    "CopyFound",
    "DataProblemError",
    "ExitCode",
    "ForgedFound",
    "NothingToScanError",
    "OutputError",
    "UsageError",
    "WeightsError",
]


class ExitCode(IntEnum):
    """What the exit code of `clue` means."""

    OK = 0
    """Everything was read and judged."""
    SOME_FAILED = 1
    """The run is complete, but some files could not be read or judged; they are listed with reasons. With `--fail-on
    unread`: or some that can hold pictures were not opened."""
    BAD_USAGE = 2
    """A wrong command line; nothing was done."""
    NOTHING_TO_SCAN = 3
    """A path does not exist, the evidence holds no picture, or a store cannot be reached."""
    WEIGHTS_MISSING = 4
    """The model's weights are missing, damaged, or of another model."""
    OUTPUT_NOT_WRITABLE = 5
    """The results folder could not be written (permissions, a full disk)."""
    FORGED_FOUND = 6
    """With `--fail-on forged` or `generated`: at least one image has that verdict. With `clue compare --fail-on`: at
    least one picture is in another folder, or has another verdict there."""
    TRAINING_FAILED = 7
    """Training failed (NaN loss, out of memory, a dead worker); its last checkpoint is intact."""
    NOT_ATTESTED = 8
    """`clue verify`: the signature or the time stamp of the results does not hold, or is missing although asked for."""
    INTERNAL_ERROR = 70
    """A defect in clue itself; the message says where the details are."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM. What was finished is recorded; the same command resumes."""


class Aborted(Exception):
    """Another thread failed or the run was cut short: whoever waits stops waiting."""


class UsageError(UserError):
    """A wrong option or value."""


class NothingToScanError(ClueError):
    """A path does not exist, or there is no picture in the evidence."""

    exit_code = ExitCode.NOTHING_TO_SCAN


class OutputError(ClueError):
    """The results folder cannot be written."""

    exit_code = ExitCode.OUTPUT_NOT_WRITABLE


class ForgedFound(ClueError):
    """`--fail-on forged` or `generated` was given and an image has that verdict."""

    exit_code = ExitCode.FORGED_FOUND


class CopyFound(ClueError):
    """`clue compare --fail-on found` or `differ` was given and there is such a picture."""

    exit_code = ExitCode.FORGED_FOUND


class DataProblemError(ClueError):
    """`--strict` was given and a data set or a prediction has a problem."""

    exit_code = ExitCode.SOME_FAILED
