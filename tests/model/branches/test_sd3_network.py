"""The SD3 branch computes what diffusers computes: latent, noise, timestep, and the tokens after each block."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from model.branches.sd3_network import SD3Network, build_autoencoder
from model.preset import NoiseSpec
from tests.base_layouts import SMALL

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SIZE = (64, 96)


def branch(taps: tuple[int, ...] = (0, 1, 2), levels: tuple[float, ...] = (0.1, 0.5)) -> SD3Network:
    torch.manual_seed(0)
    transformer = dataclasses.replace(SMALL.transformer, feature_blocks=taps)
    made = SD3Network(SMALL.vae, transformer, NoiseSpec(levels=levels)).eval()
    made.prompt.normal_()
    made.pooled.normal_()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # modulation begins with zeros, which would test nothing
    return made


def image(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def noise(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 16, SIZE[0] // 8, SIZE[1] // 8, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_the_latent_is_that_of_the_autoencoder() -> None:
    ours, theirs = branch(), build_autoencoder(SMALL.vae).eval()
    theirs.load_state_dict(ours.vae.state_dict(), strict=False)
    expected = theirs.encode(image() * 2 - 1).latent_dist.mode()  # SD3's pixels are in [-1, 1]
    expected = (expected - theirs.config.shift_factor) * theirs.config.scaling_factor
    torch.testing.assert_close(ours.encode(image()), expected, **CLOSE)


@torch.inference_mode()
def test_the_tokens_are_those_of_diffusers_own_forward() -> None:
    ours = branch()
    seen: list[torch.Tensor] = []
    for block in ours.transformer.transformer_blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output[1]))
    timestep = torch.tensor([250.0, 750.0])
    prompt, pooled = ours.prompt.expand(2, -1, -1), ours.pooled.expand(2, -1)
    ours.transformer(noise(), encoder_hidden_states=prompt, pooled_projections=pooled, timestep=timestep)
    expected = list(seen)
    assert len(expected) == 3
    for tokens, theirs in zip(ours.tokens(noise(), timestep), expected, strict=True):
        assert theirs.std() > 1e-2
        torch.testing.assert_close(tokens, theirs, **CLOSE)


@torch.inference_mode()
def test_noise_and_timestep_are_those_of_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels one after the other, all tiles in each: t' of SD3's schedule in thousandths, (1 - t')·z0 + t'·ε."""
    ours = branch(levels=(0.1, 0.5))
    given: list[torch.Tensor] = []
    tokens = ours.tokens
    monkeypatch.setattr(ours, "tokens", lambda latent, t: given.extend([latent, t]) or tokens(latent, t))
    ours(image(), noise())
    latent, timestep = given
    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0)  # of a thousand steps, from the noisiest
    places = [900, 900, 500, 500]
    torch.testing.assert_close(timestep, schedule.timesteps[places], atol=1e-3, rtol=0)
    assert timestep.dtype == torch.float32
    z0 = ours.encode(image())
    for row, place in enumerate(places):
        sigma = float(schedule.sigmas[place])
        torch.testing.assert_close(latent[row], sigma * noise()[row % 2] + (1 - sigma) * z0[row % 2], **CLOSE)


@torch.inference_mode()
def test_every_level_has_its_channels() -> None:
    both = branch(taps=(0, 2))
    features = both(image(), noise())
    assert features.shape == (2, both.channels, SIZE[0] // 16, SIZE[1] // 16)
    for place, level in enumerate((0.1, 0.5)):
        alone = branch(taps=(0, 2), levels=(level,))(image(), noise())
        torch.testing.assert_close(features.chunk(2, 1)[place], alone, **CLOSE)
