"""A list of images in a CSV or JSONL file: one of the user's own, or the `forgeries.jsonl` of `clue forge`.

A row names the image (`image` or `file`), its mask if it has one, and the photos it was made from: `photo` is their
name, `photos` are their files, of which the stem is the name, as in a folder of photos. What is on the rows beside that
is not looked at, unless it is one of these by another name: without its mask, a forgery would count as authentic.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model.data.entries import Entries, Entry
from model.data.mix import ListFile
from model.data.photo_names import photo_names
from model.data.yaml_reader import MixError
from model.images.pixels import SUFFIXES

IMAGE, MASK, PHOTO, PHOTOS = ("image", "file"), "mask", "photo", "photos"
"""The columns; the first of IMAGE that has a value is taken."""
MASK_SUFFIXES = SUFFIXES | {".npz"}
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
"""What `clue forge` writes in the name of a photo for what cannot be printed, or is no UTF-8."""


class _Row(NamedTuple):
    """One image: its mask (None: authentic), the names of its photos, and the stems of their files."""

    image: Path
    mask: Path | None
    names: tuple[str, ...]
    stems: tuple[str, ...]


def listed(data: ListFile) -> Entries:
    """The images of a list, sorted by path; rows whose files are not there are told.

    Raises:
        MixError: the list cannot be read, or a row names no image or is made of something else than text.
        SlowPatternError: the pattern of `photo` does not get through the names.
    """
    found = Entries()
    rows: list[_Row] = []
    taken: set[Path] = set()
    for line, fields in _rows(data.file):
        where = f"{data.file}, line {line}"
        row = _row(data.file.parent, fields, where)
        missing = [path for path in (row.image, row.mask) if path is not None and not _is_file(path)]
        if missing:
            found.problems.append(f"{where}: there is no file {missing[0]}")
        elif row.image in taken:
            found.problems.append(f"{where}: {row.image.name} is in the list already")
        else:
            taken.add(row.image)
            rows.append(row)
    stems = [row.stems if row.names or row.stems else (row.image.stem,) for row in rows]
    photos = iter(photo_names([stem for some in stems for stem in some], data.photo))
    for row, some in zip(rows, stems, strict=True):
        names = dict.fromkeys([*row.names, *(next(photos) for _ in some)])
        found.entries.append(Entry(row.image, row.mask, tuple(names)))
    found.entries.sort(key=lambda entry: entry.image)
    return found


def _row(folder: Path, fields: dict[str, object], where: str) -> _Row:
    image = next((text for name in IMAGE if (text := _text(fields, name, where))), "")
    _check_names(fields, where)
    if not image:
        raise MixError(where, "`image` is missing", "the path of an image")
    mask = _text(fields, MASK, where)
    stems = tuple(stem for file in _texts(fields, PHOTOS, where) if (stem := _unescaped(Path(file).stem)))
    return _Row(folder / image, folder / mask if mask else None, _texts(fields, PHOTO, where), stems)


def _check_names(fields: dict[str, object], where: str) -> None:
    """Refuse a column that is meant to be one of ours and is called otherwise, as ` mask` or `mask_path`."""
    for name, value in fields.items():
        plain = name.strip().lower()
        file = isinstance(value, str) and Path(value.strip()).suffix.lower() in MASK_SUFFIXES
        meant = plain if plain in (MASK, PHOTO, PHOTOS) and value else MASK if MASK in plain and file else name
        if meant not in fields:
            raise MixError(where, f"a column is called `{name}`", f"`{meant}`")


def _unescaped(name: str) -> str:
    """The name of a file, of which `clue forge` wrote a form that can be printed."""

    def restore(match: re.Match[str]) -> str:
        code = match[1]
        return "\\" if code == "\\" else chr(min(int(code[1:], 16), 0x10FFFF) + (0xDC00 if code[0] == "x" else 0))

    return _ESCAPE.sub(restore, name)


def _text(fields: dict[str, object], name: str, where: str) -> str:
    """The text of a column; empty without one."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    raise MixError(where, "found a value that is no text", f"a text in `{name}`")


def _texts(fields: dict[str, object], name: str, where: str) -> tuple[str, ...]:
    """The text of a column, or the texts of a list in it, without empty ones."""
    value = fields.get(name)
    values = value if isinstance(value, list) else [value]
    if not all(text is None or isinstance(text, str) for text in values):
        raise MixError(where, "found a value that is no text", f"a text in `{name}`, or a list of texts")
    return tuple(str(text) for text in values if text)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and fields of each row of a CSV or JSONL file."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                line = 1
                if not set(IMAGE) & set(reader.fieldnames or ()):
                    raise MixError(f"{path}, line 1", "no column `image`", "a header such as image,mask,photo")
                for fields in reader:
                    line = reader.line_num
                    if None in fields:
                        raise MixError(f"{path}, line {line}", "more values than columns", "a value for each column")
                    yield line, dict(fields)
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise MixError(f"{path}, line {line}", "not an object", '{"image": …, "mask": …}')
                    yield line, row
    except (OSError, UnicodeError, csv.Error, RecursionError) as error:
        raise MixError(f"{path}, after line {line}", str(error), "UTF-8 text, CSV or JSONL") from error
    except json.JSONDecodeError as error:
        raise MixError(f"{path}, line {line}", f"not JSON ({error.msg})", '{"image": …, "mask": …}') from error
    except MixError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise MixError(f"{path}, line {line}", f"not JSON ({error})", '{"image": …, "mask": …}') from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False
