"""Both presets are built; shapes, sizes and what learns are as the paper says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from model.clue import CLUE, adapt, build
from model.preset import NoiseSpec, Preset
from model.presets import MINI, SD3_MEDIUM


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def run(model: CLUE, height: int = 64, width: int = 96, batch: int = 2) -> torch.Tensor:
    device = next(model.parameters()).device
    x = torch.rand(batch, 3, height, width, device=device)
    noise = torch.randn(batch, *model.latent_shape(height, width), device=device)
    logits: torch.Tensor = model(x, noise)
    return logits


def test_mini_gives_one_logit_per_pixel() -> None:
    model = build(MINI).eval()
    with torch.inference_mode():
        logits = run(model)
    assert logits.shape == (2, 1, 64, 96)
    assert logits.dtype == torch.float32
    assert bool(torch.isfinite(logits).all())


def test_mini_is_small_enough_for_the_package() -> None:
    assert millions(build(MINI, "meta")) * 2 < 30  # two bytes per weight


def test_paper_scale_maps_a_full_tile_to_logits_on_the_meta_device() -> None:
    model = build(SD3_MEDIUM, "meta").eval()
    assert model.latent_shape(1024, 1024) == (16, 128, 128)
    assert run(model, 1024, 1024, batch=1).shape == (1, 1, 1024, 1024)


@pytest.mark.parametrize("preset", [MINI, SD3_MEDIUM], ids=lambda p: p.name)
def test_adapters_fusion_and_head_learn_and_nothing_else(preset: Preset) -> None:
    model = build(preset, "meta")
    base = millions(model)
    adapt(model, "lora")
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    allowed = ("lora_", "fusion.", "localization.", "view.")
    assert all(any(part in name for part in allowed) for name in learning)
    assert any("sd3.transformer" in name and "lora_" in name for name in learning)
    for projection in ("q", "k", "v"):
        assert sum(f"attn.qkv.{projection}.lora_A" in name for name in learning) == preset.sam.depth
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6 < 0.25 * base


def test_gradients_reach_exactly_what_learns(tiny: Preset) -> None:
    model = build(tiny)
    adapt(model, "lora")
    run(model).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_fresh_adapters_change_nothing(tiny: Preset) -> None:
    torch.manual_seed(0)
    model = build(tiny).eval()
    torch.manual_seed(1)
    before = run(model)
    adapt(model, "lora")
    torch.manual_seed(1)
    assert torch.allclose(run(model.eval()), before, atol=1e-5)


@pytest.mark.parametrize(("sd3", "sam"), [("frozen", "full"), ("full", "frozen")])
def test_a_frozen_branch_has_no_gradient(tiny: Preset, sd3: str, sam: str) -> None:
    model = build(tiny)
    adapt(model, {"sd3": sd3, "sam": sam})  # type: ignore[dict-item]
    for branch, mode in ((model.sd3, sd3), (model.sam, sam)):
        assert branch is not None
        assert any(p.requires_grad for p in branch.parameters()) == (mode == "full")


@pytest.mark.parametrize("branches", ["sd3", "sam"])
def test_one_branch_alone_works(tiny: Preset, branches: str) -> None:
    model = build(tiny, branches=branches)
    assert (model.sam is None) == (branches == "sd3")
    assert run(model).shape == (2, 1, 64, 96)


@pytest.mark.parametrize("noise", [NoiseSpec("rf", (0.1, 0.5)), NoiseSpec("ddpm", (0.1, 0.5)), NoiseSpec("none", ())])
def test_every_noise_of_the_ablation_works(tiny: Preset, noise: NoiseSpec) -> None:
    model = build(dataclasses.replace(tiny, noise=noise))
    assert model.sd3 is not None
    passes = 1 if noise.schedule == "none" else 2
    assert model.sd3.channels == passes * 2 * 64
    assert run(model).shape == (2, 1, 64, 96)


def test_blocks_that_no_feature_needs_are_not_computed(tiny: Preset) -> None:
    preset = dataclasses.replace(tiny, transformer=dataclasses.replace(tiny.transformer, feature_blocks=(0,)))
    model = build(preset).eval()
    assert model.sd3 is not None
    called = []
    model.sd3.transformer.transformer_blocks[1].register_forward_hook(lambda *_: called.append(1))
    run(model)
    assert not called


def test_gradient_checkpointing_gives_the_same_gradients(tiny: Preset) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build(tiny)
        assert model.sd3 is not None
        if checkpointing:
            model.sd3.keep_less()
        torch.manual_seed(1)
        run(model).square().mean().backward()
        weight = model.sd3.transformer.transformer_blocks[0].attn.to_q.weight
        assert weight.grad is not None
        gradients.append(weight.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_branch_is_needed(tiny: Preset) -> None:
    with pytest.raises(ValueError, match="branch"):
        build(tiny, branches="neither")
