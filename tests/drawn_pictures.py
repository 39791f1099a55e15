"""Pictures drawn by hand: pages of words, lists of equal rows, noise. They need no file and no browser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
LINE, WORD = 32, 74
"""Pixels from one line or word of a page to the next."""


def page(height: int = 256, width: int = 384, *, dark: bool = False, seed: int = 0) -> Pixels:
    """Lines of words, black on white or light on dark."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), "#222" if dark else "#fff")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    for top in range(12, height - 28, LINE):
        for left in range(12, width - 60, WORD):
            word = "".join(rng.choice(list("acemnorsuvwxz"), 5))
            draw.text((left, top), word, "#eee" if dark else "#111", font)
    return np.asarray(image)


def equal_rows(height: int = 192, width: int = 160) -> Pixels:
    """A list that shows the same row again and again, every 32 pixels."""
    row = Image.new("RGB", (width, 32), "#f5f5f5")
    draw = ImageDraw.Draw(row)
    draw.text((10, 6), "Alice 12.50 EUR", "#111", ImageFont.load_default(16))
    draw.rectangle((width - 24, 8, width - 8, 24), "#36c")
    return np.tile(np.asarray(row), (height // 32, 1, 1))


def noise(height: int = 256, width: int = 384, *, deviation: float = 12, seed: int = 0) -> Pixels:
    """Grey with the noise of a sensor."""
    values = np.random.default_rng(seed).normal(128, deviation, (height, width, 3))
    return values.clip(0, 255).astype(np.uint8)


def blob(shape: tuple[int, int], side: int, strength: float) -> NDArray[np.float32]:
    """A heatmap with one square of this strength."""
    heatmap = np.full(shape, 0.02, np.float32)
    heatmap[16 : 16 + side, 24 : 24 + side] = strength
    return heatmap
