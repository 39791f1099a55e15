"""A folder of photos with a damaged one, and masks of objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the extra `train` is not installed")


def write_photo(path: Path, seed: int, width: int = 160, height: int = 120) -> None:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(coarse, np.float64) + rng.normal(0, 8, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[271] = "A camera"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=92, exif=exif)


def write_mask(path: Path, width: int = 160, height: int = 120) -> None:
    mask = np.zeros((height, width), np.uint8)
    mask[30:80, 40:100] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of 160×120, one of them in a folder, and nothing else. Read it only."""
    folder = tmp_path_factory.mktemp("forging") / "photos"
    for number in range(3):
        write_photo(folder / f"p{number}.jpg", number)
    write_photo(folder / "more" / "cat.png", 3)
    return folder


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of two of the photos, and one that belongs to none."""
    folder = tmp_path_factory.mktemp("forging") / "masks"
    write_mask(folder / "p0_1.png")
    write_mask(folder / "set_cat_7.png")
    write_mask(folder / "nobody.png")
    return folder
