"""A small benchmark in the common layout, with what can be wrong with one on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (96, 128)


def picture(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Smooth shapes with a little noise, H×W×3 uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 215, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def truth(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """A rectangle, H×W bool."""
    rng = np.random.default_rng([seed, 1])
    top, left = int(rng.integers(0, size[0] // 2)), int(rng.integers(0, size[1] // 2))
    mask = np.zeros(size, bool)
    mask[top : top + 20 + seed * 3, left : left + 24 + seed * 2] = True
    return mask


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def write_set(folder: Path, forged: int = 4, authentic: int = 3) -> Path:
    """`Tp/t<n>.jpg`, `Gt/t<n>.png`, `Au/a<n>.jpg`; forged files are JPEG 70, authentic ones JPEG 90."""
    for name in ("Tp", "Gt", "Au"):
        (folder / name).mkdir(parents=True)
    for number in range(forged):
        pixels = picture(number)
        mask = truth(number)
        pixels[mask] = 255 - pixels[mask]
        Image.fromarray(pixels).save(folder / "Tp" / f"t{number}.jpg", quality=70)
        write_mask(folder / "Gt" / f"t{number}.png", mask)
    for number in range(authentic):
        Image.fromarray(picture(100 + number)).save(folder / "Au" / f"a{number}.jpg", quality=90)
    return folder
