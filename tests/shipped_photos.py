"""A small folder of the photos, screens and CASIA v1 that `mini` is measured on: noise, and screens drawn by hand."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from model.evaluation.made import held_out
from tests.drawn_pictures import noise, page
from tests.model.data.made_mix import picture

LARGE_CAMERA = next(number for number in range(8) if sha256(f"Maker_M{number}".encode()).digest()[0] % 2 == 0)
"""Which is held out."""


def write_root(root: Path) -> Path:
    """Photos on both sides in each folder, cameras' photos, screens and pages on both sides, and a benchmark.

    One photo from the web and one of a camera, both held out, are large enough for copy-moves.
    """
    rng = np.random.default_rng(0)
    for folder in ("coco", "people", "web", "nature", "scenes", "cameras", "coco_instances", "people_masks"):
        (root / "photos" / folder).mkdir(parents=True)
    for folder in ("coco", "people", "web", "nature", "scenes"):
        names = [f"{folder}{number}.png" for number in range(200)]
        for side in (True, False):
            for name in [one for one in names if held_out(Path(one)) == side][:1]:
                picture(128, 208, rng).save(root / "photos" / folder / name)
    large = next(name for name in map("large{}.png".format, range(200)) if held_out(Path(name)))
    picture(512, 520, rng).save(root / "photos" / "web" / large)
    for number in range(8):
        picture(160, 256, rng).save(root / "photos" / "cameras" / f"Maker_M{number}_1.png")
        size = (512, 520) if number == LARGE_CAMERA else (136, 200)
        picture(*size, rng).save(root / "photos" / "cameras" / f"Maker_M{number}_2.png")
    for number, side in enumerate(("train", "test")):
        for folder in (root / "screens" / side, root / "screens" / "pages" / side):
            folder.mkdir(parents=True)
            for one in range(2):
                drawn = page(192, 256, dark=one == 1 and folder.parent.name == "screens", seed=2 * number + one)
                Image.fromarray(drawn).save(folder / f"{side}-layout{one}_{one:03}_png.png")
    for part in ("Tp", "Gt", "Au"):
        (root / "CASIA1" / part).mkdir(parents=True)
    mask = np.zeros((64, 96), np.uint8)
    mask[8:40, 8:48] = 255
    for number, kind in enumerate("DDDS"):
        pixels = noise(64, 96, deviation=60, seed=number)
        Image.fromarray(pixels).save(root / "CASIA1" / "Au" / f"Au_ani_{number}.png")
        Image.fromarray(pixels // 2).save(root / "CASIA1" / "Tp" / f"Sp_{kind}_{number}.png")
        Image.fromarray(mask).save(root / "CASIA1" / "Gt" / f"Sp_{kind}_{number}.png")
    return root
