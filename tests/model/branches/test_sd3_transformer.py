"""MM-DiT is that of diffusers, bit for bit, with the same tensors under the same names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.branches.sd3_network import build_transformer
from model.branches.sd3_transformer import SD3Transformer
from model.preset import TransformerSpec
from model.presets.mini import MINI
from tests.base_layouts import SMALL, theirs

PLAIN = replace(SMALL.transformer, dual_attention_layers=(), qk_norm=None)


def _pair(spec: TransformerSpec, dtype: torch.dtype) -> tuple[SD3Transformer, torch.nn.Module]:
    torch.manual_seed(0)
    other, ours = theirs(spec).eval(), build_transformer(spec, 16).eval()
    assert torch.equal(ours.pos_embed.pos_embed, other.pos_embed.pos_embed)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in other.named_parameters()]
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours.load_state_dict(other.state_dict())
    return ours.to(dtype), other.to(dtype)


def _inputs(spec: TransformerSpec, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.randn(2, 16, 12, 8, dtype=dtype),
        "encoder_hidden_states": torch.randn(2, 5, spec.joint_attention_dim, dtype=dtype),
        "pooled_projections": torch.randn(2, spec.pooled_projection_dim, dtype=dtype),
        "timestep": torch.tensor([12.5, 900.0]),
    }


@pytest.mark.parametrize("spec", [SMALL.transformer, MINI.transformer, PLAIN])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_velocity_is_diffusers_own(spec: TransformerSpec, dtype: torch.dtype) -> None:
    ours, other = _pair(spec, dtype)
    inputs = _inputs(spec, dtype)
    expected = other(**inputs, return_dict=False)[0]
    assert expected.std() > 1e-2
    assert torch.equal(ours(**inputs), expected)


def test_gradients_are_those_of_diffusers() -> None:
    ours, other = _pair(SMALL.transformer, torch.float32)
    inputs = _inputs(SMALL.transformer, torch.float32)
    ours(**inputs).square().sum().backward()
    other(**inputs, return_dict=False)[0].square().sum().backward()
    expected = dict(other.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter.grad, expected[name].grad), name


def test_more_tokens_than_positions_are_refused() -> None:
    ours = build_transformer(SMALL.transformer, 16)
    side = SMALL.transformer.pos_embed_max_size * SMALL.transformer.patch_size
    with pytest.raises(ValueError, match="positions a side"):
        ours.pos_embed(torch.zeros(1, 16, side + 2, 8))
