"""The autoencoder of a latent diffusion model, encoder and decoder: pictures through it and back, at any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from model import tensor_files
from model.branches import from_scratch
from model.branches.sd3_network import DECODER, build_autoencoder
from model.predictor import Tile, padded, starts, weights
from model.preset import TileSpec, VaeSpec
from model.presets import PRESETS
from model.registry import BasesError, find

Change = Callable[[Tensor, Tile], Tensor]
"""What is done to the latent of a tile, 1×C×h×w, between encoder and decoder."""


class Autoencoder:
    """AutoencoderKL in evaluation mode; nothing is sampled: a latent is the mean of its posterior.

    Args:
        name: of the registered base weights.
        network: on its device, in its number format, frozen.
        spec: its sizes.
        tile: how pictures are cut.
        digest: SHA-256 of the VAE's file, hex.
    """

    def __init__(self, name: str, network: AutoencoderKL, spec: VaeSpec, tile: TileSpec, digest: str) -> None:
        self.name, self.network, self.spec, self.tile, self.digest = name, network, spec, tile, digest

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.network.parameters()).device

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.spec.stride

    def encode(self, x: Tensor) -> Tensor:
        """z0 = (E(x) - shift_factor)·scaling_factor, as the transformer takes it.

        Args:
            x: B×3×H×W in [0, 1]; sides are multiples of `stride`.

        Returns:
            B×C×H/stride×W/stride.
        """
        mean: Tensor = self.network.encoder((x * 2 - 1).to(self._dtype)).chunk(2, dim=1)[0]
        return (mean - self.spec.shift_factor) * self.spec.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """The inverse of `encode`, as far as there is one: B×3×H×W float32, not clipped to [0, 1]."""
        decoded: Tensor = self.network.decoder((z / self.spec.scaling_factor + self.spec.shift_factor).to(self._dtype))
        return (decoded.float() + 1) / 2

    @torch.inference_mode()
    def reconstruct(self, pixels: NDArray[np.uint8], change: Change | None = None) -> NDArray[np.uint8]:
        """A picture through encoder and decoder, at native resolution.

        Tiles overlap and are blended with weights that fall to their inner edges. Besides the result, one row of tiles
        is held in memory.

        Args:
            pixels: H×W×3, of any size; mirrored on the right and at the bottom up to a multiple of `tile.multiple`.
            change: applied to each latent; None: nothing is.

        Returns:
            H×W×3.

        Raises:
            RuntimeError, MemoryError: the device has not the memory for a tile.
        """
        height, width = pixels.shape[:2]
        rows, columns = starts(height, self.tile), starts(width, self.tile)
        across = weights(width, self.tile)
        result = np.empty((height, width, 3), np.uint8)
        carried = np.zeros((0, width, 3), np.float32)  # what the tiles above have added to the next row of tiles
        below = [*(top for top, _ in rows[1:]), height]
        for (top, extent), down, end in zip(rows, weights(height, self.tile), below, strict=True):
            band = np.zeros((extent, width, 3), np.float32)
            band[: len(carried)] = carried
            for (left, breadth), weight in zip(columns, across, strict=True):
                made = self._tile(pixels, Tile(top, left, extent, breadth), change)
                band[:, left : left + breadth] += made * (down[:, None] * weight)[..., None]
            result[top:end] = (band[: end - top] * 255 + 0.5).clip(0, 255)
            carried = band[end - top :]
        return result

    def _tile(self, pixels: NDArray[np.uint8], tile: Tile, change: Change | None) -> NDArray[np.float32]:
        """h×w×3 in [0, 1]."""
        part = torch.from_numpy(padded(pixels, tile, self.tile.multiple)).to(self.device)
        z = self.encode(part.permute(2, 0, 1)[None].float() / 255)
        decoded = self.decode(z if change is None else change(z, tile))
        made: NDArray[np.float32] = decoded[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy()
        return made[: tile.height, : tile.width]

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def load_autoencoder(name: str, device: str, dtype: torch.dtype) -> Autoencoder:
    """The autoencoder of registered base weights, such as `sd3-medium`.

    Args:
        name: of the base weights, as `clue models list` shows it.
        device: where it goes.
        dtype: its number format; bfloat16 is too coarse where small errors of the result are measured.

    Raises:
        BasesError: not registered, damaged, changed, or without a decoder.
    """
    if name in PRESETS and from_scratch(PRESETS[name]):
        raise BasesError(f"the VAE of {name} has no decoder: {name} has an encoder of its own, and nothing decodes it")
    base = find(name)
    if "vae" not in base.parts:
        raise BasesError(f"{name} has no VAE: its parts are {', '.join(base.parts)}")
    spec, files = base.preset.vae, base.paths("vae")
    if not any(tensor.startswith(DECODER) for tensor in tensor_files.safetensors_shapes(files)):
        raise BasesError(f"the VAE of {name} has no decoder: {files[0]} holds the encoder alone; get the whole VAE")
    with torch.device("meta"):
        network = build_autoencoder(spec)
    tensor_files.fill(network, f"VAE of {name}", tensor_files.safetensors_tensors(files, device, dtype))
    return Autoencoder(name, network.eval().requires_grad_(False), spec, base.preset.tile, base.digests()["vae"])
