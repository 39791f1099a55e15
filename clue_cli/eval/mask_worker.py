"""The decoder's process of a measurement: pictures as `clue_cli.evidence` decodes them, and masks as what they mark.

A mask is asked for by `MASK` before its type. It is not decoded like a picture, which shows transparent parts white
and applies an orientation: its levels are sent as they are stored (`model.evaluation.truth.mask_levels`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from clue_cli.evidence.decode import Decoded, DecodeLimits, Page, PageFailure, decode_pages
from clue_cli.evidence.decode_worker import main
from clue_cli.evidence.metadata import clean_text
from clue_cli.scan.records import ExifBrief, FailureCode
from model.evaluation.truth import FORMATS, mask_levels

MASK = "mask:"


def decode(
    data: bytes, sniffed_type: str, limits: DecodeLimits, gif_all_frames: bool = False, first_page: int = 0
) -> Iterator[Decoded]:
    """As `decode_pages`; for a type that begins with `MASK`, one page with the levels of the mask."""
    if sniffed_type.startswith(MASK):
        yield _mask(data, limits)
    else:
        yield from decode_pages(data, sniffed_type, limits, gif_all_frames, first_page)


def _mask(data: bytes, limits: DecodeLimits) -> Page | PageFailure:
    Image.MAX_IMAGE_PIXELS = None  # ours is checked, and its message names the option
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > limits.max_megapixels:
                message = f"{megapixels:.4g} megapixels; the limit is {limits.max_megapixels:g} (--max-megapixels)."
                return PageFailure(None, None, FailureCode.TOO_MANY_PIXELS, message)
            return Page(0, 1, mask_levels(image).convert("RGB"), 1, (), (), ExifBrief())
    except MemoryError:
        return PageFailure(None, None, FailureCode.OUT_OF_MEMORY, "Decoding needs more memory than it was given.")
    except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
        reason = clean_text(error) or type(error).__name__
        return PageFailure(None, None, FailureCode.CORRUPT_IMAGE, f"The mask is damaged or cut: {reason}.")


if __name__ == "__main__":
    main(decode)
