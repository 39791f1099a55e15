"""Keypoints are found again where the picture is moved, turned, scaled or mirrored, and nowhere in a flat one."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from model import affine_match as matching
from model import keypoints as module
from model.affine_match import TRANSFORM_MAPS, affine_match, transforms, transforms_of
from model.keypoints import MOST, PIXELS_PER_KEYPOINT, Keypoints, keypoints


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    """Blobs of several sizes."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((height, width)), s) * s for s in (1.2, 2.5, 5)]
    return torch.from_numpy((128 + 60 * sum(layers)).clip(0, 255).astype(np.float32))


def warped(y: Tensor, matrix: np.ndarray) -> Tensor:
    """The picture in which what was at (x, y) is at matrix·(x, y, 1)."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    swap = [1, 0]  # ndimage counts rows first
    out = ndimage.affine_transform(y.numpy(), back[:2, :2][swap][:, swap], back[:2, 2][swap], order=3)
    return torch.from_numpy(out.astype(np.float32))


def turned(degrees: float, scale: float, dx: float, dy: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return np.array([[c, -s, dx], [s, c, dy]])


def found_again(a: Keypoints, b: Keypoints, matrix: np.ndarray, mirrored: bool) -> tuple[float, float]:
    """Share of a's keypoints with a distinct partner in b, and the share of these that lie where they should."""
    likeness, index = ((a.mirrored if mirrored else a.descriptors) @ b.descriptors.T).topk(2, 1)
    distinct = (2 - 2 * likeness[:, 0]) < 0.75**2 * (2 - 2 * likeness[:, 1])
    expected = a.places.double() @ torch.from_numpy(matrix[:, :2]).T + torch.from_numpy(matrix[:, 2])
    right = (expected - b.places[index[:, 0]]).abs().amax(1) < 2
    return float(distinct.double().mean()), float(right[distinct].double().mean())


@pytest.mark.parametrize(
    ("matrix", "share"),
    [
        pytest.param(turned(0, 1, 13, 7), 0.6, id="moved"),
        pytest.param(turned(0, 1, 13.5, 6.5), 0.5, id="moved by half a pixel"),
        pytest.param(turned(90, 1, 250, 0), 0.4, id="turned by a right angle"),
        pytest.param(turned(28, 0.85, 80, -10), 0.2, id="turned and shrunk"),
        pytest.param(turned(-15, 1.2, -20, 20), 0.2, id="turned and enlarged"),
        pytest.param(turned(0, 1, 0, 0) * [[-1, -1, 1], [1, 1, 1]] + [[0, 0, 299], [0, 0, 0]], 0.8, id="mirrored"),
        pytest.param(np.array([[-0.8, -0.3, 290.0], [-0.3, 0.8, 70.0]]), 0.2, id="mirrored, turned and shrunk"),
    ],
)
def test_found_again(matrix: np.ndarray, share: float) -> None:
    y = textured(256, 300)
    a, b = keypoints(y), keypoints(warped(y, matrix))
    distinct, right = found_again(a, b, matrix, mirrored=bool(np.linalg.det(matrix[:, :2]) < 0))
    assert distinct > share
    assert right > 0.95


@pytest.mark.parametrize("degrees", [0, 40, 170])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_frames_follow_the_picture(degrees: float, scale: float) -> None:
    """Scale and direction of a keypoint tell how its neighbourhood was changed."""
    y, matrix = textured(256, 256, seed=3), turned(degrees, scale, 128, 100)
    a, b = keypoints(y), keypoints(warped(y, matrix))
    expected = a.places.double() @ torch.from_numpy(matrix[:, :2]).T + torch.from_numpy(matrix[:, 2])
    distance, partner = (expected[:, None] - b.places).abs().amax(2).min(1)
    alike = (a.descriptors * b.descriptors[partner]).sum(1) > 0.9
    which = torch.nonzero((distance < 1) & alike).flatten()
    assert len(which) > 20
    ratio = (b.scales[partner[which]] / a.scales[which]).median()
    turn = (b.angles[partner[which]] - a.angles[which]).sub(math.radians(degrees))
    turn = torch.atan2(turn.sin(), turn.cos()).median()
    assert float(ratio) == pytest.approx(scale, rel=0.08)
    assert float(turn) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(torch.full((200, 200), 77.0), id="flat"),
        pytest.param(torch.zeros(8, 8), id="tiny"),
        pytest.param(torch.zeros(8, 4000), id="a strip"),
        pytest.param(torch.arange(200.0).expand(200, 200).contiguous(), id="a ramp"),
    ],
)
def test_nothing_to_find(y: Tensor) -> None:
    found = keypoints(y)
    assert len(found.scales) == 0
    assert found.descriptors.shape == found.mirrored.shape == (0, 128)


def test_bounded_repeatable_and_of_unit_length() -> None:
    y = textured(400, 600)
    first, again = keypoints(y), keypoints(y)
    assert len(first.scales) == MOST
    assert torch.equal(first.descriptors, again.descriptors) and torch.equal(first.places, again.places)
    assert torch.allclose(first.descriptors.norm(dim=1), torch.ones(MOST), atol=1e-4)
    assert len(keypoints(textured(800, 700)).scales) == 800 * 700 // PIXELS_PER_KEYPOINT > MOST
    inside = (first.places > 0).all(1) & (first.places[:, 0] < 600) & (first.places[:, 1] < 400)
    assert bool(inside.all())


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("shape", [(32, 40), (97, 131)])
def test_blur_is_that_of_repeated_borders(shape: tuple[int, int], factor: int) -> None:
    y = textured(*shape)
    larger = y if factor == 1 else F.interpolate(y[None, None], scale_factor=2, mode="bilinear")[0, 0]
    out = np.empty(larger.shape, np.float32)
    module._blur(y.numpy(), 2.45, np.empty_like(out), out)
    expected = ndimage.gaussian_filter(larger.numpy().astype(np.float64), 2.45, mode="nearest", radius=8)
    np.testing.assert_allclose(out, expected, atol=2e-4)


def test_long_sides_take_little_memory() -> None:
    """Pictures of many long sides, as an attacker's folder may hold them: what is remembered of each is small."""
    bands = module._bands(30_011, 2.45, 1, 16)
    assert sum(count * len(matrix) for _, _, count, matrix in bands) == 30_011
    assert len(bands) < 10 and sum(matrix.nbytes for *_, matrix in bands) < 50_000


def test_extreme_places_are_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across the strips that are searched one after the other; and equal neighbours, as in a pattern."""
    monkeypatch.setattr(module, "_STRIP", 7 * 90)
    image = textured(80, 90, seed=2)
    image[30:60, 20:70] = image[10:11, 20:70]
    levels = next(module._octaves(image.numpy(), doubled=False))
    at, values = module._extreme_places(levels, 10_000)
    whole = np.diff(levels, axis=0)
    top, bottom = ndimage.maximum_filter(whole, 3), ndimage.minimum_filter(whole, 3)
    extreme = ((whole == top) & (whole > 0.7)) | ((whole == bottom) & (whole < -0.7))
    extreme[[0, -1]] = False
    inner = np.zeros_like(extreme)
    inner[:, 5:-5, 5:-5] = extreme[:, 5:-5, 5:-5]
    assert at.shape[1] > 20
    assert np.array_equal(at, np.nonzero(inner))
    around = np.lib.stride_tricks.sliding_window_view(whole, (3, 3, 3))[tuple(at - 1)]
    assert np.array_equal(values, around.reshape(-1, 27).T)

    fewer, strongest = module._extreme_places(levels, 20)
    assert np.array_equal(np.sort(np.abs(strongest[13])), np.sort(np.abs(values[13]))[-20:])
    assert np.array_equal(np.ravel_multi_index(fewer, levels.shape), np.sort(np.ravel_multi_index(fewer, levels.shape)))


def test_the_same_for_any_strides_and_threads() -> None:
    y, threads = textured(200, 300), torch.get_num_threads()
    found = keypoints(y)
    try:
        torch.set_num_threads(3)
        again = keypoints(torch.cat([y, y], 1)[:, :300])
    finally:
        torch.set_num_threads(threads)
    for name in ("places", "scales", "angles", "descriptors", "mirrored"):
        assert torch.equal(getattr(found, name), getattr(again, name))


def test_no_pair_is_rejected_early() -> None:
    points = keypoints(torch.from_numpy(copied(turned(0, 1, 150, 90))[0]))
    every = torch.arange(len(points.scales))
    for mirrored, (rows, likeness, index) in zip((False, True), matching._nearest(points), strict=True):
        assert len(rows) < len(every)
        mine = points.mirrored if mirrored else points.descriptors
        whole = (mine @ points.descriptors.T).topk(matching._CANDIDATES, 1)
        np.testing.assert_allclose(likeness, whole.values[rows], atol=1e-6)
        found = matching._pairs(points, mirrored, rows, likeness, index)
        for part, expected in zip(found, matching._pairs(points, mirrored, every, *whole), strict=True):
            assert torch.equal(part, expected)
        assert mirrored or len(found[0]) > 10


def test_search_and_verdict_share_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.from_numpy(copied(turned(0, 1, 151, 93))[0])
    monkeypatch.setattr(matching, "_REMEMBERED", 1)
    found = transforms_of(y)
    assert [bool((a == b).all()) for (a, _, _), (b, _, _) in zip(found, transforms(keypoints(y)), strict=True)] == [
        True
    ]
    monkeypatch.setattr(matching, "keypoints", lambda y: pytest.fail("computed twice"))
    assert transforms_of(y.clone()) is found
    monkeypatch.undo()
    monkeypatch.setattr(matching, "_REMEMBERED", 1)
    assert transforms_of(y.T.contiguous()) is not found
    assert len(matching._found) == 1


LIKE, LIKE_NARROW, SUPPORT, SHARE, SCALE, TURN = range(TRANSFORM_MAPS)
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
    assert maps.shape == (TRANSFORM_MAPS, y.shape[0] // 8, y.shape[1] // 8)
    assert maps.dtype == np.float32
    assert not maps.any()
