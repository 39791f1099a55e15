"""What comes from the evidence, made harmless for a page: names that show every character, URLs, JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any
from urllib.parse import quote

_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with every invisible character spelled out, e.g. `⟨U+202E⟩`.

    A right-to-left override in a name would otherwise show `gpj.exe` as `exe.jpg`, and two names that differ in a
    zero-width space would look the same. Lone surrogates (bytes of a name that are not UTF-8) are among them, so
    that the result can always be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) in _SPELLED_OUT else character
        for character in text
    )


_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.\-~/!,()]+")
"""What `quote` leaves as it is."""


def local_url(path: str | None) -> str | None:
    """A path below the results folder as a relative URL, every segment percent-encoded; None for None.

    Raises:
        ValueError: the path is absolute or leads out of the folder.
    """
    if path is None:
        return None
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a path inside the results folder: {path!r}")
    if _PLAIN_PATH.fullmatch(path):
        return path
    return quote(path, safe="/!~,()", encoding="utf-8", errors="surrogateescape")


_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def embed(value: Any) -> str:
    """JSON in pure ASCII that cannot end, comment out or nest the script element it stands in.

    Raises:
        ValueError: NaN or infinity, which JSON does not know.
    """
    text = _JSON.encode(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
