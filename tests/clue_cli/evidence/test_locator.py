"""Locators: printable, reversible, and never shared by two files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clue_cli.evidence.locator import UniqueNames, escape_name, member_path, unescape_name

NAMES = {
    "plain.jpg": "plain.jpg",
    "Übergröße 写真.jpg": "Übergröße 写真.jpg",
    "line\nbreak": r"line\u000abreak",
    "esc\x1b[2J": r"esc\u001b[2J",
    "\u202egpj.exe": r"\u202egpj.exe",
    "back\\slash": r"back\\slash",
    os.fsdecode(b"caf\xe9.jpg"): r"caf\xe9.jpg",
    "archive.zip!": r"archive.zip\u0021",
    "copy~2": r"copy\u007e2",
    "IMG~1.JPG": "IMG~1.JPG",
    "..": r"\u002e\u002e",
    "\U000e0001tag": r"\U000e0001tag",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items())
def test_a_name_is_shown_escaped_and_taken_back(name: str, shown: str) -> None:
    assert escape_name(name) == shown
    assert unescape_name(shown) == name


_names = st.binary(min_size=1, max_size=12).map(os.fsdecode) | st.text(min_size=1, max_size=8)
_one = _names.filter(lambda name: "/" not in name and "\0" not in name)


@given(_one)
def test_any_name_is_printable_json_safe_and_reversible(name: str) -> None:
    shown = escape_name(name)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert unescape_name(shown) == name
    assert "!/" not in shown + "/"


@pytest.mark.parametrize(
    ("name", "path", "word"),
    [
        ("a/b.jpg", "a/b.jpg", None),
        ("./a//b.jpg", "a/b.jpg", None),
        ("../../etc/passwd", r"\u002e\u002e/\u002e\u002e/etc/passwd", "'..'"),
        ("..\\evil.jpg", r"..\\evil.jpg", "'..'"),
        ("/etc/passwd", "etc/passwd", "absolute"),
        ("C:\\Users\\a.jpg", r"C:\\Users\\a.jpg", "absolute"),
        ("dcim\\1.jpg", r"dcim\\1.jpg", "backslashes"),
        ("", "(no name)", None),
    ],
)
def test_a_member_path_is_made_safe_and_its_oddity_told(name: str, path: str, word: str | None) -> None:
    shown, findings = member_path(name)
    assert shown == path
    assert ".." not in shown.split("/")
    assert (word in " ".join(finding.statement for finding in findings)) if word else findings == ()


def test_equal_names_are_told_apart_also_from_names_that_look_like_it() -> None:
    names = UniqueNames()
    taken = [names.take(escape_name(name)) for name in ("a", "a~2", "a", "a", "a~2")]
    assert taken[:4] == ["a", r"a\u007e2", "a~2", "a~3"]
    assert len(set(taken)) == 5
