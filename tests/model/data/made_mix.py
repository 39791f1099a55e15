"""A mix of drawn photos for recipes that make their samples, and such a recipe, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from model.training.options import RECIPES
from tests.drawn_pictures import page

TILES = ((64, 64), (64, 96))


def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made pictures of the end of a training, small."""
    sizes = {"SIZES": ((64, 96), (96, 64), (64, 64)), "SMALL_SIZE": (96, 128), "SMALL": 0.1, "NATIVE": (160, 256)}
    for name, value in sizes.items():
        monkeypatch.setattr(f"model.data.made_pictures.{name}", value)


def picture(height: int, width: int, rng: np.random.Generator) -> Image.Image:
    """Noise of a few pixels' size."""
    values = rng.uniform(0, 255, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(np.asarray(cv2.GaussianBlur(values, (0, 0), 1.5)) * 2)


def write_mix(root: Path) -> Path:
    """A mix.yaml with photos, cameras, screens, pages and composites."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "cameras", "screens", "pages", "images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(24):
        picture(128, 208, rng).save(root / "photos" / f"p{number}.png")
        picture(64, 96, rng).save(root / "images" / f"c{number}.jpg")
        mask = np.kron([[0, 255]], np.ones((64, 48))).astype(np.uint8)
        Image.fromarray(mask).save(root / "masks" / f"c{number}.png")
    for camera in range(10):
        for number in range(2):
            picture(160, 256, rng).save(root / "cameras" / f"Maker_M{camera}_{number}.png")
            for folder in ("screens", "pages"):
                drawn = page(192, 256, dark=camera % 2 == 1 and folder == "screens", seed=2 * camera + number)
                Image.fromarray(drawn).save(root / folder / f"layout{camera}_{number}.png")
    sources: list[dict[str, Any]] = [
        {"name": "photos", "forge": {"photos": "photos"}},
        {"name": "cameras", "forge": {"photos": "cameras", "photo": r"^(.+)_\d$"}},
        {"name": "screens", "authentic": {"folders": "screens", "photo": r"^(.+)_\d$"}},
        {"name": "pages", "forge": {"photos": "pages", "photo": r"^(.+)_\d$"}},
        {"name": "composites", "pairs": {"images": "images", "masks": "masks"}},
    ]
    mix = {"validation": {"share": 0.3, "calibration_share": 0.3}, "sources": sources}
    (root / "mix.yaml").write_text(yaml.safe_dump(mix))
    return root / "mix.yaml"


def recipe() -> dict[str, Any]:
    """That of `mini`, with small pictures."""
    values: dict[str, Any] = yaml.safe_load((RECIPES / "mini.yaml").read_text("utf-8"))
    values["made"] |= {
        "small_sizes": {"64x64": 0.7, "96x64": 0.3}, "large_sizes": ["256x320"], "native_sizes": ["96x128"],
        "tiles": ["64x64", "64x96"], "large_side": 200, "start": 24, "views": 2,
    }  # fmt: skip
    values["finish"] |= {"shifts": [0], "regions": [[1.0, 8]]}
    values["calibration_samples"] = 30
    return values
