"""A latent diffusion model's autoencoder, encoder and decoder, at any size of picture; and its denoising step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import tensor_files
from model.branches.sd3 import SD3, with_decoder
from model.branches.sd3_network import build_autoencoder
from model.predictor import Tile, padded, starts, weights
from model.preset import NoiseSpec, TileSpec, VaeSpec
from model.rectified_flow import add_noise

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

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
    base = with_decoder(name)
    spec = base.preset.vae
    with torch.device("meta"):
        network = build_autoencoder(spec)
    tensors = chain.from_iterable(tensor_files.learned_tensors(path, device, dtype) for path in base.paths("vae"))
    tensor_files.fill(network, f"VAE of {name}", tensors)
    return Autoencoder(name, network.eval().requires_grad_(False), spec, base.preset.tile, base.digests()["vae"])


class Denoiser:
    """SD3's transformer with the empty prompt, one step from a noise level to the clean latent.

    Args:
        transformer: `SD3Transformer` in evaluation mode.
        prompt: 1×N×D, embeddings of the empty prompt.
        pooled: 1×P, its pooled embedding.
    """

    def __init__(self, transformer: nn.Module, prompt: Tensor, pooled: Tensor) -> None:
        self.transformer, self.prompt, self.pooled = transformer, prompt, pooled

    def velocity(self, z: Tensor, level: float) -> Tensor:
        """The velocity noise - z0 that the transformer predicts.

        Args:
            z: noisy latent, B×C×h×w float32.
            level: of the noise, 0 to 1; the transformer is given 1000 times this.

        Returns:
            B×C×h×w float32.
        """
        count, dtype = len(z), self.prompt.dtype
        output: Tensor = self.transformer(
            hidden_states=z.to(dtype),
            timestep=torch.full((count,), 1000 * level, dtype=torch.float32, device=z.device),
            encoder_hidden_states=self.prompt.expand(count, -1, -1),
            pooled_projections=self.pooled.expand(count, -1),
        )
        return output.float()

    def denoised(self, z0: Tensor, noise: Tensor, level: float) -> Tensor:
        """Noise a latent, z_t = t·noise + (1 - t)·z0, and take it back in one step, z_t - t·v: B×C×h×w float32."""
        z = add_noise(z0.float(), noise.to(z0.device), level, NoiseSpec(schedule="rf"))
        return z - level * self.velocity(z, level)


def load_denoiser(name: str, device: str, dtype: torch.dtype) -> Denoiser:
    """The transformer of registered base weights.

    Raises:
        BasesError: as of `load_autoencoder`.
    """
    base = with_decoder(name)
    preset = SD3().fitted(base.preset, base)
    with torch.device("meta"):
        network = SD3().build(preset)
    network.load(base, device, dtype, dtype)
    return Denoiser(network.transformer.eval().requires_grad_(False), network.prompt, network.pooled)
