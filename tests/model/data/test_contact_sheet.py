"""The contact sheet: a picture a person can look at before hours of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.description import CAPTION, OUTLINE, contact_sheet, marked
from model.data.mix import Authentic, Mix, Pairs, Shape, Source, Validation
from model.data.stream import Stream
from model.images.pixels import DamagedFileError


def test_the_region_is_tinted_and_outlined() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:12] = True
    drawn = marked(pixels, mask)
    line = (drawn == OUTLINE).all(axis=2)
    assert (drawn[mask] == [int(0.4 * channel) for channel in OUTLINE]).all()
    assert line[6:14, 6:14].sum() == 64 - 16
    assert line.sum() == 48
    assert not drawn[~mask & ~line].any()
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


def test_a_label_lies_below_its_own_picture(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "a.png")
    mix = Mix(Path("mix.yaml"), (Source("s", 1, Authentic((tmp_path,))),), Validation(0), (Shape(64, 64),))
    contact_sheet(Stream(mix), tmp_path / "sheet.png", count=1, columns=1, side=192)
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows = np.flatnonzero((np.asarray(sheet.convert("L")) < 100).any(axis=1))
    assert rows.max() < 64 + CAPTION


def test_nothing_to_show_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    mix = Mix(Path("mix.yaml"), (Source("s", 1, Authentic((tmp_path,))),), Validation(0))
    with pytest.raises(DamagedFileError, match=r"no image can be read; the last: .+a\.jpg"):
        contact_sheet(Stream(mix), tmp_path / "sheet.png", count=2)
    assert not (tmp_path / "sheet.png").exists()
