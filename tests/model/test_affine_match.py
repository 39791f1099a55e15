"""Copies that were moved, turned, scaled or mirrored are seen at both places; what does not repeat is not."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from model.affine_match import CHANNELS, affine_match, transforms
from model.keypoints import keypoints
from tests.model.test_keypoints import textured, turned

LIKE, LIKE_NARROW, SUPPORT, SHARE, SCALE, TURN = range(CHANNELS)
MIRROR = np.array([[-1.0, 0, 300], [0, 1.0, 60]])


def copied(matrix: np.ndarray, quality: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of which an ellipse was copied to where the matrix sends it; both places, as masks."""
    y = textured(256, 384, seed=11).numpy()
    rows, columns = np.mgrid[:256, :384]
    source = ((columns - 90) / 45) ** 2 + ((rows - 80) / 40) ** 2 < 1
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    swap = [1, 0]
    args = back[:2, :2][swap][:, swap], back[:2, 2][swap]
    moved = ndimage.affine_transform(y, *args, order=3)
    target = ndimage.affine_transform(source.astype(np.float32), *args, order=1) > 0.5
    y = np.where(target, moved, y).clip(0, 255).astype(np.float32)
    if quality is not None:
        buffer = io.BytesIO()
        Image.fromarray(y.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        y = np.asarray(Image.open(buffer), np.float32)
    return y, source, target


def cells(mask: np.ndarray) -> np.ndarray:
    """Cells that lie within the mask with the window around them."""
    inner = ndimage.binary_erosion(mask, iterations=8)
    whole: np.ndarray = inner.reshape(32, 8, 48, 8).all((1, 3))
    return whole


@pytest.mark.parametrize("quality", [None, 80])
@pytest.mark.parametrize(
    ("matrix", "scale", "turn"),
    [
        pytest.param(turned(0, 1, 150, 90), 0.0, 0.0, id="moved"),
        pytest.param(turned(0, 1, 151.5, 90.5), 0.0, 0.0, id="moved by half a pixel"),
        pytest.param(turned(30, 1, 220, 50), 0.0, 30 / 180, id="turned"),
        pytest.param(turned(0, 1.3, 130, 60), math.log(1.3), 0.0, id="enlarged"),
        pytest.param(turned(0, 0.75, 200, 100), math.log(0.75), 0.0, id="shrunk"),
        pytest.param(MIRROR, 0.0, 1.0, id="mirrored"),
    ],
)
def test_copy_is_seen_at_both_places(matrix: np.ndarray, scale: float, turn: float, quality: int | None) -> None:
    y, source, target = copied(matrix, quality)
    found = transforms(keypoints(torch.from_numpy(y)))
    there = found[0][0].numpy()
    back = np.linalg.inv(np.vstack([there, [0, 0, 1]]))[:2]  # the way back is the same evidence
    inside = np.array([[90, 80, 1], [110, 95, 1], [70, 65, 1]]).T
    assert min(np.abs(fit @ inside - matrix @ inside).max() for fit in (there, back)) < 1.5

    maps = affine_match(y)
    outside = ~(source | target).reshape(32, 8, 48, 8).any((1, 3))
    for place, sign in ((cells(source & ~target), 1), (cells(target), -1)):
        assert place.sum() > 10
        assert np.median(maps[LIKE][place]) > 0.7
        assert np.median(maps[SCALE][place]) == pytest.approx(sign * scale, abs=0.05)
        assert np.median(maps[TURN][place]) == pytest.approx(turn, abs=0.03)
        assert (maps[SUPPORT][place] > math.log1p(4) / 5 - 1e-6).mean() > 0.8
        assert (maps[SHARE][place] > 0.5).mean() > 0.8
    assert maps[LIKE][outside].mean() < 0.2
    assert maps[LIKE_NARROW].shape == (32, 48)


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(textured(256, 384, seed=5).numpy(), id="nothing repeats"),
        pytest.param(np.full((128, 128), 200, np.float32), id="flat"),
        pytest.param(np.zeros((32, 32), np.float32), id="small"),
        pytest.param(np.random.default_rng(1).uniform(0, 255, (128, 256)).astype(np.float32), id="noise"),
    ],
)
def test_what_does_not_repeat_is_not_seen(y: np.ndarray) -> None:
    maps = affine_match(y)
    assert maps.shape == (CHANNELS, y.shape[0] // 8, y.shape[1] // 8)
    assert maps.dtype == np.float32
    assert not maps.any()


@pytest.mark.parametrize("period", [24, 40])
def test_a_periodic_picture_stays_finite(period: int) -> None:
    """Wallpaper repeats everywhere: whatever is said of it, it is said in finite numbers."""
    tile = textured(period, period, seed=2).numpy()
    maps = affine_match(np.tile(tile, (10, 10))[:192, :192])
    assert np.isfinite(maps).all()
    assert np.abs(maps).max() <= max(1.0, math.log(3), math.log1p(1000) / 5)
