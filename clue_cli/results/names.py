"""The names of output files: the tree of the evidence, mirrored, and safe on every file system.

A locator is an attacker's string. Its output name keeps folders, archive and extension where it can; a component
that some file system would refuse, change or read as something else is made harmless, and then the name ends in a
hash of the whole locator, so that two locators never share one:

    evidence/case.zip!/a/b.jpg     masks/evidence/case.zip!/a/b.jpg.png
    scan.tif, third page of five   masks/scan.tif.p0002.png
    a:b/../c.jpg                   masks/a_b/_/c.jpg~4428ec7c29a6.png
    s3://bucket/a.jpg              masks/s3/bucket/a.jpg.png

Names that differ only in case or in Unicode normalization are one file on FAT, exFAT, NTFS and macOS; `caseless`
is the form in which the store compares them.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from functools import lru_cache
from pathlib import PurePosixPath

MAX_COMPONENT = 110 if os.name == "nt" else 143
"""Bytes in one component, suffix included. eCryptfs has the lowest limit of the usual file systems (others: 255)."""

MAX_PATH = 170 if os.name == "nt" else 700
"""Bytes in a whole name; leaves room for the results folder below macOS' limit of 1024 for a path, and of 260 of
Windows."""

SUFFIXES = (
    ".png",
    ".json",
    ".preview.jpg",
    ".heat.png",
    ".outline.png",
    ".thumb.jpg",
    ".inside.png",
    ".ela.png",
    ".ghosts.png",
    ".noise.png",
    ".second.png",
)
"""Suffixes of output files. No folder ends in one, so a file `b` and a folder `b.png` cannot want the same name."""

HASH_LENGTHS = (12, 32, 64)
"""Hexadecimal digits of the hash; the longer ones for the case that somebody made two short ones equal on purpose."""

_URL = re.compile(r"\A([A-Za-z][A-Za-z0-9+._-]*)://")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_FORBIDDEN = frozenset('<>:"|?*\\/')
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
# An unchanged name must not look like one that was given a hash or a page number.
_LOOKS_DERIVED = re.compile(r"(~[0-9a-f]{12,}|\.p\d{4,})$", re.IGNORECASE)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_UNSAFE_ASCII = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')
"""`_unsafe` of the ASCII characters."""


def stem(locator: str, page: int = 0, page_count: int = 1, hash_length: int = 0) -> PurePosixPath:
    """The output name of a page without its suffix.

    Args:
        locator: of the file or archive member, `/` as separator.
        page, page_count: which page, of how many; the number is in the name if there are several.
        hash_length: digits of the hash; 0 for none unless a component had to be changed.
    """
    return PurePosixPath(stem_text(locator, page, page_count, hash_length))


def stem_text(locator: str, page: int = 0, page_count: int = 1, hash_length: int = 0) -> str:
    """`stem` as text, for those who need a million of them."""
    *folders, name = _URL.sub(r"\1/", locator, count=1).split("/")  # no folder of a URL has an empty name
    number = f".p{page:04d}" if page_count > 1 else ""
    room = MAX_COMPONENT - len(number) - max(map(len, SUFFIXES))
    safe_folders = [(_known_folder if len(folder) <= _SHORT else _safe_folder)(folder) for folder in folders]
    safe_name = _cut(_safe(name), room)
    if safe_folders != folders or safe_name != name or _LOOKS_DERIVED.search(name):
        hash_length = hash_length or HASH_LENGTHS[0]
    room_for_folders = MAX_PATH - MAX_COMPONENT
    if safe_folders and len("/".join([*safe_folders, safe_name]).encode()) > room_for_folders:
        safe_folders = [_cut(safe_folders[0], room_for_folders - 3).rstrip(". "), "~"]
        hash_length = hash_length or HASH_LENGTHS[0]
    if hash_length:
        mark = "~" + hashlib.sha256(locator.encode("utf-8", "surrogatepass")).hexdigest()[:hash_length]
        safe_name = _cut(safe_name, room - len(mark)) + mark
    return "/".join([*safe_folders, safe_name + number])


def mirrored(
    locator: str, page: int = 0, page_count: int = 1, suffix: str = ".png", hash_length: int = 0
) -> PurePosixPath:
    """The output name of a page: relative, without `..`, legal on every usual file system.

    Raises:
        ValueError: a suffix that is not one of `SUFFIXES`.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"not a suffix of output files: {suffix!r}")
    return PurePosixPath(stem_text(locator, page, page_count, hash_length) + suffix)


def caseless(path: PurePosixPath | str) -> str:
    """The form in which two names are equal if some file system could take them for the same."""
    text = str(path)
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _safe_folder(component: str) -> str:
    name = _cut(_safe(component), MAX_COMPONENT - 1)
    return name + "_" if caseless(name).endswith((".png", ".json", ".jpg")) else name


_known_folder = lru_cache(4096)(_safe_folder)
_SHORT = 255
"""Characters of a folder's name that may be kept: names in archives and logs can be of any length."""


def _safe(component: str) -> str:
    if component.isascii():
        name = _UNSAFE_ASCII.sub("_", component)
    else:
        name = "".join("_" if _unsafe(character) else character for character in component)
    stripped = name.rstrip(". ")
    if stripped != name:
        name = stripped + "_"
    # Windows takes the part before the first dot for the device, whatever follows.
    if caseless(name.split(".", 1)[0].rstrip(" ")) in _RESERVED:
        name = "_" + name
    return name or "_"


def _unsafe(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character) in _UNSAFE_CATEGORIES


def _cut(name: str, limit: int) -> str:
    """Cut to a number of bytes, between characters, keeping the extension."""
    if len(name.encode()) <= limit:
        return name
    end = match[0] if (match := _EXTENSION.search(name)) else "_"
    kept = name.removesuffix(end).encode()[: limit - len(end)].decode("utf-8", "ignore")
    return kept.rstrip(". ") + end
