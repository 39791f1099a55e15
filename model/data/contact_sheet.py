"""A sheet of training samples, with their masks tinted and outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.config import legible
from model.data.made import MadeStream
from model.data.stream import Stream, TrainingSample
from model.images.masks import Mask
from model.images.pixels import DamagedFileError, Pixels
from model.reporter import SILENT, Reporter
from model.whole_file import write_whole

OUTLINE = (255, 0, 160)
CAPTION = 14
"""Height of the line below each sample, pixels."""


def contact_sheet(
    stream: Stream | MadeStream,
    path: Path,
    count: int = 48,
    columns: int = 8,
    side: int = 192,
    reporter: Reporter = SILENT,
) -> None:
    """Write a PNG of the first samples of a stream, each tinted where it is forged, its source below it.

    Args:
        stream: what to show.
        path: the PNG.
        count: number of samples.
        columns: samples in a row.
        side: longest side of a sample on the sheet, pixels.
        reporter: receives the number of samples drawn.

    Raises:
        DamagedFileError: no sample can be read.
        OSError: the file cannot be written.
    """
    batches = []
    reporter.stage("Drawing the contact sheet", "samples", count)
    for index in range(count):
        batches.append(stream.batch(index, 1))
        reporter.advance()
    samples = [sample for batch in batches for sample in batch.samples]
    if not samples:
        raise DamagedFileError(f"no image can be read; the last: {batches[-1].damaged[-1]}")
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + CAPTION + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left, top = number % columns * (side + 4), number // columns * (side + CAPTION + 4)
        thumbnail = Image.fromarray(marked(sample.pixels, sample.mask))
        thumbnail.thumbnail((side, side))
        sheet.paste(thumbnail, (left, top))
        draw.text((left, top + thumbnail.height), _caption(sample), fill="black")
    write_whole(path, lambda part: sheet.save(part, "PNG"))


def marked(pixels: Pixels, mask: Mask) -> Pixels:
    """A copy of the pixels, H×W×3 uint8, tinted where the mask marks it, with a line of two pixels around.

    The tint shows which side of the line is forged.
    """
    padded = np.pad(mask, 2)
    grown = np.zeros_like(mask)
    for dy in range(5):
        for dx in range(5):
            grown |= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    drawn = pixels.copy()
    drawn[mask] = (pixels[mask] * 0.6 + np.array(OUTLINE) * 0.4).astype(np.uint8)
    drawn[grown & ~mask] = OUTLINE
    return drawn


def _caption(sample: TrainingSample) -> str:
    area = f"{sample.mask.mean():.1%} forged" if sample.mask.any() else "authentic"
    name = legible(sample.source).encode("ascii", "replace").decode()
    return f"{name[:18]}: {area}"
