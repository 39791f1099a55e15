"""Attacks: what each does, that names mean one thing, and that seed and picture decide alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from model.data.attacks import GRIDS, SOCIAL, AttackError, gaussian_kernel, noisy, parse, parse_all

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return np.ascontiguousarray(data.astronaut()[:96, :128])


@pytest.mark.parametrize(
    ("text", "name", "shape"),
    [
        ("none", "none", (96, 128)),
        ("jpeg:70", "jpeg:70", (96, 128)),
        (" jpeg:70.0 ", "jpeg:70", (96, 128)),
        ("webp:60", "webp:60", (96, 128)),
        ("blur:5", "blur:5", (96, 128)),
        ("blur:1", "blur:1", (96, 128)),
        ("noise:0.5", "noise:0.5", (96, 128)),
        ("resize:0.5", "resize:0.5", (48, 64)),
        ("double-jpeg:90,70", "double-jpeg:90,70", (96, 128)),
        ("social:facebook-like", "social:facebook-like", (96, 128)),
        ("resize:0.5+none + jpeg:80", "resize:0.5+jpeg:80", (48, 64)),
        ("none+none", "none", (96, 128)),
    ],
)
def test_attack(text: str, name: str, shape: tuple[int, int], photo: Pixels) -> None:
    (attack,) = parse(text)
    before = photo.copy()
    after = attack.apply(photo, seed=1)
    assert attack.name == name
    assert (after.shape, after.dtype) == ((*shape, 3), np.uint8)
    assert np.array_equal(after, attack.apply(photo.copy(), seed=1))
    assert np.array_equal(after, parse(attack.name)[0].apply(photo, seed=1))
    assert np.array_equal(photo, before)
    assert attack.simulated == ("social" in name)
    if name not in ("none", "blur:1"):
        assert not np.array_equal(after, before)


@pytest.mark.parametrize(
    "text",
    ["", "jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:70.5", "jpeg:nan", "jpeg:x", "webp:-1", "blur:4", "blur:101",
     "noise:-1", "noise:inf", "resize:0", "resize:9", "resize:1e9", "double-jpeg:90", "double-jpeg:90,x",
     "double-jpeg:1,2,3", "social:facebook", "grid:none", "grid:", "sharpen:3", "jpeg:70+", "jpeg:70+grid:webp"],
)  # fmt: skip
def test_an_unknown_attack_says_what_is_expected(text: str) -> None:
    with pytest.raises(AttackError, match=r"expected|known"):
        parse(text)


def test_grids_are_the_published_ones() -> None:
    assert [a.name for a in parse("grid:imdl-blur")] == [
        "none", "blur:3", "blur:7", "blur:11", "blur:15", "blur:19", "blur:23"]  # fmt: skip
    assert [a.name for a in parse("grid:imdl-noise")] == [f"noise:{v}" for v in (3, 7, 11, 15, 19, 23)]
    assert [a.name for a in parse("grid:imdl-jpeg")] == [f"jpeg:{q}" for q in (100, 90, 80, 70, 60, 50)]
    for name, members in GRIDS.items():
        assert [attack.name for attack in parse(f"grid:{name}")] == members
    names = [attack.name for attack in parse_all(["jpeg:70", "grid:imdl-jpeg", "jpeg:70.0", "none"])]
    assert names == ["jpeg:70", "jpeg:100", "jpeg:90", "jpeg:80", "jpeg:60", "jpeg:50", "none"]  # each once, in order


def test_chains_are_the_steps_in_order(photo: Pixels) -> None:
    (double,), (chain,) = parse("double-jpeg:90,70"), parse("jpeg:90+jpeg:70")
    assert np.array_equal(double.apply(photo), chain.apply(photo))
    assert not np.array_equal(double.apply(photo), parse("jpeg:70+jpeg:90")[0].apply(photo))


def test_noise_has_the_stated_variance_and_follows_seed_and_picture(photo: Pixels) -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    after = noisy(grey, 49, np.random.default_rng(0)).astype(float)
    assert after.var() == pytest.approx(49 + 1 / 12, rel=0.02)  # rounding adds a twelfth
    assert after.mean() == pytest.approx(128, abs=0.05)
    assert np.corrcoef(after[..., 0].ravel(), after[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.02)
    (attack,) = parse("noise:23")
    assert not np.array_equal(attack.apply(photo, 0), attack.apply(photo, 1))
    other = photo.copy()
    other[0, 0, 0] ^= 1
    difference = attack.apply(photo).astype(int) - attack.apply(other)
    assert np.count_nonzero(difference) > 1000


@pytest.mark.parametrize("size", [1, 3, 5, 7, 11, 15, 19, 23])
def test_blur_is_that_of_opencv(size: int, photo: Pixels) -> None:
    import cv2

    assert np.allclose(gaussian_kernel(size), cv2.getGaussianKernel(size, 0, cv2.CV_32F)[:, 0], atol=1e-6)
    expected = cv2.GaussianBlur(photo, (size, size), 0)
    ours = parse(f"blur:{size}")[0].apply(photo)
    assert np.abs(ours.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("network", SOCIAL)
def test_social_networks_shrink_what_is_larger(network: str) -> None:
    side, _ = SOCIAL[network]
    (attack,) = parse(f"social:{network}")
    assert attack.apply(np.zeros((30, side + 100, 3), np.uint8)).shape[1] == side
    assert attack.apply(np.zeros((30, 40, 3), np.uint8)).shape == (30, 40, 3)
    assert attack.simulated


def test_sizes_no_format_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttackError, match="WEBP cannot hold"):
        parse("webp:60")[0].apply(np.zeros((1, 17000, 3), np.uint8))
    monkeypatch.setattr("model.data.attacks.LARGEST", 1000)
    with pytest.raises(AttackError, match="would make"):
        parse("resize:2")[0].apply(np.zeros((20, 20, 3), np.uint8))
    assert parse("resize:0.05")[0].apply(np.zeros((3, 3, 3), np.uint8)).shape == (1, 1, 3)
