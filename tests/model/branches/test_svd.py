"""The residual of a decomposition learns and the principal part stays: in a layer, a branch, a checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from model import registry
from model.branches.network import merge_adapters, merged_state
from model.branches.svd import SvdLinear, constraint, inject_svd, svd_layers
from model.calibration import Calibration
from model.checkpoint import CheckpointError, digest_of, inspect
from model.clue import CLUE, adapt, build
from model.config import ConfigError
from model.preset import Preset, SvdSpec
from model.presets.mini import MINI
from model.storage import load, load_learned, merge, save, with_bases
from model.training.network import count_parameters, planned, prepare_network, stored_weights
from model.training.options import read_options
from model.training.run_folder import read_log
from model.training.trainer import train
from tests.base_layouts import SMALL, register_small
from tests.model.training.made import QUICK, task

pytestmark = pytest.mark.usefixtures("config")
WITH_SVD = dataclasses.replace(SMALL, adapt_sam="svd", svd=SvdSpec(rank=2))


def moved(network: nn.Module, by: float = 0.1) -> None:
    """Change every factor, as a training does."""
    torch.manual_seed(4)
    with torch.no_grad():
        for layer in svd_layers(network):
            for factor in (layer.svd_u, layer.svd_s, layer.svd_v):
                factor += by * torch.randn_like(factor)


def layer_of(outputs: int, inputs: int, rank: int = 2, dtype: torch.dtype = torch.float32) -> SvdLinear:
    torch.manual_seed(0)
    return SvdLinear(nn.Linear(inputs, outputs, dtype=dtype), SvdSpec(rank=rank))


class TestLayer:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_at_first_it_computes_what_the_original_does_to_the_bit(self, dtype: torch.dtype) -> None:
        layer, x = layer_of(12, 12, dtype=dtype), torch.randn(3, 5, 12, dtype=dtype)
        assert torch.equal(layer(x), layer.base_layer(x))
        assert layer(x).dtype == dtype
        assert not layer.get_delta_weight().any()

    @pytest.mark.parametrize(("outputs", "inputs"), [(12, 12), (20, 12), (12, 20)])
    def test_principal_and_residual_are_the_decomposition(self, outputs: int, inputs: int) -> None:
        layer = layer_of(outputs, inputs)
        values = torch.linalg.svdvals(layer.base_layer.weight.detach())
        torch.testing.assert_close(torch.linalg.svdvals(layer.principal())[:-2], values[:-2])
        assert torch.linalg.svdvals(layer.principal())[-2:].max() < 1e-5
        torch.testing.assert_close(layer.svd_s.detach(), values[-2:])
        torch.testing.assert_close(layer.principal() @ layer.svd_v.T, torch.zeros(outputs, 2), atol=1e-5, rtol=0)
        assert constraint([layer]) < 1e-6

    def test_the_constraints_are_those_of_the_whole_decomposition(self) -> None:
        layer = layer_of(12, 12)
        u, _, v = torch.linalg.svd(layer.base_layer.weight.detach())
        before = layer.base_layer.weight.detach().square().sum()
        moved(layer)
        whole = torch.zeros(())
        for kept, now in ((u[:, :-2], layer.svd_u), (v[:-2].T, layer.svd_v.T)):
            joined = torch.cat([kept, now.detach()], 1)
            whole = whole + (joined.T @ joined - torch.eye(12)).square().sum()
        torch.testing.assert_close(layer.orthogonality().detach(), whole, atol=1e-4, rtol=1e-4)
        weight = layer.base_layer.weight + layer.get_delta_weight()
        change = (weight.square().sum() - before).abs().detach()
        torch.testing.assert_close(layer.norm_change().detach(), change, atol=1e-4, rtol=1e-4)
        expected = 0.5 * layer.orthogonality() + 3 * layer.norm_change()
        layer.spec = SvdSpec(rank=2, orthogonality=0.5, norm=3)
        torch.testing.assert_close(constraint([layer]), expected)

    def test_training_with_constraints_keeps_the_principal_part_and_orthogonality(self) -> None:
        layer = layer_of(16, 16)
        with torch.no_grad():
            u, _, v = torch.linalg.svd(layer.base_layer.weight)
            layer.base_layer.weight.copy_(u * torch.linspace(3, 1, 16) @ v)
        layer = SvdLinear(layer.base_layer, layer.spec)
        kept = layer.principal().clone()
        turned = torch.tensor([[0.6, -0.8], [0.8, 0.6]])  # orthogonal and of the same norm: what may be learned
        wanted, x = kept + layer.svd_u0 @ turned * layer.svd_s0 @ layer.svd_v0, torch.randn(64, 16)
        optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], 1e-2)
        losses = []
        for _ in range(400):
            loss = (layer(x) - x @ wanted.T - layer.base_layer.bias).square().mean()
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            (loss + constraint([layer])).backward()
            optimizer.step()
        assert losses[-1] < 0.1 * losses[0]
        assert torch.equal(layer.principal(), kept)
        assert constraint([layer]) < 0.1
        angles = torch.linalg.matrix_norm(kept.T @ layer.svd_u.detach(), 2) / torch.linalg.matrix_norm(kept, 2)
        assert angles < 0.05  # the left singular vectors that learned stay out of the kept ones' space

    def test_merged_it_computes_the_same(self) -> None:
        network = nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 12))
        inject_svd(network, SvdSpec(), ["0", "2"])
        moved(network)
        x = torch.randn(7, 12)
        expected = network(x)
        assert sorted(merged_state(network)) == ["0.bias", "0.weight", "2.bias", "2.weight"]
        assert len(list(merge_adapters(network))) == 2
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)

    def test_clip_vit_large_learns_as_many_parameters_as_the_paper_says(self) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        size = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        with torch.device("meta"):
            network = CLIPVisionModel(CLIPVisionConfig(**size, patch_size=14)).requires_grad_(False)
            inject_svd(network, SvdSpec(), ["q_proj", "k_proj", "v_proj", "out_proj"])
        assert count_parameters(network)[0] == 196_704  # 0.19 million

    def test_what_cannot_be_is_named(self) -> None:
        with pytest.raises(ValueError, match="rank 8 leaves nothing of a layer of 8×16"):
            SvdLinear(nn.Linear(16, 8), SvdSpec(rank=8))
        with pytest.raises(ValueError, match="no linear layer whose name ends with q or k"):
            inject_svd(nn.Sequential(nn.Linear(4, 4)), SvdSpec(), ["q", "k"])


class TestBranch:
    @pytest.fixture
    def base(self, tmp_path: Path) -> registry.Base:
        return register_small(tmp_path / "bases")

    def network(self, base: registry.Base, preset: Preset = WITH_SVD) -> CLUE:
        torch.manual_seed(3)
        model = with_bases(preset, base, "cpu", torch.float32)
        adapt(model)
        return model.eval()

    def logits(self, model: CLUE) -> torch.Tensor:
        torch.manual_seed(5)
        with torch.inference_mode():
            found: torch.Tensor = model(torch.rand(1, 3, 96, 128), torch.randn(1, *model.latent_shape(96, 128)))
        return found

    def test_saved_are_the_factors_alone_and_loaded_it_is_what_was_trained(
        self, base: registry.Base, tmp_path: Path
    ) -> None:
        model = self.network(base)
        moved(model)
        save(tmp_path / "a", model, Calibration(), {})
        files = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.safetensors")}
        sam = "svd_sam/adapter_model.safetensors"
        assert files == {"head.safetensors", "lora_sd3/adapter_model.safetensors", sam}
        factors = load_file(tmp_path / "a" / sam)
        assert {name.rsplit(".", 1)[1] for name in factors} == {f"svd_{x}{y}" for x in "usv" for y in ("", "0")}
        assert len(factors) == 6 * 3 * SMALL.sam.depth
        checkpoint = inspect(str(tmp_path / "a"))
        assert checkpoint.bases == base.digests()
        expected = self.logits(model)
        torch.testing.assert_close(self.logits(load(checkpoint, "cpu", torch.float32)), expected, atol=1e-4, rtol=1e-4)
        merge(checkpoint, tmp_path / "whole", torch.float32)
        whole = load(inspect(str(tmp_path / "whole")), "cpu", torch.float32)
        torch.testing.assert_close(self.logits(whole), expected, atol=1e-4, rtol=1e-4)
        other = self.network(base)
        load_learned(other, checkpoint)
        assert torch.equal(self.logits(other), expected)

    def test_the_digest_covers_them_and_what_is_damaged_is_named(self, base: registry.Base, tmp_path: Path) -> None:
        folder = tmp_path / "a"
        save(folder, self.network(base), Calibration(), {})
        path, before = folder / "svd_sam" / "adapter_model.safetensors", digest_of(folder)
        factors = load_file(path)
        save_file(factors | {next(iter(factors)): next(iter(factors.values())) + 1}, path)
        assert digest_of(folder) != before
        save_file({name: tensor for name, tensor in factors.items() if "qkv.k.svd_s0" not in name}, path)
        with pytest.raises(CheckpointError, match=r"damaged: the adapters of blocks\.0\.attn\.qkv\.k are missing"):
            load(inspect(str(folder)), "cpu", torch.float32)
        shutil.rmtree(folder / "svd_sam")
        with pytest.raises(CheckpointError, match=r"svd_sam/adapter_model\.safetensors .*(No such file|missing|read)"):
            load(inspect(str(folder)), "cpu", torch.float32)

    def test_the_preset_says_it_and_descriptions_without_it_are_as_before(self) -> None:
        assert "svd" not in MINI.to_dict() and "svd" not in dataclasses.replace(MINI, adapt_sam="svd").to_dict()
        assert Preset.from_dict(WITH_SVD.to_dict()) == WITH_SVD
        with pytest.raises(ConfigError, match=r"preset\.svd\.rank: found `32`; expected below sam\.embed_dim"):
            Preset.from_dict(WITH_SVD.to_dict() | {"svd": {"rank": 32}})

    def test_the_parameters_that_learn_are_counted_without_weights(self) -> None:
        options = read_options(steps=1)
        sam, count = SMALL.sam, {}
        for how in ("frozen", "svd"):
            preset = dataclasses.replace(WITH_SVD, adapt_sam=how)
            count[how] = count_parameters(planned(preset, options))[0]
        assert count["svd"] - count["frozen"] == sam.depth * 3 * 2 * (2 * sam.embed_dim + 1)

    def test_a_resumed_training_has_the_same_first_values(self, base: registry.Base) -> None:
        model = prepare_network(WITH_SVD, read_options(steps=1))
        names = {name for name in stored_weights(model) if ".svd_" in name}
        assert len(names) == 6 * 3 * SMALL.sam.depth

    def test_a_model_trained_from_scratch_goes_on_with_it(self, tmp_path: Path) -> None:
        preset = dataclasses.replace(QUICK, adapt_sam="svd")
        torch.manual_seed(0)
        save(tmp_path / "init", build(QUICK), Calibration(), {})
        train(task(tmp_path / "run", preset, steps=2, init=str(tmp_path / "init")))
        assert [row["kind"] for row in read_log(tmp_path / "run" / "log.jsonl")].count("step") == 2
        before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("init", "run/last"))
        assert before.keys() == after.keys()
        name = "sam.encoder.blocks.0.attn.qkv.weight"
        assert not torch.equal(before[name], after[name])
        assert torch.equal(
            before["sam.encoder.blocks.0.mlp.lin1.weight"], after["sam.encoder.blocks.0.mlp.lin1.weight"]
        )
