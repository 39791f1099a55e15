"""In inference the blocks give what diffusers and segment_anything give, whatever happens to the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything.modeling.image_encoder import Block
from torch import nn

from model.branches import inference
from model.branches.inference import inferring, joined, pointwise
from model.branches.sam_network import SamNetwork
from model.branches.sd3_network import SD3Network
from model.preset import LoraSpec, NoiseSpec, SamSpec, SvdSpec, TransformerSpec
from tests.base_layouts import SMALL

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SPECS = {
    "SD3": SMALL.transformer,
    "SD3.5": dataclasses.replace(SMALL.transformer, dual_attention_layers=(0, 1), qk_norm="rms_norm"),
    "stops early": dataclasses.replace(SMALL.transformer, feature_blocks=(0,)),
}


def sd3(spec: TransformerSpec = SPECS["SD3.5"]) -> SD3Network:
    torch.manual_seed(0)
    made = SD3Network(SMALL.vae, spec, NoiseSpec(levels=(0.1, 0.5))).eval()
    made.prompt.normal_()
    made.pooled.normal_()
    for parameter in made.transformer.parameters():
        nn.init.normal_(parameter, std=0.1)  # modulation begins with zeros, which would test nothing
    return made


def sam(window: int = 4, depth: int = 3, everywhere: tuple[int, ...] = (1,), source: str = "view") -> SamNetwork:
    torch.manual_seed(0)
    spec = SamSpec(16, 1, 32, depth, 2, window, everywhere, 8, use_abs_pos=False, input=source)  # type: ignore[arg-type]
    made = SamNetwork(spec, 6 if source == "view" else 3).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def tokens(network: SD3Network, *prompts: torch.Tensor, own: bool = False) -> list[torch.Tensor]:
    """`own`: of the forward of the modules themselves."""
    dtype = network.transformer.pos_embed.proj.weight.dtype
    latent = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.set_grad_enabled(own):
        assert inferring(network, latent) != own
        return [one.detach() for one in network.tokens(latent, torch.tensor([250.0, 750.0]), *prompts)]


def assert_same(network: SD3Network, *prompts: torch.Tensor) -> list[torch.Tensor]:
    ours, theirs = tokens(network, *prompts), tokens(network, *prompts, own=True)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert other.std() > 1e-2
        torch.testing.assert_close(one, other, **CLOSE)
    return ours


@pytest.mark.parametrize("name", SPECS)
def test_tokens_are_those_of_diffusers(name: str) -> None:
    network = sd3(SPECS[name])
    apart = assert_same(network)
    network.arrange()
    for one, other in zip(assert_same(network), apart, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_tokens_of_prompts_that_are_given() -> None:
    network = sd3()
    prompts = torch.randn(2, *network.prompt.shape[1:]), torch.randn(2, network.pooled.shape[1])
    given = assert_same(network, *prompts)
    assert not torch.allclose(given[0], assert_same(network)[0], atol=1e-3)


def test_bfloat16_stays_near() -> None:
    network = sd3().bfloat16()
    for one, other in zip(tokens(network), tokens(network, own=True), strict=True):
        assert (one - other).float().abs().mean() < 1e-2 * other.float().std()


@pytest.mark.parametrize(
    "layer", ["attn.to_k", "attn.add_v_proj", "norm1.linear", "norm1_context.linear", "ff.net.0.proj", "attn.norm_q"]
)
def test_weights_that_change_are_seen(layer: str) -> None:
    """In place, as an optimizer does it, and exchanged, as the averaged weights of a training are."""
    network = sd3()
    network.arrange()
    before = assert_same(network)[-1]
    weight = network.transformer.transformer_blocks[0].get_submodule(layer).weight
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    changed = assert_same(network)[-1]
    weight.data = weight.data + 0.1 * torch.randn_like(weight)
    exchanged = assert_same(network)[-1]
    assert not torch.allclose(before, changed, atol=1e-4)
    assert not torch.allclose(changed, exchanged, atol=1e-4)


@pytest.mark.parametrize("spec", [LoraSpec(rank=2), SvdSpec(rank=2)], ids=["lora", "svd"])
def test_adapters_that_are_not_merged(spec: LoraSpec | SvdSpec) -> None:
    network, layers = sd3(), LoraSpec().sd3_targets
    before = assert_same(network)[-1]
    network.add_adapters(spec, layers)
    for name, parameter in network.named_parameters():
        if "lora_" in name or "svd_" in name:
            nn.init.normal_(parameter, std=0.1)
    assert not torch.allclose(assert_same(network.eval())[-1], before, atol=1e-4)


def test_weights_laid_together_keep_names_and_values_and_can_be_saved(tmp_path: Path) -> None:
    network = sd3()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.arrange()
    attn = network.transformer.transformer_blocks[0].attn
    parts = [attn.to_q.weight, attn.to_k.weight, attn.to_v.weight]
    assert joined(parts).data_ptr() == parts[0].data_ptr()
    assert joined(parts[::-1]).data_ptr() not in [part.data_ptr() for part in parts]
    assert torch.equal(joined(parts[::-1]), torch.cat(parts[::-1]))
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    after = load_file(tmp_path / "weights.safetensors")
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("source", ["view", "pixels"])
@pytest.mark.parametrize("size", [(8, 12), (9, 6), (3, 5), (16, 16), (4, 4)])
def test_windows_are_those_of_segment_anything(size: tuple[int, int], source: str) -> None:
    """Sizes that windows divide, and others; global blocks; fewer cells than there are relative positions for."""
    network, x = sam(source=source), torch.randn(2, 6 if source == "view" else 3, *size)
    with torch.enable_grad():
        expected = network(x, None, x if source == "view" else None).detach()
    with torch.inference_mode():
        ours = network(x, None, x if source == "view" else None)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, **CLOSE)


def test_only_windows_with_adapters_and_changed_weights() -> None:
    network, x = sam(everywhere=()), torch.randn(1, 6, 10, 12)
    network.add_adapters(LoraSpec(rank=2), ("qkv.q", "qkv.k", "qkv.v"))
    network.eval()

    def both() -> torch.Tensor:
        with torch.inference_mode():
            ours = network(x, None, x)
        with torch.enable_grad():
            torch.testing.assert_close(ours, network(x, None, x).detach(), **CLOSE)
        return ours

    before = both()
    for name, parameter in network.named_parameters():
        if "lora_" in name or "rel_pos" in name or "lin1" in name:
            nn.init.normal_(parameter, std=0.3)
    assert not torch.allclose(both(), before, atol=1e-3)


@pytest.mark.parametrize("branch", ["sd3", "sam"])
def test_weights_that_a_fused_optimizer_changed_are_seen(branch: str) -> None:
    """It does not count its changes, and averaged weights come back at the same addresses."""
    network, x = (sd3(), torch.rand(1, 3, 64, 64)) if branch == "sd3" else (sam(), torch.rand(1, 6, 8, 8))
    noise = torch.randn(1, 16, 8, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, fused=True)

    def validated() -> torch.Tensor:
        with torch.inference_mode():
            ours: torch.Tensor = network.eval()(x, noise, x)
        torch.testing.assert_close(ours, network(x, noise, x).detach(), atol=1e-4, rtol=1e-4)
        return ours

    before = validated()
    network.train()(x, noise, x).square().mean().backward()
    versions = [parameter._version for parameter in network.parameters()]
    optimizer.step()
    assert versions == [parameter._version for parameter in network.parameters()]  # else `forget` is not needed
    assert not torch.allclose(validated(), before, atol=1e-2)


def test_gradients_and_training_take_the_modules_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = sam(), torch.randn(1, 6, 8, 8)
    called: list[nn.Module] = []
    own = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, cells: called.append(self) or own(self, cells))
    network(x, None, x).square().mean().backward()
    assert len(called) == 3
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.no_grad():
        network.train()(x, None, x)
        assert len(called) == 6
        network.eval()(x, None, x)
    assert len(called) == 6


def test_a_training_between_two_validations_is_seen() -> None:
    """A fused optimizer changes weights without a new version or address of theirs."""
    network, x = sam(), torch.randn(1, 6, 8, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)

    def validated() -> torch.Tensor:
        network.eval()
        with torch.inference_mode():
            made = network(x, None, x)
        network.train()
        return made

    before = validated()
    network(x, None, x).square().mean().backward()
    optimizer.step()
    after = validated()
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, network.eval()(x, None, x).detach(), **CLOSE)


def test_pictures_of_all_sizes_do_not_fill_the_memory() -> None:
    """Tables of relative positions are kept for each side, of which there are few, not for each size."""
    network = sam(everywhere=(0, 1, 2), source="pixels")
    with torch.inference_mode():
        for height in range(9, 13):
            for width in range(9, 13):
                network(torch.rand(1, 3, height, width), None)
    assert len(inference._KEPT[network.encoder.blocks[0].attn]) == 8


def test_weights_of_inference_mode_have_no_constants() -> None:
    with torch.inference_mode():
        layer, x = nn.Linear(24, 8).eval(), torch.randn(4, 24)
        before = inference.linear(layer, x)
        layer.weight.neg_()
        torch.testing.assert_close(inference.linear(layer, x), layer(x), **CLOSE)
        assert not torch.allclose(before, layer(x), atol=1e-2)


def test_compiled_blocks_give_the_same() -> None:
    network = sd3()
    expected = tokens(network)
    for block in network.transformer.transformer_blocks:
        block.compile(backend="eager", dynamic=False)
    for one, other in zip(tokens(network), expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("source", ["view", "pixels"])
def test_compiled_blocks_of_sam_are_one_graph_each(source: str) -> None:
    network, x = sam(source=source), torch.rand(1, 6 if source == "view" else 3, 9, 6)
    with torch.no_grad():
        expected = network(x, None, x if source == "view" else None)
        for block in network.encoder.blocks:
            block.compile(backend="eager", dynamic=False, fullgraph=True)
        torch.testing.assert_close(network(x, None, x if source == "view" else None), expected, **CLOSE)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_torchs_and_channels_last(layout: torch.memory_format) -> None:
    layer = nn.Conv2d(24, 8, 1).eval().to(memory_format=torch.channels_last)
    x = torch.randn(2, 24, 5, 7).contiguous(memory_format=layout)
    with torch.no_grad():
        found = pointwise(layer, x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, layer(x).detach(), atol=1e-5, rtol=1e-5)
    assert pointwise(layer, x).requires_grad
