"""Calibration pictures: from their own side, both kinds alike in number and size, or a reason why there are none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.calibration_pictures import FEWEST_PHOTOS, CalibrationPictures
from model.data.mix import Authentic, Forge, MaskFolder, Mix, Pairs, Shape, Source, Validation

SPLIT = Validation(0.2, 1, 0.4)
LARGE, SMALL = Shape(96, 128), Shape(64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pairs, every other mask black, and 160 photos, all of 140×100; the red says which photo it is."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "photos"):
        (root / name).mkdir()
    for number in range(160):
        pixels = rng.integers(0, 256, (100, 140, 3), dtype=np.uint8)
        mask = np.zeros((100, 140), np.uint8)
        mask[20:60, 30:90] = 255 * (number % 2)
        pixels[..., 0] = number
        Image.fromarray(pixels).save(root / "images" / f"c{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"c{number}.png")
        Image.fromarray(pixels).save(root / "photos" / f"p{number}.png")
    return root


def mix_of(*data: Any, shapes: tuple[Shape, ...] = (LARGE, SMALL), split: Validation = SPLIT) -> Mix:
    return Mix(Path("mix.yaml"), tuple(Source(f"{n}", 1, d) for n, d in enumerate(data)), split, shapes)


def pairs(folder: Path, **options: Any) -> Pairs:
    return Pairs(folder / "images", folder / "masks", **options)


def test_as_many_of_each_kind_half_and_size(folder: Path) -> None:
    made = CalibrationPictures(mix_of(pairs(folder), Authentic((folder / "photos",)), Forge((folder / "photos",))), 3)
    assert (made.problem, made.shapes) == ("", (LARGE, SMALL))
    drawn = list(made.pictures(32))
    assert len(drawn) == 32
    for half in (0, 1):
        for forged in (False, True):
            sizes = [pixels.shape for label, pixels in drawn if label == (half, forged)]
            assert sorted(sizes) == [(64, 64, 3)] * 4 + [(96, 128, 3)] * 4
    again = CalibrationPictures(made.mix, 3).pictures(32)
    assert all(a == b and np.array_equal(x, y) for (a, x), (b, y) in zip(drawn, again, strict=True))
    other = CalibrationPictures(made.mix, 4).pictures(32)
    assert not all(np.array_equal(x, y) for (_, x), (_, y) in zip(drawn, other, strict=True))


def test_halves_share_no_photo_and_black_masks_are_authentic(folder: Path) -> None:
    made = CalibrationPictures(mix_of(pairs(folder), shapes=(SMALL,)))
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    for (half, forged), pixels in made.pictures(80):
        number = int(np.median(pixels[..., 0]))
        assert number % 2 == forged
        seen[half].add(number)
    assert not seen[0] & seen[1]
    assert made.photos >= len(seen[0] | seen[1]) >= 4 * FEWEST_PHOTOS


def test_a_size_that_one_kind_would_be_enlarged_for_is_left_out(folder: Path, tmp_path: Path) -> None:
    for number in range(160):
        Image.new("RGB", (70, 70)).save(tmp_path / f"small{number}.png")
    strict = pairs(folder, empty_masks="damaged")
    assert CalibrationPictures(mix_of(strict, Authentic((tmp_path,)))).shapes == (SMALL,)


@pytest.mark.parametrize(
    ("sources", "changes", "problem"),
    [
        (["pairs"], {"calibration_share": 0.0}, "calibration_share is 0"),
        (["pairs"], {"calibration_share": 0.02}, "photos of (authentic|forged) pictures with 64×64 pixels or more"),
        (["forged"], {}, "has 0 photos of authentic pictures"),
        (["photos"], {}, "has 0 photos of forged pictures"),
        (["none"], {}, "has 0 photos"),
    ],
    ids=["turned off", "too few photos", "nothing authentic", "nothing forged", "nothing readable"],
)
def test_why_there_are_none(
    folder: Path, tmp_path: Path, sources: list[str], changes: dict[str, float], problem: str
) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    known = {
        "pairs": pairs(folder),
        "forged": pairs(folder, empty_masks="damaged"),
        "photos": Authentic((folder / "photos",)),
        "none": Forge((tmp_path,)),
    }
    made = CalibrationPictures(mix_of(*(known[name] for name in sources), split=replace(SPLIT, **changes)))
    assert re.search(problem, made.problem)
    assert list(made.pictures(8)) == []


def test_files_that_turn_out_damaged_leave_fewer(folder: Path, tmp_path: Path) -> None:
    for number in range(160):
        data = (folder / "photos" / f"p{number}.png").read_bytes()
        (tmp_path / f"p{number}.png").write_bytes(data[: len(data) // 2])
    made = CalibrationPictures(mix_of(pairs(folder, empty_masks="damaged"), Authentic((tmp_path,))))
    assert {label.forged for label, _ in made.pictures(8)} == {True}
    forged = CalibrationPictures(mix_of(Forge((tmp_path,))))
    assert forged.problem == ""
    assert list(forged.pictures(4)) == []
    objects = CalibrationPictures(mix_of(Forge((folder / "photos",), (MaskFolder(tmp_path),))))  # damaged masks
    assert {label.forged for label, _ in objects.pictures(8)} == {False, True}
