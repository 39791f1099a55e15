"""The early view sees what it claims to see."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from model import forensic_view
from model.forensic_view import ForensicView, dct_basis, fit_to_histogram, high_pass, luma, zigzag
from model.preset import Preset, ViewSpec
from model.presets import MINI
from model.self_match import CHANNELS, REPEATS

SPEC = ViewSpec(channels=16)


def noisy(side: int, deviation: float) -> np.ndarray:
    """A smooth picture of `side`² pixels with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side)))
    return np.clip(smooth + rng.normal(0, deviation, smooth.shape), 0, 255).astype(np.uint8)


def through_jpeg(pixels: np.ndarray, step: int) -> np.ndarray:
    """With a flat quantization table."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", qtables=[[step] * 64, [step] * 64], subsampling=0)
    return np.array(Image.open(buffer))


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
    x = torch.from_numpy(through_jpeg(noisy(256, 12), step)).permute(2, 0, 1)[None].float() / 255
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


def test_constants_follow_the_network_and_keep_their_precision() -> None:
    with torch.device("meta"):
        view = ForensicView(SPEC)
    assert {constant.device.type for constant in view.buffers()} == {"meta"}
    view.to_empty(device="cpu").to(torch.bfloat16)
    assert torch.equal(view.basis, dct_basis())
    assert view.steps.tolist() == list(SPEC.steps)
    assert view.tested.tolist() == zigzag()[1 : 1 + SPEC.frequencies]
    assert view.project.weight.dtype == torch.bfloat16
    assert all(name.startswith(("project.", "pool.")) for name in view.state_dict())  # nothing of it is saved
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(view.traces(x), ForensicView(SPEC).traces(x))


def test_output_has_stride_eight() -> None:
    assert ForensicView(SPEC)(torch.rand(2, 3, 64, 96)).shape == (2, 16, 8, 12)


@pytest.mark.parametrize(("first", "second"), [(9, 4), (6, 8), (5, 3), (10, 14)])
def test_a_region_without_the_first_compression_fits_the_histogram_less(first: int, second: int) -> None:
    """Whether the second quantization is finer or coarser than the first."""
    pristine = noisy(320, 14)
    spliced = through_jpeg(pristine, first)
    spliced[96:224, 96:224] = pristine[96:224, 96:224]
    final = through_jpeg(spliced, second)
    x = torch.from_numpy(final).permute(2, 0, 1)[None].float() / 255
    c = torch.nn.functional.conv2d(luma(x), dct_basis(), stride=8)[:, zigzag()[1:21]]
    fit = fit_to_histogram(c).reshape(4, 20, 40, 40).sum((0, 1))
    region = torch.zeros(40, 40, dtype=torch.bool)
    region[12:28, 12:28] = True
    assert fit[~region].mean() > fit[region].mean()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_gpu_counts_the_same_without_atomic_additions(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond 256 in one bin, where half precision ends, and in several parts."""
    c = torch.randn(3, 4, 40, 50) * torch.tensor([0.1, 2.0, 30.0, 900.0])[None, :, None, None]
    bins = c.abs().round().clamp(max=forensic_view.BINS - 1).long().flatten(2)
    expected = torch.stack([torch.bincount(row, minlength=forensic_view.BINS) for row in bins.flatten(0, 1)])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(forensic_view.histogram_by_products(bins).flatten(0, 1), expected.float())
    assert torch.equal(forensic_view.histogram(bins).flatten(0, 1), expected.float())
    monkeypatch.setattr(forensic_view, "_AT_ONCE", 1)
    assert torch.equal(forensic_view.histogram_by_products(bins), forensic_view.histogram(bins))


def test_fit_is_finite_for_a_single_block_and_a_flat_picture() -> None:
    for picture in (torch.rand(1, 3, 8, 8), torch.full((1, 3, 64, 64), 0.5)):
        assert bool(torch.isfinite(ForensicView(SPEC).traces(picture)).all())


@pytest.mark.parametrize("repeats", [False, True])
def test_a_view_without_repeats_ignores_the_last_maps(repeats: bool) -> None:
    view = ForensicView(dataclasses.replace(SPEC, matches=True, repeats=repeats))
    assert view.matches == CHANNELS - (0 if repeats else REPEATS)
    x, matches = torch.rand(1, 3, 32, 40), torch.rand(1, CHANNELS, 4, 5)
    others = matches.clone()
    others[:, -REPEATS:] += 1
    assert torch.equal(view(x, matches), view(x, others)) != repeats
    assert torch.equal(view(x), view(x, torch.zeros_like(matches)))
    others[:, -REPEATS - 1] += 1
    assert not torch.equal(view(x, matches), view(x, others))


def test_a_preset_of_version_0_1_0_has_no_repeats() -> None:
    stored = MINI.to_dict()
    del stored["view"]["repeats"]
    old = Preset.from_dict(stored)
    assert MINI.view.repeats and not old.view.repeats
    widths = [ForensicView(preset.view).project.in_channels for preset in (MINI, old)]
    assert widths[0] - widths[1] == REPEATS
