"""stdout is data, stderr is talk, and nothing hostile reaches a terminal.

Light on purpose: `clue --help` and a failing import come through here.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with control, format and other invisible characters escaped, as one line."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNPRINTABLE else character
        for character in text
    )


def write_stdout(text: str) -> bool:
    """Write data to stdout at once. False if nobody reads it any more (`clue … | head`); that is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return False
    return True


def complain(message: str, advice: str | None = None) -> None:
    """Show an error on stderr, with what to do next."""
    lines = [f"clue: {printable(message)}"] + ([f"      {printable(advice)}"] if advice else [])
    try:
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send what is written from now on nowhere: Python flushes once more when it exits, and that must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
