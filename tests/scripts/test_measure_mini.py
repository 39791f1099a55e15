"""The script that measures `mini`, on small pictures and with a small network, and the split that it measures by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.calibration import Calibration
from model.clue import build
from model.data.filling import load_autoencoder
from model.data.made_pictures import Made
from model.data.source_photos import SourcePhotos
from model.evaluation import Estimate
from model.storage import save
from tests.drawn_pictures import noise
from tests.scripts.conftest import SMALL


def run(module: object, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    module.main()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Canon_EOS_5D_1.jpg", "Canon_EOS_5D"),
        ("Canon_EOS_5D_12.jpg", "Canon_EOS_5D_12"),
        ("Nikon_D70_3_crop.jpg", "Nikon_D70"),
        ("Nikon_D70_iptc.jpg", "Nikon_D70"),
        ("Nikon_D70_2_iptc_crop.jpg", "Nikon_D70"),
        ("sfm_fountain_0012.jpg", "sfm_fountain"),
    ],
)
def test_the_name_of_a_file_says_the_camera(scripts: SimpleNamespace, name: str, model: str) -> None:
    assert scripts.shipped_split.camera_model(Path(name)) == model


def test_what_was_held_out(scripts: SimpleNamespace, data: Path, screens: Path) -> None:
    split = scripts.shipped_split
    there = split.held_out_materials(data, screens)
    trained = split.photos(data, validation=False)
    assert all(split.held_out(path) for path in there.photos.paths)
    assert trained.paths and not {*trained.paths} & {*there.photos.paths}
    assert 0 < len(there.cameras.paths) < 16
    names: list[tuple[SourcePhotos, Callable[[Path], str]]] = [
        (there.screens, there.names["screens"]),
        (there.pages, there.names["pages"]),
    ]
    assert all(of(path).startswith("test-") for bank, of in names for path in bank.paths)
    assert split.held_out_materials(data, None).screens is None


def test_a_filler_is_trained(
    scripts: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--data", data, "--out", tmp_path, "--downs", 1, "--channels", 4, "--minutes", 1e-4)
    run(scripts.train_filler, monkeypatch, *words)
    pixels = noise(40, 56)
    assert load_autoencoder(tmp_path)(pixels).shape == pixels.shape


BARS = {
    "F1 on CASIA v1",
    "share of it kept after JPEG 70",
    "image-level AUC on CASIA v1, both classes re-encoded as JPEG 90",
    "area marked on authentic images of CASIA v1",
    "camera originals called forged",
    "camera originals called inconclusive",
    "screens, drawings and pages called forged",
    "image-level AUC, forgeries from camera originals against untouched ones",
    "forgeries from camera originals called forged",
    "F1 on copy-moves of 512² and more",
    "F1 on pictures with several splices",
    "F1 on documents",
    "F1 on regions under 1 % in made pictures of 1024×768",
}


@pytest.mark.usefixtures("small")
def test_measure(
    scripts: SimpleNamespace,
    data: Path,
    screens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    save(tmp_path / "model", build(SMALL), Calibration(name="tiny"), {}, dtype=torch.float32)
    words = ("--model", tmp_path / "model", "--dtype", "float32", "--data", data, "--screens", screens)
    more = ("--scale", 0.02, "--parts", 2, "--json", tmp_path / "m.json")
    run(scripts.measure_mini, monkeypatch, data / "set", *words, *more)
    found = json.loads((tmp_path / "m.json").read_text())
    assert [problem["name"] for problem in found["problems"]] == ["Tp/Sp_S_nothing says what is forged.png"]
    assert "nothing says what is forged" in capsys.readouterr().err
    assert found["mini"]["f1"]["n"] == found["mini after JPEG 70"]["f1"]["n"] == 4
    assert (found["mini"]["splice"]["n"], found["mini"]["copy-move"]["n"]) == (3, 1)
    assert found["all forged"]["f1"]["value"] == pytest.approx(2 * 1280 / (6144 + 1280), abs=1e-4)
    assert found["native"]["auc"]["n"] == 4 and found["screen"]["untouched called forged"]["n"] == 2
    assert found["small regions"]["f1"]["n"] == 5 and found["copy-moves"]["sources"] <= 2
    assert set(found["parts switched off, every 2. forged image"]) == set(scripts.parts_off.PARTS)
    assert set(found["bars"]) == BARS
    for bar in found["bars"].values():
        below, limit = bar["bar"].startswith("≤"), float(bar["bar"][2:])
        value = bar["value"]
        assert bar["met"] == (value is not None and (value <= limit if below else value >= limit))


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(0.3, False, True), (0.29, False, False), (0.3, True, True), (0.31, True, False), (None, False, False)],
)
def test_a_bar(scripts: SimpleNamespace, value: float | None, at_most: bool, met: bool) -> None:
    assert scripts.measure_mini.Bar("x", 0.3, Estimate(value, 5), at_most).to_dict()["met"] is met


def test_pictures_of_one_photo_are_drawn_together(scripts: SimpleNamespace) -> None:
    measure = scripts.measure_mini
    values = [0.0] * 50 + [1.0] * 50
    alike = measure.by_photo(measure.mean_of(values), ["a"] * 50 + ["b"] * 50)
    apart = measure.by_photo(measure.mean_of(values), [str(number) for number in range(100)])
    assert (alike.value, alike.low, alike.high) == (0.5, 0.0, 1.0)
    assert 0.38 < apart.low < apart.high < 0.62


def test_figures_are_by_group(scripts: SimpleNamespace) -> None:
    measure, empty = scripts.measure_mini, np.zeros((0, 4, 3), np.uint8)
    told = [
        ("native", "splice", "a", 0.8, 0.9, "forged"),
        ("native", "removal", "b", 0.2, 0.6, "inconclusive"),
        ("native", "authentic", "a", float("nan"), 0.1, "no_evidence"),
        ("native", "authentic", "b", float("nan"), 0.7, "forged"),
        ("screen", "authentic", "c", float("nan"), 0.3, "inconclusive"),
    ]
    found = [
        measure.Judged(Made(empty, empty[..., 0] > 0, group, kind, source), f1, 0.25, score, said)
        for group, kind, source, f1, score, said in told
    ]
    figures = measure.figures_of_made(found)
    assert set(figures) == {"native", "screen"} and "f1" not in figures["screen"]
    assert figures["native"]["sources"] == 2 and figures["native"]["f1"]["value"] == pytest.approx(0.5)
    assert figures["native"]["f1 removal"] == {"value": 0.2, "n": 1, "low": 0.2, "high": 0.2}
    assert figures["native"]["auc"]["value"] == 0.75
    assert figures["native"]["forged called forged"]["value"] == 0.5
    assert figures["native"]["untouched called forged"]["value"] == 0.5
    assert figures["screen"]["untouched called inconclusive"]["value"] == 1
    assert figures["screen"]["marked on untouched"]["value"] == 0.25


def test_a_set_without_forged_images_says_so(
    scripts: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Tp").mkdir()
    (tmp_path / "Gt").mkdir()
    (tmp_path / "Au").symlink_to(data / "set" / "Au")
    with pytest.raises(SystemExit, match="0 forged images with a mask and 4 authentic"):
        run(scripts.measure_mini, monkeypatch, tmp_path)
