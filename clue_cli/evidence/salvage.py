"""What is left of a picture whose file is cut or damaged, and exactly which of its rows the decoder did not fill.

The picture is decoded twice over different pixels: what then differs, the decoder has not written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from clue_cli.evidence.jpeg import Structure, mended, padded, structure, with_other_ends
from clue_cli.evidence.metadata import file_finding
from clue_cli.records import Finding
from model.images.pixels import to_rgb

_INTERVALS = 5000  # restart intervals of one JPEG that are looked at
_CHECKED_MEGAPIXELS = 100.0  # larger JPEGs are not decoded a second time only to see whether they are whole

Rows = tuple[int, int]
"""First and last row, as stored."""
_Marks = NDArray[np.bool_]


@dataclass(slots=True)
class Salvaged:
    """A picture decoded as far as it goes.

    Attributes:
        image: 8-bit RGB as stored; lost rows have one colour.
        decoding: what was done, in words.
        rows: first and last row that can be examined, None: all.
        reason: why not all, in words.
        findings: what was found out.
        doubt: why no verdict but inconclusive can be given, in words; None: one can.
    """

    image: Image.Image
    decoding: list[str]
    rows: Rows | None = None
    reason: str = ""
    findings: list[Finding] = field(default_factory=list)
    doubt: str | None = None


class NothingLeftError(Exception):
    """No row of a picture can be decoded."""


CUT, DAMAGED = "The end of the file is missing", "The compressed data are damaged"


def salvage(opened: Callable[[], ImageFile.ImageFile]) -> Salvaged:
    """Decode a picture that is no JPEG as far as it goes; raises `NothingLeftError`, or what Pillow raises."""
    image, decoding, lost = decode_rows(opened, opened)
    return _without(Salvaged(image, decoding), lost, "The file is cut or damaged")


def salvage_jpeg(data: bytes, found: Structure) -> Salvaged:
    """Decode a JPEG as far as it goes; raises as `salvage` does."""
    cut, later = found.end is None, len(found.scans) > 1
    first: list[int] = []  # row from which on data are missing

    def lost_rows(differing: _Marks, unwritten: _Marks) -> _Marks:
        lost = unwritten.copy()
        for top, _ in runs(differing & ~unwritten):
            first.append(top)
            if later:
                break
            begin, end = (top, len(lost) - 1) if cut or not found.restart else found.rows_of_intervals(top)
            lost[begin : end + 1] = True
        return lost

    image, decoding, lost = decode_rows(
        lambda: _jpeg(mended(data, found)), lambda: _jpeg(padded(data, found)), lost_rows
    )
    salvaged = _without(Salvaged(image, decoding), lost, CUT if cut else DAMAGED)
    if cut and not first and found.refined:
        statement = (
            "The end mark of the JPEG is missing, as in an unfinished download or a file carved from a disk; no row of "
            "the picture is lost."
        )
        salvaged.findings.append(file_finding("end_missing", statement))
    elif not found.refined or (later and first):
        _less_precise(salvaged, found, first[0] if first else None)
    if lost and not cut:
        salvaged.doubt = "the compressed data are damaged, and rows that were examined may be displaced"
        where = "" if found.strange is None else f" A marker that has no place there stands at byte {found.strange}."
        statement = f"Rows before the damage was noticed may be displaced or have wrong colours.{where}"
        salvaged.findings.append(file_finding("damaged_data", statement))
    return salvaged


def _less_precise(salvaged: Salvaged, found: Structure, row: int | None) -> None:
    """Say which scans of a JPEG of several are incomplete."""
    number, height = len(found.scans), salvaged.image.height
    which = f"scan {number} is incomplete" if row is not None else f"it ends after scan {number}"
    if not found.refined:
        which += " and later scans are missing" if row is not None else ", and scans are missing"
        rows = "All rows"
    else:
        rows = f"Rows {row} to {height - 1} of {height}"
    why = CUT if found.end is None else DAMAGED
    statement = (
        f"{why}: of this JPEG of several scans {which}. {rows} were decoded less precisely than they were stored."
    )
    salvaged.findings.append(file_finding("less_precise", statement))
    salvaged.doubt = "the file is incomplete, and rows were decoded less precisely than they were stored"


def _without(salvaged: Salvaged, lost: list[Rows], why: str) -> Salvaged:
    """The same, with the longest run of rows that are there as what can be examined."""
    height = salvaged.image.height
    if not lost:
        return salvaged
    gone = np.zeros(height, np.bool_)
    for top, bottom in lost:
        gone[top : bottom + 1] = True
    kept = runs(~gone)
    if not kept:
        raise NothingLeftError(f"{why}: no row of the picture can be decoded.")
    top, bottom = salvaged.rows = max(kept, key=lambda rows: rows[1] - rows[0])
    outside = [(first, last) for first, last in ((0, top - 1), (bottom + 1, height - 1)) if last >= first]
    words = " and ".join(f"{first} to {last}" for first, last in outside)
    could = "could not be decoded" if outside == lost else "could not all be decoded"
    salvaged.reason = why
    statement = f"{why}: rows {words} of {height} {could} and were not examined."
    salvaged.findings.append(file_finding("rows_missing", statement))
    return salvaged


def whole_jpeg(data: bytes, found: Structure, image: Image.Image) -> list[Finding] | None:
    """Whether the data of a JPEG that was decoded without an error, as `image`, fit its picture.

    Returns:
        Findings, none if all is well; None if data are missing and `salvage_jpeg` has to say which.
    """
    if found.arithmetic or not found.scans or image.width * image.height > _CHECKED_MEGAPIXELS * 1e6:
        return []
    if not found.refined:
        return None
    changed = with_other_ends(data, found)
    try:
        if _difference(image, padded(data, found)).getbbox() is not None:
            return None
        difference = None if changed is None else _difference(image, changed[0])
    except OSError:  # nonsense for the decoder, so it was looked at
        return []
    if changed is None or difference is None:
        return []
    boxes = [found.box_of_interval(number) for number in changed[1][:_INTERVALS]]
    unused = next((box for box in boxes if difference.crop(box).getbbox() is None), None)
    if unused is None:
        return []
    where = f" in rows {unused[1]} to {unused[3] - 1}" if found.restart else ""
    statement = (
        f"{DAMAGED}, or were not written for this picture: some are left over{where}. Rows may be "
        "displaced or have wrong colours."
    )
    return [file_finding("damaged_data", statement)]


def _difference(image: Image.Image, variant: bytes) -> Image.Image:
    return ImageChops.difference(image, to_rgb(_jpeg(variant))[0])


def _jpeg(data: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=["JPEG"])


def missing_end(data: bytes, sniffed_type: str) -> str | None:
    """That a file ends before it says that it does, in a sentence; None if that cannot be seen."""
    size = len(data)
    if sniffed_type == "jpeg" and not (found := structure(data)).scans and found.end is None:
        return f"{CUT}: it has {size:,} bytes, and ends in the header of the JPEG."
    if sniffed_type == "webp" and size < (stated := int.from_bytes(data[4:8], "little") + 8):
        return f"{CUT}: it has {size:,} of {stated:,} bytes, and a WebP can only be decoded whole."
    if sniffed_type == "tiff" and data[2:4] in (b"*\0", b"\0*"):
        at = int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big")
        if at >= size:
            return f"{CUT}: it has {size:,} bytes, and the directory of its pages lay at byte {at:,}."
    if sniffed_type in ("avif", "heic"):
        position = 0
        while 0 <= position <= size - 8 and (length := int.from_bytes(data[position : position + 4], "big")) >= 8:
            position += length
        if position > size:
            name = sniffed_type.upper()
            return f"{CUT}: it has {size:,} of at least {position:,} bytes, and {name} can only be decoded whole."
    return None


def decode_rows(
    first: Callable[[], ImageFile.ImageFile],
    second: Callable[[], ImageFile.ImageFile],
    lost_rows: Callable[[_Marks, _Marks], _Marks] = lambda differing, unwritten: differing,
) -> tuple[Image.Image, list[str], list[Rows]]:
    """Decode a picture as far as it goes.

    Args:
        first: opens the picture, not loaded.
        second: opens it again, or a variant that differs where the file has no data.
        lost_rows: which rows are lost, from those that differ and those of them that were not written at all.

    Returns:
        8-bit RGB as stored, what was done in words, and the lost rows, which have one colour. None is lost if the file
        holds them all.

    Raises:
        Exception: whatever Pillow raises on damaged bytes.
    """
    with _as_far_as_it_goes():
        other = _Loaded(second(), 255)
        other.image.load()
        one = _Loaded(first(), 0)

        def blank(image: Image.Image) -> None:
            one.lost = lost_rows(*_differing(image, other.raw))
            kept = np.flatnonzero(~one.lost)
            colour = image.getpixel((0, int(kept[0]))) if kept.size else 0
            for top, bottom in runs(one.lost):
                image.im.paste(colour, (0, top, image.width, bottom + 1))

        one.before_turn = blank
        rgb, done = to_rgb(one.image)
    return rgb, done, runs(one.lost)


def runs(rows: _Marks) -> list[Rows]:
    """First and last row of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]


class _Loaded:
    """A picture that is to be loaded over pixels of one level, and kept as it is before a TIFF's turn."""

    def __init__(self, image: ImageFile.ImageFile, level: int) -> None:
        self.image, self.level = image, level
        self.raw: Image.Image | None = None
        self.lost: _Marks = np.zeros(0, np.bool_)
        self.before_turn: Callable[[Image.Image], None] = lambda image: None
        self._prepare, self._end, self._load = image.load_prepare, image.load_end, image.load
        overrides: Any = image
        overrides.load_prepare, overrides.load_end, overrides.load = self.prepare, self.end, self.load

    def prepare(self) -> None:
        self._prepare()
        bands = self.image.im.bands
        ink = self.level if bands == 1 else (self.level,) * bands
        self.image.im.paste(ink, (0, 0, *self.image.im.size))

    def end(self) -> None:
        self.raw = Image.Image()._new(self.image.im)
        self.before_turn(self.raw)
        self._end()

    def load(self) -> Any:
        try:
            return self._load()
        except MemoryError:
            raise
        except Exception:
            if self.raw is None:
                raise
            return None  # libtiff says so only after all that it could decode is there


def _differing(one: Image.Image, other: Image.Image | None) -> tuple[_Marks, _Marks]:
    """Which rows of two pictures differ, and in which neither was written (`_Loaded`)."""
    rows, unwritten = np.ones((2, one.height), np.bool_)
    if other is None or (other.size, other.mode) != (one.size, one.mode):
        return rows, unwritten
    step = max(1, (8 << 20) // max(1, one.width * 4))
    for top in range(0, one.height, step):
        box = (0, top, one.width, min(top + step, one.height))
        parts = (np.ascontiguousarray(image.crop(box)) for image in (one, other))
        first, second = (part.view(np.uint8).reshape(len(part), -1) for part in parts)
        rows[top : box[3]] = (first != second).any(1)
        unwritten[top : box[3]] = ~first.any(1) & (second == 255).all(1)
    return rows, unwritten


@contextmanager
def _as_far_as_it_goes() -> Iterator[None]:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
