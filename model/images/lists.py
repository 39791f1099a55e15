"""Lists of images: CSV, TSV, text, JSON and JSONL files of image, mask, label and source photos.

    .csv .tsv   columns as a heading names them; without one: image, mask, label
    .txt        the same, between commas, tabs or blanks (MVSS-Net's lists)
    .json       a list of [image, mask, label] (IMDL-BenCo's) or of objects
    .jsonl      an object a line, such as the `forgeries.jsonl` of `clue forge`

| column | names | what |
|---|---|---|
| image | image, img, path, image_path, img_path, file | the picture |
| mask | mask, mask_path, gt, gt_path, ground_truth, groundtruth | its mask; empty, -, none or negative: authentic |
| label | label, class, forged | 1: forged, 0: authentic |
| photo | photo | name of the source photo, or a list of names |
| photos | photos | file of the source photo, or a list of files, of which the stem is the name |
| kind | kind | of JSON objects alone: `authentic`, or the manipulation |
| generator | generator | what generated the picture; of lists of whole pictures |
| score | score | a method's score of the picture; of lists of scores |
| text | text | for a training: a caption of what is forged |

Case does not matter. Other columns are not read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from model.config import ConfigError
from model.images.pixels import SUFFIXES

COLUMNS = {
    "image": ("image", "img", "path", "image_path", "img_path"),
    "file": ("file",),
    "mask": ("mask", "mask_path", "gt", "gt_path", "ground_truth", "groundtruth"),
    "label": ("label", "class", "forged"),
    "photo": ("photo",),
    "photos": ("photos",),
    "kind": ("kind",),
}
CAPTION = "text"
"""The column of captions, which only a training reads."""
AUTHENTIC_WORDS = frozenset({"", "-", "none", "negative"})
"""What stands in a list in place of a mask where the image is authentic (case does not matter)."""
SEPARATORS = {".txt": ",\t", ".csv": ",;\t", ".tsv": "\t,"}
"""What separates columns, by the list's suffix, besides blanks: what a line has most of, the first of several."""
LIST_SUFFIXES = frozenset({*SEPARATORS, ".json", ".jsonl"})
MASK_SUFFIXES = SUFFIXES | {".npz"}

_CANONICAL = {word: name for name, words in COLUMNS.items() for word in words}
_CANONICAL |= {"generator": "generator", "score": "score"}  # neither says what the other columns are
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
"""What `clue forge` writes in the name of a photo for what cannot be printed, or is not UTF-8."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, not checked against the disk.

    Attributes:
        where: name of the list, and number of the row.
        text: the row in words.
        image, mask: as written; no mask: empty.
        label: `1` forged, `0` authentic, empty: not given; anything else as written.
        kind: `authentic` or a manipulation; empty: not given.
        photos: names of source photos.
        stems: stems of the files of source photos.
        generator, score: as written; empty: not given.
        caption: of what is forged; empty: there is none.
    """

    where: str
    text: str
    image: str
    mask: str = ""
    label: str = ""
    kind: str = ""
    photos: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    generator: str = ""
    score: str = ""
    caption: str = ""

    @property
    def has_mask(self) -> bool:
        """Whether a mask is given."""
        return self.mask.casefold() not in AUTHENTIC_WORDS

    @property
    def forged(self) -> bool:
        """Its class: as label or kind says, else whether a mask is given."""
        if self.label:
            return self.label == "1"
        return self.kind != "authentic" if self.kind else self.has_mask


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: where and what it is, as of a `Row`, and why."""

    where: str
    text: str
    error: ConfigError


_Rows = Iterator[Row | BadRow]
_Fields = Sequence[tuple[str, object]]


def read_rows(path: Path, *, named: bool = False) -> _Rows:
    """The rows of a list, in order.

    Args:
        named: a .csv or .tsv needs a heading, and what that does not call mask or label is neither. Otherwise the
            second and third column are, where there is no heading or it names neither.

    Raises:
        ConfigError: the file cannot be read, or is not a list.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            yield from _objects(path, text, _array(path, text))
        elif path.suffix.lower() == ".jsonl":
            yield from _objects(path, text, None)
        else:
            yield from _table(path, text, named)
    except (OSError, UnicodeError, RecursionError) as error:
        raise ConfigError(str(path), f"cannot be read ({error})", "UTF-8 text, CSV or JSONL") from error


def _array(path: Path, text: str) -> list[object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(str(path), f"not JSON ({error})", "a JSON list of [image, mask] pairs") from error
    if not isinstance(found, list):
        raise ConfigError(str(path), "not a list", "a JSON list of [image, mask] pairs")
    return found


def _objects(path: Path, text: str, array: list[object] | None) -> _Rows:
    """Rows of an array, or of an object a line."""
    for number, value in enumerate(io.StringIO(text) if array is None else array, 1):
        where = f"{path.name}[{number}]" if array is not None else f"{path.name}:{number}"
        place = f"{path}, {'row' if array is not None else 'line'} {number}"
        row, words = value, ""
        try:
            if array is None:
                words = str(value).strip()[:200]
                if not words:
                    continue
                row = json.loads(str(value))
            if isinstance(row, dict):
                yield _row(where, place, words, list(row.items()), named=True, kinds=True)
            elif array is not None and isinstance(row, list) and 1 <= len(row) <= 3 and _plain(row):
                yield _positional(where, [str(part).strip() for part in row])
            else:
                raise ConfigError(place, "not an object", '{"image": …, "mask": …}')
        except ConfigError as error:
            yield BadRow(where, words, error)
        except ValueError as error:  # also a number of thousands of digits
            yield BadRow(where, words, ConfigError(place, f"not JSON ({error})", '{"image": …, "mask": …}'))


def _plain(row: list[object]) -> bool:
    return all(isinstance(value, str | int) for value in row)


def _table(path: Path, text: str, named: bool) -> _Rows:
    heading: list[str] | None = None
    number = 0
    try:
        for order, (number, columns) in enumerate(_lines(path, text, named)):
            place = f"{path}, line {number}"
            if order == 0 and (heading := _heading(path, place, columns, named)) is not None:
                continue
            where, words = f"{path.name}:{number}", " ".join(columns)[:200]
            if heading is None:
                yield _positional(where, columns)
                continue
            try:
                if named and len(columns) > len(heading):
                    raise ConfigError(place, "more values than columns", "a value for each column")
                yield _row(where, place, words, list(zip(heading, columns, strict=False)), named=named)
            except ConfigError as error:
                yield BadRow(where, words, error)
    except csv.Error as error:
        raise ConfigError(f"{path}, after line {number}", str(error), "UTF-8 text, CSV or JSONL") from error
    if named and heading is None and path.suffix.lower() != ".txt":
        raise ConfigError(str(path), "no column `image`", "a header such as image,mask,photo")


def _lines(path: Path, text: str, named: bool) -> Iterator[tuple[int, list[str]]]:
    """Number and columns of each line that is neither empty nor a comment."""
    numbered = enumerate(io.StringIO(text, newline=None), 1)
    rest = (line for _, line in numbered)
    suffix = path.suffix.lower()
    separators = SEPARATORS[suffix]
    for number, line in numbered:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = max(separators, key=line.count)
        if separator not in line and not (named and suffix != ".txt"):
            yield number, line.split()
            continue
        if named:
            separators = separator  # the heading's
        lines = chain([line], rest) if suffix == ".csv" else iter([line])  # a quoted value may go on
        try:
            row = next(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=named), [])
        except csv.Error:  # a column of more than 128 KiB
            if named:
                raise
            row = []
        yield number, [column.strip() for column in row]


def _heading(path: Path, place: str, columns: list[str], named: bool) -> list[str] | None:
    """What the columns are, in our words where they are ours; None: the row is no heading.

    Raises:
        ConfigError: one is needed, or it does not say which of the other columns is the mask or the label.
    """
    heading = [_ours(column) or column for column in columns]
    if not {"image", "file"} & set(heading):
        if named and path.suffix.lower() != ".txt":
            raise ConfigError(place, "no column `image`", "a header such as image,mask,photo")
        return None
    others = [at for at, name in enumerate(heading) if name not in COLUMNS]
    if not named and not {"mask", "label"} & set(heading) and others:
        if heading[0] not in ("image", "file"):
            found = f"its heading names no mask and no label, found {', '.join(columns)[:200]}"
            raise ConfigError(place, found, "image, mask and, if given, label")
        heading[1:3] = [
            name if name in COLUMNS else ours for name, ours in zip(heading[1:3], ("mask", "label"), strict=False)
        ]
    elif not named and heading[:2] == ["image", "mask"] and "label" not in heading and 2 in others:
        heading[2] = "label"
    return heading


def _ours(name: str) -> str:
    """Our word for a column, `file` for itself; empty: it is none of ours."""
    return _CANONICAL.get(name.strip().casefold(), "")


def _positional(where: str, columns: Sequence[str]) -> Row:
    image, mask, label = (*columns, "", "", "")[:3]
    return Row(where, " ".join(columns)[:200], image, mask, label)


def _row(where: str, place: str, text: str, fields: _Fields, *, named: bool, kinds: bool = False) -> Row:
    """A row from its columns; the first of several for the same counts, `file` where nothing else names the image.

    Raises:
        ConfigError: no image, or a value that is not a text.
    """
    found: dict[str, object] = {}
    for name, value in fields:
        ours = _ours(name)
        if ours and (ours not in found or (ours == "image" and not found[ours])):
            found[ours] = value
    image = _text(found, "image", place) or _text(found, "file", place)
    if not image:
        raise ConfigError(place, "`image` is missing", "the path of an image")
    if named and "mask" not in found:
        for name, value in fields:  # without its mask, a forgery would count as authentic
            is_file = isinstance(value, str) and Path(value.strip()).suffix.lower() in MASK_SUFFIXES
            if is_file and "mask" in name.casefold():
                raise ConfigError(place, f"a column is called `{name}`", "`mask`")
    captions = (v.strip() for name, v in fields if name.strip().casefold() == CAPTION and isinstance(v, str))
    label = found.get("label")
    label = str(int(label)) if isinstance(label, int) else label if isinstance(label, str) else ""
    return Row(
        where,
        text,
        image,
        _text(found, "mask", place),
        label if not named or label in ("0", "1") else "",
        _text(found, "kind", place) if kinds else "",
        _texts(found, "photo", place),
        tuple(stem for file in _texts(found, "photos", place) if (stem := _unescaped(Path(file).stem))),
        generator=value if isinstance(value := found.get("generator"), str) else "",
        score=value if isinstance(value := found.get("score"), str) else "",
        caption=next(captions, "") if named else "",
    )


def _text(fields: Mapping[str, object], name: str, place: str) -> str:
    """The text of a column; empty without one."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    raise ConfigError(place, "found a value that is not a text", f"a text in `{name}`")


def _texts(fields: Mapping[str, object], name: str, place: str) -> tuple[str, ...]:
    """The text of a column, or the texts of a list in it, without empty ones."""
    value = fields.get(name)
    values = value if isinstance(value, list) else [value]
    if not all(text is None or isinstance(text, str) for text in values):
        raise ConfigError(place, "found a value that is not a text", f"a text in `{name}`, or a list of texts")
    return tuple(str(text) for text in values if text)


def _unescaped(name: str) -> str:
    """The name of a file, of which `clue forge` wrote a form that can be printed."""

    def restore(match: re.Match[str]) -> str:
        code = match[1]
        return "\\" if code == "\\" else chr(min(int(code[1:], 16), 0x10FFFF) + (0xDC00 if code[0] == "x" else 0))

    return _ESCAPE.sub(restore, name)
