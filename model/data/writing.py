"""Text as pixels: words on a strip of paper, in the ink of what they replace."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.history import Pixels

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")


@cache
def _fonts() -> tuple[str, ...]:
    """TrueType fonts of the system that have Latin letters, sorted; Pillow's own is used where there are none."""
    found = sorted(str(path) for folder in FONT_FOLDERS for path in Path(folder).rglob("*.ttf"))
    return tuple(path for path in found if _has_letters(path))


def _has_letters(path: str) -> bool:
    """Whether two letters look different: what a font does not have, it shows as the same box."""
    try:
        font = ImageFont.truetype(path, 16)
        return bytes(font.getmask("A")) != bytes(font.getmask("B"))
    except OSError:  # a broken font file
        return False


def ink_of(text: str, height: int, below: Pixels, rng: np.random.Generator) -> Pixels:
    """The text on paper, about `height` pixels high.

    Args:
        text: Latin letters, digits and punctuation.
        height: pixels.
        below: H×W×3 uint8, what it replaces: its median is the paper, its most different pixels the ink.

    Returns:
        H×W×3 uint8.
    """
    fonts = _fonts()
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size = max(6.0, height * 1.15)
    font = ImageFont.load_default(size)
    if fonts and rng.random() < 0.9:
        font = ImageFont.truetype(fonts[int(rng.integers(len(fonts)))], round(size))
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    canvas = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), text, 255, font)
    alpha = np.asarray(canvas, np.float32)[..., None] / 255
    flat = below.reshape(-1, 3).astype(np.float32)
    paper = np.median(flat, 0)
    distance = np.abs(flat - paper).sum(1)
    ink = flat[distance >= np.quantile(distance, 0.97)].mean(0) + rng.normal(0, 4, 3)
    return np.asarray((paper + (ink - paper) * alpha + 0.5).clip(0, 255), np.uint8)
