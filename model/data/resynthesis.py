"""A region through an autoencoder and back, the trace of AI editing: with the user's own, or with a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.history import Pixels
from model.data.inpaint import load_diffusers

CELL = 8
"""Side in pixels of the cell that one latent vector stands for, as in the autoencoders of latent diffusion."""
LUMA, CHROMA = 4, 2
"""Coefficients of index u + v below these are kept: 10 of luma and 2×3 of chroma make 16, as SD3's latent has."""


class Fillers:
    """One of several autoencoders, chosen by the pixels; loaded by the process that first needs it.

    Args:
        folders: of diffusers models.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._loaded: dict[Path, Callable[[Pixels], Pixels]] = {}

    def __call__(self, pixels: Pixels) -> Pixels:
        """H×W×3 uint8 through the encoder and its decoder."""
        folder = self.folders[int(pixels.sum(dtype=np.int64)) % len(self.folders)]
        if folder not in self._loaded:
            self._loaded[folder] = load_autoencoder(folder)
        return self._loaded[folder](pixels)

    def __reduce__(self) -> tuple[type[Fillers], tuple[list[Path]]]:
        return type(self), (self.folders,)


def _dct_matrix() -> NDArray[np.float32]:
    index = np.arange(CELL)
    matrix = np.cos(np.pi * (2 * index[None] + 1) * index[:, None] / (2 * CELL)) * np.sqrt(2 / CELL)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)


_DCT = _dct_matrix()
_FREQUENCY = np.add.outer(np.arange(CELL), np.arange(CELL))


def bottleneck(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A fixed stand-in for an autoencoder, no network: a local spectrum kept in part, the rest drawn anew.

    Of each 8×8 cell 16 DCT coefficients are kept, with a little noise; the others keep their size, weakened, but
    their signs are drawn at random, as a decoder invents detail of the right strength that was not there. Done on
    two grids half a cell apart and averaged, so that no block edges show.

    Args:
        pixels: H×W×3 uint8.

    Returns:
        H×W×3 uint8.
    """
    height, width = pixels.shape[:2]
    rows, columns = (-(-side // CELL) * CELL + 2 * CELL for side in (height, width))
    half = CELL // 2
    padded = cv2.copyMakeBorder(
        np.ascontiguousarray(pixels), half, rows - height - half, half, columns - width - half, cv2.BORDER_REFLECT
    )
    ycc = np.asarray(cv2.cvtColor(padded.astype(np.float32), cv2.COLOR_RGB2YCrCb), np.float32)
    strength = float(rng.uniform(0.5, 0.9))
    total = np.zeros_like(ycc)
    for shift in (0, half):
        view = ycc[shift : shift + rows - CELL, shift : shift + columns - CELL]
        total[shift : shift + rows - CELL, shift : shift + columns - CELL] += _round_trip(view, rng, strength) / 2
    # The inner part, which both grids cover.
    inner = np.s_[half : half + height, half : half + width]
    rgb = np.asarray(cv2.cvtColor(np.ascontiguousarray(total[inner]), cv2.COLOR_YCrCb2RGB))
    return (rgb + 0.5).clip(0, 255).astype(np.uint8)


def _round_trip(ycc: NDArray[np.float32], rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    height, width = ycc.shape[:2]
    cells = ycc.reshape(height // CELL, CELL, width // CELL, CELL, 3).transpose(0, 2, 4, 1, 3)
    spectrum = _DCT @ cells @ _DCT.T
    signs = rng.integers(0, 2, spectrum.shape, dtype=np.int8).astype(np.float32) * 2 - 1
    invented = np.abs(spectrum) * signs * strength
    kept = np.stack([_FREQUENCY < LUMA, _FREQUENCY < CHROMA, _FREQUENCY < CHROMA])
    latent = spectrum + rng.standard_normal(spectrum.shape, dtype=np.float32)
    back = _DCT.T @ np.where(kept, latent, invented) @ _DCT
    return np.asarray(back.transpose(0, 3, 1, 4, 2).reshape(height, width, 3), np.float32)


def load_autoencoder(path: Path, device: str = "cpu") -> Callable[[Pixels], Pixels]:
    """A diffusers AutoencoderKL from a local folder, as a function pixels → pixels of the same size.

    Nothing is downloaded, and only safetensors are read.

    Raises:
        ToolError: it cannot be loaded; says why.
    """
    network = load_diffusers("AutoencoderKL", path, "AutoencoderKL")
    return _Autoencoder(network.to(device).eval(), device)


class _Autoencoder:
    def __init__(self, network: Any, device: str) -> None:
        self._network, self._device = network, device
        self._cell = 2 ** (len(network.config.block_out_channels) - 1)

    def __call__(self, pixels: Pixels) -> Pixels:
        import torch

        height, width = pixels.shape[:2]
        bottom, right = -height % self._cell, -width % self._cell
        padded = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
        x = torch.from_numpy(padded).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            y = self._network.decode(self._network.encode(x).latent_dist.mode()).sample
        back = ((y[0].permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5 + 0.5).clip(0, 255)
        return np.ascontiguousarray(back[:height, :width].astype(np.uint8))
