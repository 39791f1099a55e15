"""A small bank of photos with object masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the extra `train` is not installed")

from model.data.source_photos import SourcePhotos, checked_size, find_source_photos
from tests.drawn_pictures import page


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> SourcePhotos:
    """Four photos of 400×300 with a mask of 150×120 each; one file beside them is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    (folder / "masks").mkdir()
    for number in range(4):
        coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        grain = rng.normal(0, 10, (300, 400, 3))
        pixels = np.asarray(Image.fromarray(coarse).resize((400, 300)), np.float64) + grain
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / "photos" / f"p{number}.png")
        mask = np.zeros((300, 400), np.uint8)
        mask[80:200, 100:250] = 255
        Image.fromarray(mask).save(folder / "masks" / f"m_p{number}_7.png")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    found = find_source_photos([folder / "photos"], [(folder / "masks", "m_")])
    return found.checked(lambda path: checked_size(path, 1.0))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> SourcePhotos:
    """Three pages of 384×256 with words, the last one light on dark."""
    folder = tmp_path_factory.mktemp("pages")
    for number in range(3):
        Image.fromarray(page(dark=number == 2, seed=number)).save(folder / f"page{number}.png")
    return find_source_photos([folder]).checked(lambda path: checked_size(path, 1.0))
