"""The decoder's process of a measurement: pictures as `clue_cli.evidence` decodes them, and masks as what they mark.

A mask is asked for by `MASK` and its style before its type: white is what it marks (`model.images.masks.marked`).

A header is asked for by `HEADER` in place of a type and the path of the file in place of its bytes, of which most need
not be read. The answer is a page of one pixel; width, height, format and signature stand where a page says what was
done to it. A map, another method's prediction, is asked for by `MAP` and its path: the first two channels of the answer
are the upper and the lower byte of its levels, and its bits, 8 or 16, are said like a header.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from clue_cli.evidence.decode import Decoded, DecodeLimits, Page, PageFailure, decode_pages
from clue_cli.evidence.decode_worker import main
from clue_cli.evidence.metadata import clean_text
from clue_cli.scan.records import ExifBrief, FailureCode
from model.images.maps import png_levels
from model.images.masks import MaskStyle, marked
from model.images.pixels import FORMATS, read_header

MASK, HEADER, MAP = "mask:", "header:", "map:"


def decode(
    data: bytes, sniffed_type: str, limits: DecodeLimits, gif_all_frames: bool = False, first_page: int = 0
) -> Iterator[Decoded]:
    """As `decode_pages`; for `MASK`, `HEADER` and `MAP` one page, as said above."""
    if sniffed_type.startswith(MASK):
        yield _mask(data, cast("MaskStyle", sniffed_type.split(":")[1]), limits)
    elif sniffed_type == HEADER:
        yield _header(data)
    elif sniffed_type == MAP:
        yield _map(data, limits)
    else:
        yield from decode_pages(data, sniffed_type, limits, gif_all_frames, first_page)


def _mask(data: bytes, style: MaskStyle, limits: DecodeLimits) -> Page | PageFailure:
    Image.MAX_IMAGE_PIXELS = None  # ours is checked, and its message names the option
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > limits.max_megapixels:
                message = f"{megapixels:.4g} megapixels; the limit is {limits.max_megapixels:g} (--max-megapixels)."
                return PageFailure(None, None, FailureCode.TOO_MANY_PIXELS, message)
            return Page(0, 1, Image.fromarray(marked(image, style)).convert("RGB"), 1, (), (), ExifBrief())
    except MemoryError:
        return PageFailure(None, None, FailureCode.OUT_OF_MEMORY, "Decoding needs more memory than it was given.")
    except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
        reason = clean_text(error) or type(error).__name__
        return PageFailure(None, None, FailureCode.CORRUPT_IMAGE, f"The mask is damaged or cut: {reason}.")


def _header(path: bytes) -> Page | PageFailure:
    Image.MAX_IMAGE_PIXELS = None  # nothing is decoded
    try:
        found = read_header(Path(os.fsdecode(path)))
    except Exception as error:  # as above
        return _unreadable("Its header cannot be read", path, error)
    words = (str(found.width), str(found.height), found.format, found.signature)
    return Page(0, 1, Image.new("RGB", (1, 1)), 1, words, (), ExifBrief())


def _map(path: bytes, limits: DecodeLimits) -> Page | PageFailure:
    Image.MAX_IMAGE_PIXELS = None  # as above
    try:
        levels = png_levels(Path(os.fsdecode(path)), limits.max_megapixels)
    except Exception as error:  # as above
        return _unreadable("The map cannot be read", path, error)
    wide = levels.astype(np.uint16)
    bytes_of = np.stack([wide >> 8, wide & 255, np.zeros_like(wide)], 2).astype(np.uint8)
    return Page(0, 1, Image.fromarray(bytes_of), 1, (str(8 * levels.itemsize),), (), ExifBrief())


def _unreadable(what: str, path: bytes, error: Exception) -> PageFailure:
    reason = clean_text(str(error).removeprefix(f"{os.fsdecode(path)}: ")) or type(error).__name__
    return PageFailure(None, None, FailureCode.CORRUPT_IMAGE, f"{what}: {reason}.")


if __name__ == "__main__":
    main(decode)
