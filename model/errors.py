"""The base of every error that a user sees; `clue_cli.errors` lists the exit codes and the errors of the commands."""

from __future__ import annotations


class ClueError(Exception):
    """An error described in one sentence, with advice on what to do next.

    Attributes:
        exit_code: of `clue`, as in `clue_cli.errors.ExitCode`; the class sets it.
        advice: a sentence, None if there is none; the class may set a default.
    """

    exit_code = 70
    advice: str | None = None

    def __init__(self, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice
