"""What travels from the evidence to the network: `Item` (somewhere bytes can be had) and `Photo` (pixels)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from clue_cli.records import ExifBrief, FailureCode, FileIdentity, Finding, Step
from model.images.pixels import displayed_view

_Sample = TypeVar("_Sample", bound=np.generic)


VIDEO_FRAME = "video_frame"
"""Kind of the finding of a picture that is a frame of a video."""


THUMBNAIL_SIDE = 160
"""Longest side in pixels at which a thumbnail is compared and kept; larger ones are shrunk."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file or archive member, not yet read.

    Attributes:
        locator: printable, unique in the run, e.g. `evidence/case7.zip!/dcim/1.jpg`.
        size: size in bytes if it is known before reading.
        path: the file on disk, or None for an archive member and for an object of a store.
        open: opens the bytes for reading. For an archive member only valid until the next item is asked for.
        findings: what the walk noticed about it.
        other_shard: it is a member of a divided archive and belongs to another shard: to be read, and dropped.
        remote: it is an object of a store, and every opening gives the same version of it.
    """

    locator: str
    size: int | None
    path: Path | None
    open: Callable[[], BinaryIO]
    findings: tuple[Finding, ...] = ()
    other_shard: bool = False
    remote: bool = False

    @property
    def is_member(self) -> bool:
        """Whether it is in an archive."""
        return self.path is None and not self.remote


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something on the way that could not be read; becomes a `FailureRecord`.

    Attributes:
        page: which page, None if it is the whole file or all of its pages that have no record of their own.
        page_count: how many pages the file holds, None if that is not known.
    """

    locator: str
    step: Step
    code: FailureCode
    message: str
    advice: str | None = None
    file: FileIdentity | None = None
    page: int | None = None
    page_count: int | None = None


@dataclass(frozen=True, slots=True)
class ArchiveOpened:
    """An archive was recognised and its members follow.

    Attributes:
        path: the archive on disk, or None for one inside another or in a store.
        other_shard: another shard counts it; this one reads it, because its members are divided.
        open: opens one in a store once more, in the same version.
    """

    locator: str
    path: Path | None = None
    other_shard: bool = False
    open: Callable[[], BinaryIO] | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that the options leave out, so that a report can say so.

    Attributes:
        reason: `hidden`, `link` (a link that is not followed, or leads to a folder that was followed before),
            `results` (the results folder of this run), `former results` (a folder that an earlier run of clue wrote),
            or the option that leaves it out.
    """

    locator: str
    reason: Literal[
        "hidden",
        "link",
        "archive link",
        "results",
        "former results",
        "excluded",
        "not included",
        "older",
        "known",
    ]


@dataclass(frozen=True, slots=True)
class NotAPicture:
    """A file that is no picture and does not claim to be one.

    Attributes:
        extension: the ending of its name, lower case, without the dot; empty if there is none.
        holder: what it is, e.g. `PDF` or `video`, if it can hold pictures that were not looked for.
    """

    locator: str
    extension: str
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Photo:
    """One decoded image.

    Attributes:
        locator: of the item it came from.
        file: identity of the bytes it came from.
        page, page_count: which page or frame, of how many.
        pixels: H×W×3 uint8 RGB, as stored: the network sees the 8×8 grid of a JPEG where the encoder put it.
        orientation: the EXIF orientation, 1 to 8, that a viewer applies (`displayed`).
        decoding: what was done to get here, in words.
        findings: about the file and its container (a lying extension, trailing bytes, recovered truncation, …).
        exif: EXIF in brief.
        rows: first and last row, as stored, that are there to be examined; None: all of them.
        missing: why the others are not, in words.
        doubt: why no verdict but inconclusive can be given, in words; None: one can.
        thumbnail: h×w×3 uint8, as stored: one in the file that shows something else than the picture.
        seconds_read, seconds_decode: wall-clock seconds.
    """

    locator: str
    file: FileIdentity
    page: int
    page_count: int
    pixels: NDArray[np.uint8]
    orientation: int = 1
    decoding: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    exif: ExifBrief = field(default_factory=ExifBrief)
    rows: tuple[int, int] | None = None
    missing: str = ""
    doubt: str | None = None
    thumbnail: NDArray[np.uint8] | None = None
    seconds_read: float = 0.0
    seconds_decode: float = 0.0

    def displayed(self, stored: NDArray[_Sample]) -> NDArray[_Sample]:
        """The pixels, or a map of them, as a viewer turns them: a view."""
        return displayed_view(stored, self.orientation)

    @property
    def examined(self) -> NDArray[np.uint8]:
        """The pixels that the network sees, as stored: a view."""
        return self.pixels if self.rows is None else self.pixels[self.rows[0] : self.rows[1] + 1]

    def in_full(self, examined: NDArray[_Sample]) -> NDArray[_Sample]:
        """A map of the examined pixels as displayed, at the size of the whole picture: zero where none was examined."""
        if self.rows is None:
            return examined
        left, top, width, height = self.box_of_rows(*self.rows)
        full = np.zeros(self.displayed(self.pixels).shape[:2], examined.dtype)
        full[top : top + height, left : left + width] = examined
        return full

    def box_of_rows(self, first: int, last: int) -> tuple[int, int, int, int]:
        """Left, top, width and height, as displayed, of rows as stored."""
        inside = np.zeros((len(self.pixels), 1), np.bool_)
        inside[first : last + 1] = True
        line = self.displayed(inside)
        start, length, width = int(line.ravel().argmax()), last + 1 - first, self.pixels.shape[1]
        return (0, start, width, length) if line.shape[1] == 1 else (start, 0, length, width)

    @property
    def not_examined(self) -> list[tuple[int, int]]:
        """First and last row, as stored, of each band that was not examined."""
        if self.rows is None:
            return []
        bands = (0, self.rows[0] - 1), (self.rows[1] + 1, len(self.pixels) - 1)
        return [(first, last) for first, last in bands if first <= last]
