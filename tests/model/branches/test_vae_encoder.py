"""The encoder of the VAE: diffusers' results, with and without gradients, and what a GPU gets where kernels fail."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.branches import vae_encoder
from model.branches.sd3_network import build_autoencoder, build_vae, folded
from model.branches.vae_encoder import VaeEncoder, _Steps, chunked_attention, chunks_work, fused_norm_works
from model.preset import VaeSpec
from model.presets import PRESETS
from tests.base_layouts import SMALL

MINI = PRESETS["mini"].vae
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SPECS = {"sd3": dataclasses.replace(SMALL.vae, block_out_channels=(8, 16, 16), layers_per_block=2), "mini": MINI}


@pytest.fixture(autouse=True)
def nothing_tried() -> Iterator[None]:
    tried = vae_encoder.kernels, fused_norm_works, chunks_work
    for function in tried:
        function.cache_clear()
    vae_encoder._refused.clear()
    yield
    for function in tried:
        function.cache_clear()
    vae_encoder._refused.clear()


def pair(spec: VaeSpec) -> tuple[torch.nn.Module, VaeEncoder]:
    """diffusers' encoder and ours, with the same weights under the same names."""
    torch.manual_seed(0)
    theirs, ours = build_autoencoder(spec).encoder, build_vae(spec).encoder
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
    ours.load_state_dict(theirs.state_dict())
    assert isinstance(ours, VaeEncoder)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return theirs, ours


def pixels(spec: VaeSpec, *, last: bool) -> Tensor:
    channels = 3 * spec.pixel_unshuffle**2 + (spec.pixel_unshuffle**2 if spec.residual else 0)
    x = torch.rand(2, channels, 24, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x.contiguous(memory_format=torch.channels_last) if last else x


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", SPECS)
def test_it_is_diffusers_own(name: str, last: bool) -> None:
    theirs, ours = pair(SPECS[name])
    layout = torch.channels_last if last else torch.contiguous_format
    theirs, ours, x = theirs.to(memory_format=layout), ours.to(memory_format=layout), pixels(SPECS[name], last=last)
    untouched = x.clone()
    with torch.inference_mode():
        found, expected = ours(x), theirs(x)
    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, **CLOSE)
    assert torch.equal(x, untouched)


@pytest.mark.parametrize("name", SPECS)
def test_so_are_its_gradients(name: str) -> None:
    x = pixels(SPECS[name], last=True)
    gradients = []
    for encoder in pair(SPECS[name]):
        encoder(given := x.clone().requires_grad_()).square().mean().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in encoder.parameters())])
    assert all(one is not None for one in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0], **CLOSE)


def test_a_frozen_one_passes_a_gradient_on() -> None:
    _, ours = pair(SPECS["sd3"])
    ours.requires_grad_(False)
    x = pixels(SPECS["sd3"], last=True)
    assert not ours(x).requires_grad
    ours(given := x.requires_grad_()).sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0


def test_in_bfloat16_with_and_without_autocast() -> None:
    theirs, ours = pair(SPECS["sd3"])
    x = pixels(SPECS["sd3"], last=True)
    with torch.inference_mode():
        expected = theirs(x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = ours(x)
        held = ours.bfloat16()(x.bfloat16())
    for found in (cast, held):
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fold", [1, 2, 4, 3])
def test_folding_is_pixel_unshuffle(dtype: torch.dtype, fold: int) -> None:
    x = torch.randn(2, 4, 24, 36).to(dtype)
    x[0, 0, 0, 0] = torch.nan
    found = folded([x[:, :3], x[:, 3:]], fold)
    assert torch.equal(found.isnan(), F.pixel_unshuffle(x, fold).isnan())
    assert torch.equal(found.nan_to_num(), F.pixel_unshuffle(x, fold).nan_to_num())


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("scores", [1, 70, 2**25])
def test_attention_in_chunks(monkeypatch: pytest.MonkeyPatch, scores: int, dtype: torch.dtype, close: float) -> None:
    monkeypatch.setattr(vae_encoder, "SCORES", scores)
    q, k, v = torch.randn(3, 2, 1, 30, 16).to(dtype)
    torch.testing.assert_close(
        chunked_attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=close, rtol=close
    )
    assert chunks_work(torch.device("cpu"), dtype)


class TestWhatAGpuGets:
    """On the CPU, with kernels that are not Triton's."""

    DEVICE = torch.device("cpu")

    def test_kernels_that_fail_are_named_once_and_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def norm(*_: object, **__: object) -> Tensor:
            raise RuntimeError("no ptxas\nat line 3")

        monkeypatch.setattr(vae_encoder, "kernels", lambda: SimpleNamespace(norm=norm))
        with pytest.warns(RuntimeWarning, match=r"fused norm of the VAE does not run here \(RuntimeError: no ptxas\)"):
            assert not fused_norm_works(self.DEVICE, torch.float32, 8, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not fused_norm_works(self.DEVICE, torch.float32, 16, 4)

    def test_kernels_that_are_wrong_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = SimpleNamespace(norm=lambda x, *_: x, add=lambda _x, _y, _bias, out: out)
        monkeypatch.setattr(vae_encoder, "kernels", lambda: wrong)
        with pytest.warns(RuntimeWarning, match="its results are wrong"):
            assert not fused_norm_works(self.DEVICE, torch.bfloat16, 8, 4)

    def test_no_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "model.branches.vae_kernels", raising=False)
        with pytest.warns(RuntimeWarning, match="triton"):
            assert not fused_norm_works(self.DEVICE, torch.float32, 8, 4)

    def test_out_of_memory_is_no_failure_of_theirs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def norm(*_: object, **__: object) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(vae_encoder, "kernels", lambda: SimpleNamespace(norm=norm))
        with pytest.raises(torch.OutOfMemoryError):
            fused_norm_works(self.DEVICE, torch.float32, 8, 4)
        assert not vae_encoder._refused

    def test_neither_where_something_learns(self) -> None:
        on_a_gpu = SimpleNamespace(is_cuda=True, device=self.DEVICE, dtype=torch.float32)
        assert _Steps(functional=True).fused(on_a_gpu, torch.nn.GroupNorm(4, 8)) is None  # type: ignore[arg-type]


INTERPRETED = """
import dataclasses, torch
import torch.nn.functional as F
from model.branches import vae_encoder, vae_kernels
from model.branches.vae_encoder import _Steps
from tests.model.branches.test_vae_encoder import SPECS, pair, pixels
held = vae_kernels.ELEMENTS, vae_kernels.CHUNKS
vae_kernels.ELEMENTS, vae_kernels.CHUNKS = 64, 3  # several tiles in each of several parts
for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
    for mean, shape, groups in ((3, (2, 12, 7, 5), 4), (100, (1, 8, 5, 5), 1)):
        x, y = (torch.randn(shape).add(mean).to(dtype).contiguous(memory_format=torch.channels_last) for _ in range(2))
        weight, offset, bias = torch.randn(3, shape[1]).to(dtype)
        limit = {"atol": close * max(1, mean / 10), "rtol": close}
        for silu, added in ((True, bias), (False, None)):
            biased = x.double() + (0 if added is None else added.double()[:, None, None])
            expected = F.group_norm(biased, groups, weight.double(), offset.double(), 1e-6)
            expected = F.silu(expected) if silu else expected
            found = vae_kernels.norm(x, weight, offset, groups, 1e-6, added, silu=silu)
            assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == dtype
            torch.testing.assert_close(found.double(), expected, **limit)
            alone = vae_kernels.norm(x[:1], weight, offset, groups, 1e-6, added, silu=silu)
            assert torch.equal(found[:1], alone)  # whatever else is in the batch
        expected = x.double() + y.double() + bias.double()[:, None, None]
        padded = vae_kernels.add(x, y, bias, vae_encoder.zero_edges(x))
        torch.testing.assert_close(padded.double(), F.pad(expected, (0, 1, 0, 1)), **limit)
        assert vae_kernels.add(x, y, bias, x) is x
        torch.testing.assert_close(x.double(), expected, **limit)
# The whole encoder, as a GPU runs it.
_Steps.fused = lambda self, x, norm: None if self.functional else vae_kernels
vae_kernels.ELEMENTS, vae_kernels.CHUNKS = held
spec = dataclasses.replace(SPECS["sd3"], block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2)
with torch.inference_mode():
    assert vae_encoder.fused_norm_works(torch.device("cpu"), torch.float32, 8, 2)
    theirs, ours = pair(spec)
    x = pixels(spec, last=True)[:, :, :8, :12]
    torch.testing.assert_close(ours.to(memory_format=torch.channels_last)(x), theirs(x), atol=1e-5, rtol=1e-5)
"""


@pytest.mark.slow
def test_the_kernels_interpreted() -> None:
    pytest.importorskip("triton")
    root = Path(__file__).parents[3]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
