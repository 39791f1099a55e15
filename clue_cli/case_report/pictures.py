"""The pictures of a record as they are printed: read from the results folder, checked, and made small enough."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clue_cli.records import ImageRecord
from clue_cli.results.folder import ResultsFolder
from clue_cli.results.pictures import inferno

_MAIN, _SIDE = 800, 400
"""Longest side in print, pixels: about 190 an inch. Typst holds all pictures of a volume decoded."""
_LARGEST = 400_000_000
"""Pixels; a larger file is not opened."""
NUMBERED = 20
"""Regions that get a number in the picture."""
_RED, _WHITE = (214, 0, 28), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Printed:
    """A picture for print, or the key of the text that says why there is none.

    Attributes:
        content: JPEG or PNG; empty: none.
        suffix: of its file.
        missing: `not_made`, `absent`, `unreadable`, `other_size`, `changed`, `outside`.
    """

    content: bytes = b""
    suffix: str = ""
    missing: str = ""


class _Unusable(Exception):
    """Why a picture cannot be printed, as a key."""


class RecordPictures:
    """The pictures of one record.

    Args:
        folder: the results folder, of which nothing is believed.
        record: whose pictures.
    """

    def __init__(self, folder: ResultsFolder, record: ImageRecord) -> None:
        self._folder, self._record = folder, record
        self._hashes = {one.output: one.sha256 for one in record.written}

    def outlined(self) -> tuple[Printed, bool]:
        """The image with the outline of the mask and the first regions numbered, and whether the outline is there."""
        try:
            picture = self._read("preview", "RGB", _MAIN)
        except _Unusable as why:
            return Printed(missing=str(why)), False
        complete = True
        try:
            outline = self._read("outline", "RGBA", None).resize(picture.size, Image.Resampling.BILINEAR)
            picture.paste(outline, (0, 0), outline)
        except _Unusable:
            complete = False
        self._number(picture)
        return _jpeg(picture), complete

    def heat(self) -> Printed:
        """The heatmap in colour over the image in grey, or alone if there is no preview."""
        try:
            overlay = self._read("heat_overlay", "RGBA", _SIDE)
        except _Unusable as why:
            return self._plain_heat(str(why))
        try:
            ground = self._read("preview", "L", _SIDE).resize(overlay.size).convert("RGB")
        except _Unusable:
            ground = Image.new("RGB", overlay.size)
        ground.paste(overlay, (0, 0), overlay)
        return _jpeg(ground)

    def mask(self) -> Printed:
        """The mask, black and white."""
        try:
            mask = self._read("mask", "L", _SIDE, exact=True)
        except _Unusable as why:
            return Printed(missing=str(why))
        stream = io.BytesIO()
        mask.save(stream, "PNG")
        return Printed(stream.getvalue(), ".png")

    def other(self, output: str) -> Printed:
        """Another picture of the record as it is, by its name in `outputs`."""
        try:
            picture = self._read(output, "RGBA", _SIDE)
        except _Unusable as why:
            return Printed(missing=str(why))
        ground = Image.new("RGB", picture.size)
        ground.paste(picture, (0, 0), picture)
        return _jpeg(ground)

    def _plain_heat(self, why: str) -> Printed:
        try:
            heat = self._read("heatmap", "", _SIDE, exact=True)
        except _Unusable as other:
            return Printed(missing=str(other) if why == "not_made" else why)
        levels = np.clip(np.asarray(heat, dtype=np.float64) / 257, 0, 255).astype(np.uint8)
        return _jpeg(Image.fromarray(inferno()[levels][..., :3]))

    def _read(self, output: str, mode: str, longest: int | None, *, exact: bool = False) -> Image.Image:
        relative = getattr(self._record.outputs, output)
        if relative is None:
            raise _Unusable("not_made")
        path = self._path(relative)
        size = self._record.width, self._record.height
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for without end
                raise _Unusable("unreadable")
            content = path.read_bytes()
            if output in self._hashes and hashlib.sha256(content).hexdigest() != self._hashes[output]:
                raise _Unusable("changed")
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > _LARGEST or (exact and picture.size != size):
                    raise _Unusable("other_size")
                if longest is not None and picture.format == "JPEG":
                    picture.draft(None, (longest, longest))
                whole = picture.convert(mode) if mode else picture.copy()
        except FileNotFoundError as error:
            raise _Unusable("absent") from error
        except _Unusable:
            raise
        except (OSError, ValueError, SyntaxError, MemoryError, EOFError, Image.DecompressionBombError) as error:
            raise _Unusable("unreadable") from error
        if longest is not None and max(whole.size) > longest:
            factor = longest / max(whole.size)
            smaller = tuple(max(1, round(side * factor)) for side in whole.size)
            # `I;16` has no filter of its own
            filters = Image.Resampling.NEAREST if whole.mode.startswith("I") else Image.Resampling.BOX
            whole = whole.resize((smaller[0], smaller[1]), filters)
        return whole

    def _path(self, relative: str) -> Path:
        try:
            path = self._folder.inside(relative)
            if not path.resolve().is_relative_to(self._folder.root.resolve()):
                raise ValueError(relative)
        except (ValueError, OSError, RuntimeError) as error:
            raise _Unusable("outside") from error
        return path

    def _number(self, picture: Image.Image) -> None:
        """Draw the boxes of the first regions with their numbers."""
        draw = ImageDraw.Draw(picture)
        across, down = picture.width / self._record.width, picture.height / self._record.height
        size = max(12, max(picture.size) // 45)
        font = ImageFont.load_default(size)
        for number, region in enumerate(self._record.regions[:NUMBERED], 1):
            box = region.box
            left, top = box.x * across, box.y * down
            right, bottom = (box.x + box.width) * across - 1, (box.y + box.height) * down - 1
            if not (0 <= left <= right < picture.width + 1 and 0 <= top <= bottom < picture.height + 1):
                continue  # a region outside of the image, in a record that somebody changed
            draw.rectangle((left, top, right, bottom), outline=_RED, width=max(1, size // 8))
            label = draw.textbbox((0, 0), str(number), font=font)
            width, height = label[2] + size // 3, label[3] + size // 5
            x = min(left, max(0, picture.width - width))
            y = top - height if top >= height else min(top, max(0, picture.height - height))
            draw.rectangle((x, y, x + width, y + height), fill=_RED)
            draw.text((x + size // 6, y), str(number), fill=_WHITE, font=font)


def _jpeg(picture: Image.Image) -> Printed:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return Printed(stream.getvalue(), ".jpg")
