"""The encoder is that of diffusers, with the same tensors under the same names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.branches.sd3_network import build_autoencoder, build_vae
from model.preset import VaeSpec
from model.presets.mini import MINI
from tests.base_layouts import SMALL


@pytest.mark.parametrize("spec", [SMALL.vae, MINI.vae, replace(SMALL.vae, mid_block_add_attention=False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_encoder_is_diffusers_own(spec: VaeSpec, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs, ours = build_autoencoder(spec).eval().to(dtype), build_vae(spec).eval().to(dtype)
    held = {name: tensor for name, tensor in theirs.state_dict().items() if name.startswith("encoder.")}
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters() if name.startswith("encoder.")
    ]
    for tensor in held.values():
        tensor.normal_(std=0.1)
    ours.load_state_dict(held)
    x = torch.randn(2, ours.encoder.conv_in.in_channels, 48, 64, dtype=dtype)
    expected = theirs.encoder(x)
    assert expected.std() > 1e-3
    close = 1e-5 if dtype == torch.float32 else 1e-2
    assert torch.allclose(ours.encoder(x), expected, rtol=close, atol=close * float(expected.std()))


def test_gradients_are_those_of_diffusers() -> None:
    torch.manual_seed(0)
    theirs, ours = build_autoencoder(SMALL.vae), build_vae(SMALL.vae)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k.startswith("encoder.")})
    x = torch.randn(1, 3, 32, 32)
    for network in (ours, theirs):
        network.encoder(x).square().sum().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-5), name
