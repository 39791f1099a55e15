"""The contact sheet: a picture a person can look at before hours of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the extra `train` is not installed")

from model.data.contact_sheet import OUTLINE, contact_sheet, outlined
from model.data.mix import Authentic, Mix, Pairs, Shape, Source, Validation
from model.data.stream import Stream
from model.images.pixels import DamagedFileError


def test_an_outline_lies_around_the_region_and_leaves_it_visible() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:12] = True
    drawn = outlined(pixels, mask)
    marked = (drawn == OUTLINE).all(axis=2)
    assert not marked[mask].any()
    assert marked[6:14, 6:14].sum() == 64 - 16
    assert marked.sum() == 48
    assert not pixels.any()


def test_a_sheet_shows_samples_outlined(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "a.png")
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 22)).save(tmp_path / "a_gt.png")
    source = Source("own\x1b[2J ✓", 1, Pairs(tmp_path, tmp_path, "_gt", fit_masks=True))
    mix = Mix(Path("mix.yaml"), (source,), Validation(0), (Shape(64, 64),))
    contact_sheet(Stream(mix), tmp_path / "sheet.png", count=5, columns=3, side=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (2 * (64 + 18), 3 * 68, 3)
    assert (pixels == OUTLINE).all(axis=2).any()


def test_nothing_to_show_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    mix = Mix(Path("mix.yaml"), (Source("s", 1, Authentic((tmp_path,))),), Validation(0))
    with pytest.raises(DamagedFileError, match=r"no image can be read; the last: .+a\.jpg"):
        contact_sheet(Stream(mix), tmp_path / "sheet.png", count=2)
    assert not (tmp_path / "sheet.png").exists()
