"""What a training is about to see: counts and sizes in words, and a sheet of samples with their masks outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.config import legible
from model.data.made import MadeStream
from model.data.stream import Stream, TrainingSample
from model.images.masks import Mask
from model.images.pixels import DamagedFileError, Pixels
from model.whole_file import write_whole

OUTLINE = (255, 0, 160)
CAPTION = 14
"""Height of the line below each sample, pixels."""


def contact_sheet(stream: Stream | MadeStream, path: Path, count: int = 48, columns: int = 8, side: int = 192) -> None:
    """Write a PNG of the first samples of a stream, each outlined where it is forged, its source below it.

    Args:
        stream: what to show.
        path: the PNG.
        count: number of samples.
        columns: samples in a row.
        side: longest side of a sample on the sheet, pixels.

    Raises:
        DamagedFileError: no sample can be read.
        OSError: the file cannot be written.
    """
    batches = [stream.batch(index, 1) for index in range(count)]
    samples = [sample for batch in batches for sample in batch.samples]
    if not samples:
        raise DamagedFileError(f"no image can be read; the last: {batches[-1].damaged[-1]}")
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + CAPTION + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left, top = number % columns * (side + 4), number // columns * (side + CAPTION + 4)
        thumbnail = Image.fromarray(outlined(sample.pixels, sample.mask))
        thumbnail.thumbnail((side, side))
        sheet.paste(thumbnail, (left, top))
        draw.text((left, top + side), _caption(sample), fill="black")
    write_whole(path, lambda part: sheet.save(part, "PNG"))


def outlined(pixels: Pixels, mask: Mask) -> Pixels:
    """A copy of the pixels, H×W×3 uint8, with a line of two pixels around what the mask marks."""
    padded = np.pad(mask, 2)
    grown = np.zeros_like(mask)
    for dy in range(5):
        for dx in range(5):
            grown |= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    drawn = pixels.copy()
    drawn[grown & ~mask] = OUTLINE
    return drawn


def _caption(sample: TrainingSample) -> str:
    area = f"{sample.mask.mean():.1%} forged" if sample.mask.any() else "authentic"
    name = legible(sample.source).encode("ascii", "replace").decode()
    return f"{name[:18]}: {area}"
