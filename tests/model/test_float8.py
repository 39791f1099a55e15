"""Linear layers in float8, as they compute on the CPU; the product of a GPU is compared in `tests/gpu`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model.clue import CLUE, build
from model.device import DeviceError, resolve
from model.float8 import FLOAT8, Float8Linear, rounded, use_float8, weights_format
from tests.base_layouts import SMALL


def test_each_row_has_its_scale() -> None:
    x = torch.randn(3, 5, 64) * torch.logspace(-4, 4, 5)[:, None]
    values, scale = rounded(x)
    assert (values.dtype, scale.shape) == (FLOAT8, (3, 5, 1))
    assert torch.equal(values.float().abs().amax(-1), torch.full((3, 5), 448.0))
    error = (values.float() * scale - x).abs()
    assert (error <= x.abs() / 16 + scale * 2**-10).all()  # three bits of mantissa; subnormals are 2⁻⁹ apart
    assert error.max() > 0


def test_a_row_of_zeros_stays_zero() -> None:
    values, scale = rounded(torch.zeros(2, 16))
    assert not (values.float() * scale).any()


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_multiplies_what_was_rounded(bias: bool) -> None:
    layer = nn.Linear(64, 32, bias)
    x = torch.randn(2, 7, 64)
    (a, p), (b, q) = rounded(x), rounded(layer.weight.detach())
    expected = (a.double() * p) @ (b.double() * q).T + (layer.bias.detach() if bias else 0)
    found = Float8Linear(layer)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert 1e-3 < (found - layer(x)).abs().max() < 0.2


def test_torchs_own_product_gives_the_same() -> None:
    """The arguments as on a GPU, and a bias: what the CPU rounds is what a GPU multiplies."""
    layer, x = nn.Linear(64, 32).bfloat16(), torch.randn(9, 64).bfloat16()
    ours = Float8Linear(layer)
    rows, scale = rounded(x)
    try:
        theirs = torch._scaled_mm(rows, ours.weight.T, scale, ours.scale, bias=ours.bias, out_dtype=torch.bfloat16)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"this processor or torch does not have it: {error}")
    torch.testing.assert_close(ours(x), theirs, atol=2e-2, rtol=2e-2)


@pytest.fixture
def small() -> CLUE:
    torch.manual_seed(0)
    return build(SMALL).eval().requires_grad_(False)


def test_the_blocks_products_are_float8_and_nothing_else(small: CLUE) -> None:
    before = copy.deepcopy(small)
    count = use_float8(small)
    changed = {name for name, module in small.named_modules() if isinstance(module, Float8Linear)}
    assert len(changed) == count > 0
    assert any(name.startswith("sd3.transformer.transformer_blocks.0.attn.to_q") for name in changed)
    assert any(name.startswith("sam.encoder.blocks.0.attn.qkv") for name in changed)
    assert not [name for name in changed if "norm" in name or "vae" in name or "embed" in name]
    x, noise = torch.rand(1, 3, 64, 64), torch.randn(1, *small.latent_shape(64, 64))
    with torch.inference_mode():
        difference = (torch.sigmoid(small(x, noise)) - torch.sigmoid(before(x, noise))).abs().max()
    assert 0 < difference < 0.1


def test_what_is_not_rounded_is_held_in_bfloat16() -> None:
    assert weights_format(FLOAT8) is torch.bfloat16
    assert weights_format(torch.float32) is torch.float32


def test_only_gpus_that_multiply_float8_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"needs a GPU of compute capability 8\.9 or above, and cpu is no GPU"):
        resolve("cpu", "float8_e4m3fn")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if device == "cuda:0" else (9, 0))
    with pytest.raises(DeviceError, match=r"cuda:0 has 8\.0"):
        resolve("cuda", "float8_e4m3fn")
    assert resolve("cuda:1", "float8_e4m3fn") == ("cuda:1", FLOAT8)
