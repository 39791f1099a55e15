"""Names that can be printed, and that tell any two files apart; and texts of files, fit to be shown.

A locator is `root/folder/file`, with `!/` between an archive and its member. Names come from an attacker: a newline
could forge a log line, ESC could repaint a terminal, a bidi override could turn `gpj.exe` around, and bytes that are
not UTF-8 cannot be written to JSON. All of those are escaped, and so is everything that the locator itself gives a
meaning (a backslash, a final `!`, a final `~2`, the component `..`), so that two files never share one.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter

from clue_cli.records import Finding, Origin

MEMBER = "!/"
"""What stands between an archive and its member."""

_TEXT_LIMIT = 200  # characters, as ExifBrief promises
_PLAIN = re.compile(r"[ -\[\]-}]*", re.ASCII)  # printable ASCII but backslash and tilde
_NUMBERED = re.compile(r"~(?=\d+\Z)")
_DRIVE = re.compile(r"[A-Za-z]:")


def escape_name(name: str) -> str:
    """One component of a path (it holds no `/`), printable and reversible; `unescape_name` takes it back.

    `\\` stands for a backslash, `\\xNN` for a byte that is not UTF-8 (as `os.fsdecode` marks it), `\\uNNNN` and
    `\\UNNNNNNNN` for a character that must not be printed or that would be read as part of a locator.
    """
    if name == "..":
        return r"\u002e\u002e"
    if not _PLAIN.fullmatch(name):
        name = _NUMBERED.sub(r"\\u007e", "".join(map(_escape_character, name)))
    return name[:-1] + r"\u0021" if name.endswith("!") else name


def _escape_character(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return r"\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    if not character.isprintable():  # control, bidi and other format characters, separators but the space, unassigned
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return character


_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def unescape_name(escaped: str) -> str:
    """The name that `escape_name` was given (bytes that are not UTF-8 as `os.fsdecode` marks them)."""

    def restore(match: re.Match[str]) -> str:
        code = match[1]
        if code == "\\":
            return "\\"
        number = int(code[1:], 16) + (0xDC00 if code[0] == "x" else 0)
        return chr(number) if number <= sys.maxunicode else match[0]

    return _ESCAPE.sub(restore, escaped)


def clean_text(value: object, limit: int = _TEXT_LIMIT) -> str | None:
    """A string of the file, fit to be shown: at most `limit` characters, control and bidi characters as U+FFFD.

    None if nothing is left of it.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = str(value)[: 4 * limit].strip(" \0\t\r\n")[:limit]
    shown = "".join(character if _is_shown(character) else "\ufffd" for character in text)
    return shown or None


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # a space other than U+0020


def member_path(name: str) -> tuple[str, tuple[Finding, ...]]:
    """The printable path of an archive member, and what is odd about the path it was given.

    Nothing is ever written under a member's path, so a hostile one does no harm: the member is scanned, its path
    shown without a way out of the archive, and the oddity becomes a finding.
    """
    odd = []
    if "\\" in name:
        odd.append(
            "The path inside the archive contains backslashes, as some programs for Windows write between folders."
        )
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        odd.append("The path inside the archive is absolute: an unpacker could write outside its folder.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in re.split(r"[/\\]", name):
        odd.append("The path inside the archive contains '..': an unpacker could write outside its folder.")
    return "/".join(map(escape_name, parts)) or "(no name)", tuple(map(_odd_path, odd))


def _odd_path(statement: str) -> Finding:
    return Finding(kind="odd_member_path", source=Origin.CONTAINER, statement=statement)


class UniqueNames:
    """Tells equal names apart: the second `a` becomes `a~2`. A name that ends like that itself was escaped before."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def take(self, name: str) -> str:
        """The name, or the name with the first free number."""
        self._seen[name] += 1
        count = self._seen[name]
        return name if count == 1 else f"{name}~{count}"
