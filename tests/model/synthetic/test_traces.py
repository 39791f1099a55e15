"""The method that is shipped: what it judges, what it refuses, and what its files must be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from skimage import data

from model.synthetic import METHOD_FILE, MethodError, describe, load
from model.synthetic.spectra import TILE, statistics
from model.synthetic.traces import FOLDER, TILES, WEIGHTS_FILE, Traces, tiles_of
from model.synthetic.verdict import judge_synthetic


@pytest.fixture(scope="module")
def shipped() -> Traces:
    detector = load(describe("traces"), "cpu", torch.float32)
    assert isinstance(detector, Traces)
    return detector


def test_untouched_photographs_of_scikit_image_are_not_called_generated(shipped: Traces) -> None:
    method = describe("traces")
    for photo in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket()):
        detection = shipped.detect(photo)
        judgment = judge_synthetic(detection.score, method.calibration, photo.shape[0] * photo.shape[1] / 1e6)
        assert judgment.verdict != "generated", judgment


def test_the_same_pixels_give_the_same_answer(shipped: Traces) -> None:
    photo = data.coffee()
    assert shipped.detect(photo) == shipped.detect(np.asfortranarray(photo))


@pytest.mark.parametrize("shape", [(255, 900), (900, 255), (1, 1)])
def test_a_picture_smaller_than_a_tile_is_refused(shipped: Traces, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="too small"):
        shipped.detect(np.zeros((*shape, 3), np.uint8))


def test_a_uniform_picture_and_a_drawing_are_refused(shipped: Traces) -> None:
    grey = np.full((512, 512, 3), 100, np.uint8)
    with pytest.raises(ValueError, match=r"uniform|screen"):
        shipped.detect(grey)
    drawing = np.full((512, 512, 3), 255, np.uint8)
    drawing[64:256, 64:400] = (0, 0, 200)
    drawing[300:330:6, 50:450] = 0
    with pytest.raises(ValueError, match="screen or a drawing"):
        shipped.detect(drawing)


@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (300, 5000), (4000, 3000), (9000, 260), (260, 9000), (2048, 2048)]
)
def test_tiles_are_few_inside_and_on_the_grid(height: int, width: int) -> None:
    pixels = np.broadcast_to(np.arange(height * width, dtype=np.uint32).reshape(height, width, 1), (height, width, 3))
    tiles = tiles_of(pixels)  # type: ignore[arg-type]
    assert 1 <= len(tiles) <= TILES
    for tile in tiles:
        assert tile.shape == (TILE, TILE, 3)
        top, left = divmod(int(tile[0, 0, 0]), width)
        assert top % 8 == left % 8 == 0


def test_scores_of_tiles_are_log_probabilities(shipped: Traces) -> None:
    found = np.stack([statistics(data.coffee()[:TILE, :TILE]), np.full(shipped.mean.shape, 1e9, np.float32)])
    logs = shipped.of_tiles(found)
    assert np.allclose(np.exp(logs).sum(1), 1) and np.isfinite(logs).all()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(FOLDER, folder)
    assert describe(str(folder)).name == "mine"
    (folder / WEIGHTS_FILE).write_bytes((FOLDER / WEIGHTS_FILE).read_bytes()[:100])
    with pytest.raises(MethodError, match=WEIGHTS_FILE):
        load(describe(str(folder)), "cpu", torch.float32)
    weights = load_file(FOLDER / WEIGHTS_FILE)
    save_file(weights | {"b1": weights["b1"][:, :-1].copy()}, folder / WEIGHTS_FILE)
    with pytest.raises(MethodError, match="b1"):
        load(describe(str(folder)), "cpu", torch.float32)
    content = json.loads((folder / METHOD_FILE).read_text())
    for wrong in ({"format": 9}, {"kind": "pickle"}, {"calibration": {"score_threshold": 7}}):
        (folder / METHOD_FILE).write_text(json.dumps(content | wrong))
        with pytest.raises(MethodError, match=METHOD_FILE):
            describe(str(folder))
    with pytest.raises(MethodError, match="no method"):
        describe(str(tmp_path / "nothing"))
