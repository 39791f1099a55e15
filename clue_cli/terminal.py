"""stdout is data, stderr is talk, and nothing hostile reaches a terminal.

Light on purpose: `clue --help` and a failing import come through here.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, TextIO

from clue_cli.errors import OutputError

_PLAIN_WORDS = frozenset({"no", "the", "there"})
"""First words that are not names: `sentence` capitalises only these."""
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with control, format and other invisible characters escaped, as one line."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNPRINTABLE else character
        for character in text
    )


def counted(n: int, noun: str) -> str:
    """`1 file`, `2 files`, `1,000 files`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean coverage?`, or nothing if no known word is like it."""
    found = difflib.get_close_matches(word.casefold(), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def sentence(error: Exception) -> str:
    """What an exception says as a sentence. A name or a path at its beginning stays as it is."""
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text.split(" ", 1)[0] in _PLAIN_WORDS else f"{text}."


def steady_streams() -> None:
    """Make stdin, stdout and stderr fit to be used, whatever the program was started with.

    One that is closed becomes the null device: else the next file that is opened would take its number, and what a
    library says on "stderr" would end up in the middle of the results. What they cannot encode, as on a console of
    code page 1252, is escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_stdout(text: str) -> bool:
    """Write text to stdout at once, as UTF-8 whatever the locale; as `to_stdout`."""
    return to_stdout(lambda stream: stream.write(text.encode()))


def to_stdout(write: Callable[[BinaryIO], object]) -> bool:
    """Call `write` with stdout.

    Returns:
        False if nobody reads it any more (`clue … | head`); that is no error.

    Raises:
        OutputError: it cannot be written, e.g. because it is a file on a full disk.
    """
    try:
        sys.stdout.flush()
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return False
    except OSError as error:
        _discard(sys.stdout)
        raise OutputError(
            f"Cannot write to stdout: {error.strerror}.", "Send it elsewhere; without --json-lines a scan needs none."
        ) from error
    return True


def complain(message: str, advice: str | None = None) -> None:
    """Show an error on stderr, with what to do next."""
    say(f"clue: {printable(message)}", *([f"      {printable(advice)}"] if advice else []))


def say(*lines: str) -> None:
    """Show printable lines on stderr; if it cannot be written, they are dropped."""
    try:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


class PatientStderr:
    """stderr that falls silent where it cannot be written, such as a log on a full disk, for libraries that would fail.

    It is what stderr was when this was made: a live display puts something of its own in the place of `sys.stderr`.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        return self._attempt(lambda: self._stream.write(text))

    def flush(self) -> None:
        """Flush, or drop."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], int | None]) -> int:
        try:
            return action() or 0
        except OSError:
            _discard(self._stream)
            return 0


def _discard(stream: TextIO) -> None:
    """Send what is written from now on nowhere: Python flushes once more when it exits, and that must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
