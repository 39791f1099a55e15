"""The scripts about `mini` as modules, and what they work with, small: photos made of noise, screens drawn by hand."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from model.preset import Preset, TileSpec
from model.presets import PRESETS
from tests.drawn_pictures import noise, page
from tests.model.data.made_mix import picture, small_pictures
from tests.tiny_model import TINY

SCRIPTS = Path(__file__).parents[2] / "scripts"
MODULES = ("shipped_split", "train_filler", "parts_off", "measure_mini")
LARGE_CAMERA = next(number for number in range(8) if sha256(f"Maker_M{number}".encode()).digest()[0] % 2 == 0)
"""Which is held out."""
SMALL: Preset = dataclasses.replace(TINY, tile=TileSpec(size=512, overlap=64))
"""What stands for `mini`."""


@contextmanager
def modules_of_scripts(*names: str) -> Iterator[SimpleNamespace]:
    """Some of the scripts as modules; what importing them does to the process is undone."""
    before, environment, threads = set(sys.modules), dict(os.environ), torch.get_num_threads()
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in set(names) & (set(sys.modules) - before):
            del sys.modules[name]
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """Those that make, finish and measure `mini`."""
    with modules_of_scripts(*MODULES) as found:
        yield found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, small made pictures, and large ones searched reduced."""
    monkeypatch.setitem(PRESETS, "mini", SMALL)
    monkeypatch.setattr("model.self_match.LARGEST", 128 * 160)
    small_pictures(monkeypatch)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos on both sides in each folder, cameras' photos, and a benchmark laid out like CASIA v1.

    One photo from the web and one of a camera, both held out, are large enough for copy-moves.
    """
    root = tmp_path_factory.mktemp("data")
    with modules_of_scripts("shipped_split") as found:
        held_out = found.shipped_split.held_out
    rng = np.random.default_rng(0)
    for folder in ("coco", "people", "web", "nature", "scenes"):
        (root / "photos" / folder).mkdir(parents=True)
        names = [f"{folder}{number}.png" for number in range(200)]
        for side in (True, False):
            for name in [name for name in names if held_out(Path(name)) == side][:2]:
                picture(128, 208, rng).save(root / "photos" / folder / name)
    large = next(name for name in map("large{}.png".format, range(200)) if held_out(Path(name)))
    picture(512, 520, rng).save(root / "photos" / "web" / large)
    (root / "photos" / "cameras").mkdir()
    for number in range(8):
        picture(160, 256, rng).save(root / "photos" / "cameras" / f"Maker_M{number}_1.png")
        size = (512, 520) if number == LARGE_CAMERA else (136, 200)
        picture(*size, rng).save(root / "photos" / "cameras" / f"Maker_M{number}_2.png")
    for folder in ("photos/coco_instances", "photos/people_masks"):
        (root / folder).mkdir(parents=True)
    for folder in ("Tp", "Gt", "Au"):
        (root / "set" / folder).mkdir(parents=True)
    mask = np.zeros((64, 96), np.uint8)
    mask[8:40, 8:48] = 255
    for number, kind in enumerate("DDDS"):
        pixels = noise(64, 96, deviation=60, seed=number)
        Image.fromarray(pixels).save(root / "set" / "Au" / f"Au_ani_{number}.png")
        Image.fromarray(pixels // 2).save(root / "set" / "Tp" / f"Sp_{kind}_{number}.png")
        Image.fromarray(mask).save(root / "set" / "Gt" / f"Sp_{kind}_{number}.png")
    Image.fromarray(pixels).save(root / "set" / "Tp" / "Sp_S_nothing says what is forged.png")
    return root


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Screens and pages on both sides, as make_screens.py lays them out."""
    root = tmp_path_factory.mktemp("screens")
    for number, side in enumerate(("train", "test")):
        for folder in (root / side, root / "pages" / side):
            folder.mkdir(parents=True)
            for one in range(2):
                drawn = page(192, 256, dark=one == 1 and folder.parent == root, seed=2 * number + one)
                Image.fromarray(drawn).save(folder / f"{side}-layout{one}_{one:03}_png.png")
    return root
