"""The scripts that train, finish and measure `mini`, on small pictures made of noise."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model.calibration import Calibration
from model.checkpoint import inspect
from model.data.photo_bank import held_out
from model.evaluation import Cell

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = ("made_pictures", "parts_off", "mini_batches", "train_mini", "finish_mini", "measure_mini")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(SCRIPTS))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    sys.path.remove(str(SCRIPTS))
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos on both sides in each folder, composites, and a benchmark laid out like CASIA v1."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for folder in ("coco", "people", "web", "nature", "scenes"):
        (root / "photos" / folder).mkdir(parents=True)
        names = [f"{folder}{number}.png" for number in range(200)]
        for side, count in ((True, 4), (False, 3)):
            for name in [name for name in names if held_out(Path(name), 0.08) == side][:count]:
                pixels = cv2.GaussianBlur(rng.uniform(0, 255, (128, 160, 3)).astype(np.uint8), (0, 0), 1.5) * 2
                Image.fromarray(pixels).save(root / "photos" / folder / name)
    for folder in ("photos/coco_instances", "photos/people_masks", "composites/images", "composites/masks"):
        (root / folder).mkdir(parents=True)
    for folder in ("Tp", "Gt", "Au"):
        (root / "set" / folder).mkdir(parents=True)
    mask = np.zeros((64, 96), np.uint8)
    mask[8:40, 8:48] = 255
    for number, kind in enumerate("DDDS"):
        pixels = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "set" / "Au" / f"Au_ani_{number}.png")
        Image.fromarray(pixels // 2).save(root / "set" / "Tp" / f"Sp_{kind}_{number}.png")
        Image.fromarray(mask).save(root / "set" / "Gt" / f"Sp_{kind}_{number}.png")
    Image.fromarray(pixels).save(root / "set" / "Tp" / "Sp_S_nothing says what is forged.png")
    return root


def run(module: object, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    module.main()  # type: ignore[attr-defined]


def test_train_and_finish(
    scripts: SimpleNamespace,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = scripts.mini_batches
    for name, value in {
        "SHAPES": ((64, 64),),
        "SHAPE_SHARES": (1.0,),
        "TILED_SHAPES": ((96, 128),),
        "TILE": 64,
    }.items():
        monkeypatch.setattr(batches, name, value)
    monkeypatch.setattr(batches, "TILED_SIDE", 100)
    monkeypatch.setattr(scripts.train_mini, "VALIDATION_BATCHES", 2)
    start = SCRIPTS.parent / "model" / "weights" / "mini" / "model.safetensors"
    words = ("--data", data, "--out", tmp_path / "run", "--minutes", 1e-4, "--batch", 8, "--workers", 0)
    run(scripts.train_mini, monkeypatch, *words, "--init", start)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 1 and 0 <= rows[-1]["f1"] <= 1 and rows[-1]["n"] > 0
    run(scripts.train_mini, monkeypatch, *words)
    assert "going on from step 1" in capsys.readouterr().out

    monkeypatch.setattr(scripts.made_pictures, "SIZES", ((64, 96), (96, 64), (64, 64)))
    monkeypatch.setattr(scripts.finish_mini, "SIZES", ((64, 96), (96, 64), (64, 64)))
    monkeypatch.setattr(scripts.finish_mini, "calibration_of", lambda *_: Calibration(name="made"))
    out = tmp_path / "finished"
    (tmp_path / "earlier").mkdir()
    earlier = torch.load(tmp_path / "run" / "latest.pt", weights_only=True)
    bias = "localization.head.2.bias"
    earlier["average"][bias] = earlier["average"][bias] + 1
    torch.save(earlier, tmp_path / "earlier" / "latest.pt")
    words = ("--run", tmp_path / "run", "--data", data, "--out", out, "--count", 24)
    run(scripts.finish_mini, monkeypatch, *words, "--earlier", tmp_path / "earlier", "--earlier-share", 0.5)
    told = json.loads(capsys.readouterr().out)
    assert told["held_out"]["all forged"]["n"] == 12
    assert told["training"]["steps"] == 2
    assert inspect(str(out)).calibration.name == "made"
    last = torch.load(tmp_path / "run" / "latest.pt", weights_only=True)["average"][bias]
    expected = last + 0.5 + told["training"]["logit_shift"]
    assert torch.allclose(load_file(out / "model.safetensors")[bias].float(), expected, atol=2e-2)


def test_measure(
    scripts: SimpleNamespace,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scripts.made_pictures, "SIZES", ((64, 96), (96, 64), (64, 64)))
    monkeypatch.setattr(scripts.made_pictures, "SMALL_SIZE", (96, 128))
    monkeypatch.setattr(scripts.made_pictures, "SMALL", 0.1)
    words = ("--data", data, "--made", 24, "--small", 3, "--parts", 2, "--json", tmp_path / "m.json")
    run(scripts.measure_mini, monkeypatch, data / "set", *words)
    found = json.loads((tmp_path / "m.json").read_text())
    assert [problem["name"] for problem in found["problems"]] == ["Tp/Sp_S_nothing says what is forged.png"]
    assert "nothing says what is forged" in capsys.readouterr().err
    assert found["mini"]["f1"]["n"] == found["mini after JPEG 70"]["f1"]["n"] == 4
    assert (found["mini"]["splice"]["n"], found["mini"]["copy-move"]["n"]) == (3, 1)
    assert found["all forged"]["f1"]["value"] == pytest.approx(2 * 1280 / (6144 + 1280), abs=1e-4)
    assert found["made pictures"]["f1"]["n"] == 12
    assert found["regions under 1 % in 1024×768"]["f1"]["n"] == 3
    assert set(found["parts switched off, every 2. forged image"]) == set(scripts.parts_off.PARTS)
    assert len(found["bars"]) == 7
    assert found["bars"].pop("share of it kept after JPEG 70")["value"] is None  # of nothing
    for bar in found["bars"].values():
        below = bar["bar"].startswith("≤")
        assert bar["met"] == (bar["value"] <= float(bar["bar"][2:]) if below else bar["value"] >= float(bar["bar"][2:]))


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(0.3, False, True), (0.29, False, False), (0.3, True, True), (0.31, True, False), (None, False, False)],
)
def test_a_bar(scripts: SimpleNamespace, value: float | None, at_most: bool, met: bool) -> None:
    assert scripts.measure_mini.Bar("x", 0.3, Cell(value, 5), at_most).to_dict()["met"] is met


def test_pictures_of_one_photo_are_drawn_together(scripts: SimpleNamespace) -> None:
    measure = scripts.measure_mini
    values = [0.0] * 50 + [1.0] * 50
    alike = measure.by_photo(measure.mean_of(values), [0] * 50 + [1] * 50)
    apart = measure.by_photo(measure.mean_of(values), list(range(100)))
    assert (alike.value, alike.low, alike.high) == (0.5, 0.0, 1.0)
    assert 0.38 < apart.low < apart.high < 0.62


def test_a_set_without_forged_images_says_so(
    scripts: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Tp").mkdir()
    (tmp_path / "Gt").mkdir()
    (tmp_path / "Au").symlink_to(data / "set" / "Au")
    with pytest.raises(SystemExit, match="0 forged images with a mask and 4 authentic"):
        run(scripts.measure_mini, monkeypatch, tmp_path)


def test_tiles_hold_what_was_forged(scripts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = scripts.mini_batches
    mask = np.zeros((768, 1024), bool)
    mask[700:720, 1000:1020] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        (top, left), anywhere = batches.corners(mask, rng)
        assert mask[top : top + batches.TILE, left : left + batches.TILE].any()
        assert top % 8 == left % 8 == 0 and top <= 768 - batches.TILE and left <= 1024 - batches.TILE
        assert 0 <= anywhere[0] <= 768 - batches.TILE and anywhere[1] % 8 == 0
