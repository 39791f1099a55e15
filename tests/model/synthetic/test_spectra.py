"""What the statistics of a tile must tell apart, on pixels whose history is known."""

import cv2
import numpy as np
import pytest

from model.synthetic.spectra import ANGLES, PEAKS, RADII, statistics
from model.synthetic.traces import TILE

LUMA_PEAKS = slice(1 + RADII * ANGLES, 1 + RADII * ANGLES + len(PEAKS))


def noise(seed: int = 0, shape: tuple[int, ...] = (TILE, TILE, 3), strength: float = 6) -> np.ndarray:
    base = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), 8) * 300 + 128
    return np.clip(base + np.random.default_rng(seed + 1).standard_normal(shape) * strength, 0, 255).astype(np.uint8)


def test_they_are_finite_and_the_same_for_the_same_pixels() -> None:
    for tile in (noise(), np.zeros((TILE, TILE, 3), np.uint8), np.full((TILE, TILE, 3), 255, np.uint8)):
        found = statistics(tile)
        assert found.dtype == np.float32 and np.isfinite(found).all()
        assert np.array_equal(found, statistics(tile.copy()))


@pytest.mark.parametrize(("factor", "frequency"), [(2, 32), (4, 16), (8, 8)])
def test_upsampling_by_repetition_stands_out_at_its_frequency(factor: int, frequency: int) -> None:
    small = noise(shape=(TILE // factor, TILE // factor, 3), strength=20)
    repeated = small.repeat(factor, 0).repeat(factor, 1)
    at = [place for place, (v, u) in enumerate(PEAKS) if v == frequency and u in (0, frequency)]
    plain, found = statistics(noise(strength=20))[LUMA_PEAKS], statistics(repeated)[LUMA_PEAKS]
    # Repetition has zeros at multiples of its frequency: they stand out downwards
    assert np.abs(found[at]).max() > np.abs(plain).max() + 1


def test_channels_of_one_signal_agree_and_independent_ones_do_not() -> None:
    grey = noise()[..., :1].repeat(3, 2)
    start = 3 * (1 + RADII * ANGLES + len(PEAKS) + 4)
    same, independent = (statistics(tile)[start : start + 24] for tile in (grey, noise()))
    assert same.min() > 0.9 > 0.3 > np.abs(independent.reshape(3, 8)[:, 2:]).max()
