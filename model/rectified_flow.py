"""Rectified-flow noise (clue-method, equation 2), its shifted schedule, and the alternatives of the ablation."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.preset import NoiseSpec


def shifted(t: float, shift: float) -> float:
    """SD3's timestep shift, t' = s·t / (1 + (s - 1)·t): more noise for the same t at a larger s."""
    return shift * t / (1.0 + (shift - 1.0) * t)


def noise_levels(spec: NoiseSpec) -> list[float]:
    """Noise levels after the shift, one per transformer pass, each in [0, 1]; `none` is one clean pass.

    Raises:
        ValueError: a level outside [0, 1], or none at all.
    """
    if spec.schedule == "none":
        return [0.0]
    if not spec.levels or not all(0.0 <= t <= 1.0 for t in spec.levels):
        raise ValueError(f"noise levels must lie in [0, 1] and there must be at least one: {spec.levels}")
    return [shifted(t, spec.shift) for t in spec.levels]


def add_noise(z0: Tensor, noise: Tensor, level: float, spec: NoiseSpec) -> Tensor:
    """The noisy latent at one level.

    Args:
        z0: clean latent, B×C×h×w.
        noise: ε ~ N(0, I), same shape.
        level: noise level after the shift, in [0, 1].
        spec: `rf`: (1 - t)·z0 + t·ε. `ddpm`: √ᾱ·z0 + √(1 - ᾱ)·ε with ᾱ of the cosine schedule (Nichol and
            Dhariwal 2021, equation 17, s = 0.008) at t, clipped as there. `none`: z0.
    """
    if spec.schedule == "none":
        return z0
    if spec.schedule == "rf":
        return (1.0 - level) * z0 + level * noise

    def cosine(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha_bar = min(max(cosine(level) / cosine(0.0), 1e-5), 1.0)
    return math.sqrt(alpha_bar) * z0 + math.sqrt(1.0 - alpha_bar) * noise


def content_seed(pixels: NDArray[np.uint8]) -> int:
    """An unsigned 64-bit seed from the shape and the values of an H×W×3 uint8 image, the same on any machine."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for row in range(0, pixels.shape[0], 512):  # bounded copies where the array is a flipped view
        digest.update(np.ascontiguousarray(pixels[row : row + 512]).data)
    return int.from_bytes(digest.digest()[:8], "little")


def seeded_noise(seed: int, top: int, left: int, shape: tuple[int, int, int]) -> Tensor:
    """ε ~ N(0, I) for the latent tile at (top, left), float32 of `shape` (C, h, w).

    Depends on nothing but its arguments: NumPy's Philox generator gives the same numbers on every platform, so
    batch, order, workers and device do not matter.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, top, left])))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
