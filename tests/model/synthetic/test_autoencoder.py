"""The autoencoder of registered base weights: tiles without seams, what diffusers computes, one step of denoising."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model import registry
from model.branches.sd3_prompt import read_prompt
from model.preset import TileSpec, VaeSpec
from model.registry import BasesError
from model.synthetic.autoencoder import Autoencoder, Denoiser, load_autoencoder, load_denoiser
from tests.base_layouts import SMALL, register_small

TILE = TileSpec(size=64, overlap=32, multiple=16)


class Known(nn.Module):
    """Loses nothing: 8×8 pixels folded into channels; the decoder then blurs by `blur`×`blur` pixels."""

    def __init__(self, blur: int = 1) -> None:
        super().__init__()
        self.blur, self.place = blur, nn.Parameter(torch.zeros(()))

    def encoder(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 8).repeat(1, 2, 1, 1)  # the mean, and a variance that nobody may look at

    def decoder(self, z: Tensor) -> Tensor:
        return F.avg_pool2d(F.pixel_shuffle(z, 8), self.blur, 1, self.blur // 2, count_include_pad=False)


def known(tile: TileSpec, blur: int = 1) -> Autoencoder:
    network: Any = Known(blur)
    return Autoencoder("known", network, VaeSpec(), tile, "")


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def base(tmp_path: Path, config: Path) -> registry.Base:
    return register_small(tmp_path)


@pytest.mark.parametrize("size", [(5, 9), (64, 64), (65, 200), (211, 77)])
def test_what_loses_nothing_gives_the_picture_back_at_any_size(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    assert np.array_equal(known(TILE).reconstruct(pixels), pixels)
    assert np.array_equal(known(TILE).reconstruct(pixels[::-1]), pixels[::-1])


def test_tiles_leave_no_seams() -> None:
    pixels = noise(150, 190)
    tiled = known(TILE, blur=3).reconstruct(pixels).astype(int)
    whole = known(dataclasses.replace(TILE, size=512), blur=3).reconstruct(pixels)
    # A 3×3 mean misses a third of its pixels at the edge of a tile, whose weight there is half a pixel of 32; once for
    # each direction, and rounding.
    assert np.abs(tiled - whole).max() <= 2 * (255 / 3) * (0.5 / 32) + 1
    assert np.abs(tiled - whole).mean() < 0.1


def test_each_latent_is_changed_at_its_place() -> None:
    seen = []

    def change(z: Tensor, tile: Any) -> Tensor:
        seen.append((tile.top, tile.left, tuple(z.shape)))
        return torch.zeros_like(z)

    made = known(TILE).reconstruct(noise(64, 90), change)
    assert seen == [(0, 0, (1, 192, 8, 8)), (0, 32, (1, 192, 8, 8))]
    grey = 127.5 * (1 + VaeSpec().shift_factor)  # latent 0 is the mean of the latents, which is shift_factor
    assert np.abs(made - grey).max() <= 0.5


def test_the_registered_autoencoder_is_diffusers_own(base: registry.Base) -> None:
    autoencoder = load_autoencoder("small-sd3", "cpu", torch.float32)
    theirs = AutoencoderKL.from_pretrained(Path(base.sd3) / "vae")
    pixels = noise(96, 128)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = (theirs.decode(theirs.encode(x * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1) * 255
    made = autoencoder.reconstruct(pixels)
    assert np.abs(made - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51  # rounding
    assert made.std() > 5
    assert autoencoder.digest == base.digests()["vae"]
    large = noise(150, 200)  # several tiles
    assert np.array_equal(autoencoder.reconstruct(large), autoencoder.reconstruct(large))


def test_a_vae_without_a_decoder_is_named(base: registry.Base) -> None:
    path = base.paths("vae")[0]
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.startswith("decoder.")}, path)
    registry.put(dataclasses.replace(base, parts=base.parts | {"vae": (registry.stored(path),)}))
    with pytest.raises(BasesError, match=r"the VAE of small-sd3 has no decoder: .*vae.* holds the encoder alone"):
        load_autoencoder("small-sd3", "cpu", torch.float32)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    registry.put(dataclasses.replace(base, parts=base.parts | {"vae": (registry.stored(path),)}))
    with pytest.raises(BasesError, match="damaged or not a safetensors file"):
        load_autoencoder("small-sd3", "cpu", torch.float32)
    with pytest.raises(BasesError, match="the VAE of mini has no decoder"):
        load_autoencoder("mini", "cpu", torch.float32)
    with pytest.raises(BasesError, match="not registered"):
        load_autoencoder("other", "cpu", torch.float32)


def test_a_value_that_is_not_finite_is_named(base: registry.Base) -> None:
    path = base.paths("vae")[0]
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"][0] = torch.nan  # every reconstruction would be noise, and no error would say so
    save_file(tensors, path)
    registry.put(dataclasses.replace(base, parts=base.parts | {"vae": (registry.stored(path),)}))
    with pytest.raises(BasesError, match=r"damaged: decoder\.conv_out\.bias holds a value that is not finite"):
        load_autoencoder("small-sd3", "cpu", torch.float32)


def test_one_step_takes_the_noise_back() -> None:
    asked = SimpleNamespace()

    def transformer(**given: Any) -> Tensor:
        asked.__dict__.update(given)
        doubled: Tensor = 2 * given["hidden_states"]
        return doubled

    prompt, pooled = torch.ones(1, 5, 4), torch.ones(1, 3)
    denoiser = Denoiser(transformer, prompt, pooled)  # type: ignore[arg-type]
    z0, noise = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), -1.0)
    made = denoiser.denoised(z0, noise, 0.25)
    # z_t = .25·(-1) + .75·3 = 2; v = 4; z0' = 2 - .25·4 = 1
    assert asked.hidden_states.flatten().tolist() == [2.0, 2.0]
    assert asked.timestep.tolist() == [250.0, 250.0]
    assert asked.encoder_hidden_states.shape == (2, 5, 4)
    assert asked.pooled_projections.shape == (2, 3)
    assert made.flatten().tolist() == [1.0, 1.0]


def test_a_transformer_that_knows_the_noise_restores_the_latent() -> None:
    z0, noise = torch.randn(2, 1, 4, 8, 8).unbind()
    perfect = Denoiser(lambda **_: noise - z0, torch.ones(1, 1, 1), torch.ones(1, 1))  # type: ignore[arg-type]
    assert torch.allclose(perfect.denoised(z0, noise, 0.7), z0, atol=1e-6)


def test_the_velocity_is_diffusers_own(base: registry.Base) -> None:
    denoiser = load_denoiser("small-sd3", "cpu", torch.float32)
    theirs = SD3Transformer2DModel.from_pretrained(Path(base.sd3) / "transformer")
    stored = read_prompt(base.paths("prompt")[0], SMALL.transformer)
    z = torch.randn(1, 16, 8, 12)
    with torch.inference_mode():
        expected = theirs(z, stored.prompt, stored.pooled, torch.tensor([300.0])).sample
        velocity = denoiser.velocity(z, 0.3)
    assert velocity.shape == z.shape
    assert float(expected.std()) > 0.01
    assert torch.allclose(velocity, expected, atol=1e-5)
