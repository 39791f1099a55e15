"""A mix on the disk for the tests of `clue train`, and an accelerate of its own for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from tests.model.training.made import QUICK


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its choices for the whole process; a training is one process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs, one of them damaged, authentic pictures, a mix and a preset."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "authentic"):
        (root / name).mkdir()
    for number in range(16):
        pixels, mask = rng.normal(100, 20, (64, 80, 3)), np.zeros((64, 80), np.uint8)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "authentic" / f"{number}.png")
        mask[8:40, 8:48] = 255
        pixels[mask > 0] += 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"pair {number}.png")
        Image.fromarray(mask).save(root / "masks" / f"pair {number}.png")
    broken = root / "images" / "broken.png"
    broken.write_bytes(b"\x89PNG, and no more")
    Image.fromarray(mask).save(root / "masks" / "broken.png")
    sources = [{"pairs": {"images": "images", "masks": "masks"}, "weight": 3}, {"authentic": "authentic"}]
    mix = {"sources": sources, "shapes": [64], "validation": {"share": 0.4}}
    (root / "mix.yaml").write_text(json.dumps(mix))
    (root / "odd.yaml").write_text(json.dumps(mix | {"shapes": [72]}))
    (root / "wrong.yaml").write_text("sources:\n  - pears: {}\n")
    (root / "quick.yaml").write_text(json.dumps(QUICK.to_dict()))
    return root
