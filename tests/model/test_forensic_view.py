"""The early view sees what it claims to see."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from model.forensic_view import ForensicView, dct_basis, high_pass, luma, zigzag
from model.presets.spec import ViewSpec

SPEC = ViewSpec(channels=16)


def test_basis_is_orthonormal_and_agrees_with_scipy() -> None:
    basis = dct_basis().reshape(64, 64)
    assert torch.allclose(basis @ basis.T, torch.eye(64), atol=1e-6)
    block = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert (basis.numpy() @ block.ravel()).reshape(8, 8) == pytest.approx(dctn(block, norm="ortho"), abs=1e-5)


def test_zigzag_is_jpegs() -> None:
    assert zigzag()[:10] == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert zigzag()[-3:] == [55, 62, 63]
    assert sorted(zigzag()) == list(range(64))


def test_luma_of_grey_and_range() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert luma(grey) == pytest.approx(torch.full((1, 1, 8, 8), -0.5), abs=1e-4)


def test_high_pass_ignores_ramps_and_sees_edges() -> None:
    ramp = torch.arange(16.0).reshape(1, 1, 1, 16).expand(1, 1, 16, 16)
    assert high_pass(ramp)[..., 1:-1, 1:-1].abs().max() < 1e-5
    edge = (torch.arange(16) > 8).float().reshape(1, 1, 16, 1).expand(1, 1, 16, 16) * 200
    assert high_pass(edge).abs().max() == 0  # a straight edge has no second mixed difference
    corner = torch.zeros(1, 1, 16, 16)
    corner[..., 8:, 8:] = 200
    assert high_pass(corner).abs().max() > 0.9


@pytest.mark.parametrize("step", [4, 8, 16])
def test_votes_are_for_the_step_that_a_jpeg_used(step: int) -> None:
    """A flat quantization table: among steps that do not divide it, the true one gets the most votes."""
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((256, 256)))
    noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", qtables=[[step] * 64, [step] * 64], subsampling=0)
    pixels = np.asarray(Image.open(buffer))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    traces = ForensicView(SPEC).traces(x)
    votes = traces[:, 192 : 192 + SPEC.frequencies * len(SPEC.steps)]
    mean = votes.reshape(SPEC.frequencies, len(SPEC.steps), -1).mean((0, 2))
    by_step = dict(zip(SPEC.steps, mean.tolist(), strict=True))
    rivals = [q for q in SPEC.steps if step % q]
    assert all(by_step[step] > by_step[q] for q in rivals)


def test_traces_are_the_same_under_autocast() -> None:
    x = torch.rand(1, 3, 32, 32)
    view = ForensicView(SPEC)
    plain = view.traces(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view.traces(x), plain)


def test_output_has_stride_eight() -> None:
    assert ForensicView(SPEC)(torch.rand(2, 3, 64, 96)).shape == (2, 16, 8, 12)
