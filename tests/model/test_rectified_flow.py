"""Noise: the published schedule and equation, and numbers that do not depend on anything they should not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.preset import NoiseSpec
from model.rectified_flow import add_noise, content_seed, noise_levels, seeded_noise, shifted


@pytest.mark.parametrize(
    ("t", "shift", "expected"), [(0.0, 3.0, 0.0), (1.0, 3.0, 1.0), (0.5, 3.0, 0.75), (0.25, 3.0, 0.5), (0.3, 1.0, 0.3)]
)
def test_shifted_schedule(t: float, shift: float, expected: float) -> None:
    assert shifted(t, shift) == pytest.approx(expected)


def test_rectified_flow_is_a_straight_line_from_latent_to_noise() -> None:
    z0, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    spec = NoiseSpec("rf")
    assert torch.equal(add_noise(z0, noise, 0.0, spec), z0)
    assert torch.equal(add_noise(z0, noise, 1.0, spec), noise)
    assert torch.allclose(add_noise(z0, noise, 0.25, spec), 0.75 * z0 + 0.25 * noise)


@pytest.mark.parametrize("level", [0.0, 0.2, 0.7, 1.0])
def test_ddpm_preserves_variance(level: float) -> None:
    ones, zeros = torch.ones(1), torch.zeros(1)
    spec = NoiseSpec("ddpm")
    signal, noise = add_noise(ones, zeros, level, spec), add_noise(zeros, ones, level, spec)
    assert float(signal**2 + noise**2) == pytest.approx(1.0, abs=1e-6)


def test_ddpm_goes_from_latent_to_noise() -> None:
    ones, zeros = torch.ones(1), torch.zeros(1)
    signal = [float(add_noise(ones, zeros, level, NoiseSpec("ddpm"))) for level in (0.0, 0.3, 0.6, 1.0)]
    assert signal[0] == pytest.approx(1.0)
    assert signal == sorted(signal, reverse=True)
    assert signal[-1] < 0.01


def test_no_noise_is_one_clean_pass() -> None:
    z0 = torch.randn(1, 4, 2, 2)
    spec = NoiseSpec("none", (0.3, 0.5))
    assert noise_levels(spec) == [0.0]
    assert add_noise(z0, torch.randn_like(z0), 0.5, spec) is z0


@pytest.mark.parametrize("levels", [(), (-0.1,), (1.5,)])
def test_levels_outside_the_unit_interval_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="noise levels"):
        noise_levels(NoiseSpec("rf", levels))


def test_seed_is_of_the_content() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 40, 3), dtype=np.uint8)
    seed = content_seed(pixels)
    assert seed == content_seed(pixels.copy()) == content_seed(np.asfortranarray(pixels))
    changed = pixels.copy()
    changed[1099, 39, 2] ^= 1
    assert content_seed(changed) != seed
    assert content_seed(pixels.reshape(40, 1100, 3)) != seed
    assert 0 <= seed < 2**64


def test_noise_depends_on_seed_and_place_and_on_nothing_else() -> None:
    noise = seeded_noise(7, 0, 448, (16, 8, 8))
    np.random.default_rng(1).normal(size=5)
    torch.manual_seed(3)
    assert torch.equal(noise, seeded_noise(7, 0, 448, (16, 8, 8)))
    assert not torch.equal(noise, seeded_noise(7, 448, 0, (16, 8, 8)))
    assert not torch.equal(noise, seeded_noise(8, 0, 448, (16, 8, 8)))


def test_noise_is_standard_normal_and_the_same_on_every_platform() -> None:
    noise = seeded_noise(2**64 - 1, 16, 32, (16, 64, 64))
    assert noise.dtype == torch.float32
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)
    # Written down once: a change here means that every mask changes.
    expected = [0.442206949, -0.133479059, -0.264388293]
    assert seeded_noise(1, 0, 0, (1, 1, 3)).flatten().tolist() == pytest.approx(expected, abs=1e-6)
