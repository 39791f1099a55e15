"""Every preset is sound, and a wrong key or value in a person's own is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.clue import adapt, build
from model.presets import MINI, PRESETS, SD3_MEDIUM, SD35_MEDIUM, Preset
from model.presets.files import PresetError, preset_of
from tests.tiny_model import TINY


@pytest.mark.parametrize("preset", [*PRESETS.values(), TINY], ids=lambda p: p.name)
def test_every_preset_survives_its_own_checks(preset: Preset) -> None:
    assert Preset.from_dict(preset.to_dict()) == preset


@pytest.mark.parametrize(
    ("name", "transformer", "sam"),
    [
        # Millions of numbers: half the bytes of the transformers' published files, 4.17 and 4.94 GB in two bytes each;
        # SAM's published 636, 308 and 91 M are with a decoder of 4 M, and rounded.
        ("sd3-medium", 2085, 637),
        ("sd3-medium-vit-l", 2085, 308),
        ("sd3-medium-vit-b", 2085, 89.7),
        ("sd3.5-medium", 2470, 637),
    ],
)
def test_published_sizes(name: str, transformer: float, sam: float) -> None:
    model = build(PRESETS[name], "meta")
    assert model.sd3 is not None
    assert model.sam is not None
    assert sum(t.numel() for t in model.sd3.transformer.state_dict().values()) / 1e6 == pytest.approx(
        transformer, rel=0.01
    )
    assert sum(p.numel() for p in model.sam.encoder.parameters()) / 1e6 == pytest.approx(sam, rel=0.01)


def test_the_second_attention_of_sd35_is_adapted_like_the_first() -> None:
    model = build(SD35_MEDIUM, "meta", "sd3")
    adapt(model, "lora")
    assert model.sd3 is not None
    for index, block in enumerate(model.sd3.transformer.transformer_blocks):
        adapted = {name for name, module in block.named_modules() if hasattr(module, "lora_A")}
        second = {"attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"}
        assert adapted & second == (second if index < 13 else set()), index
        assert {"attn.to_q", "attn.add_q_proj"} <= adapted, index


def test_dual_attention_runs_through_the_same_code() -> None:
    change = {"dual_attention_layers": [0], "qk_norm": "rms_norm"}
    data = TINY.to_dict()
    preset = Preset.from_dict(data | {"transformer": data["transformer"] | change})
    model = build(preset).eval()
    assert model.sd3 is not None
    blocks = model.sd3.transformer.transformer_blocks
    assert blocks[0].attn2 is not None
    assert blocks[1].attn2 is None
    with torch.inference_mode():
        logits = model(torch.rand(1, 3, 64, 64), torch.randn(1, *model.latent_shape(64, 64)))
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize(
    ("part", "key", "value", "named"),
    [
        ("sam", "heads", 3, r"preset\.sam: unknown key 'heads'"),
        ("sam", 7, 3, r"preset\.sam: unknown key '7'"),
        ("sam", "depth", "32", r"preset\.sam\.depth is '32'; expected a whole number"),
        ("sam", "depth", 0, r"preset\.sam\.depth is 0; expected 1 or more"),
        ("sam", "depth", 2000, r"preset\.sam\.depth is 2000; expected at most 1024"),
        ("sam", "depth", True, r"preset\.sam\.depth is 'True'; expected a whole number"),
        ("sam", "input", "latent", r"preset\.sam\.input is 'latent'; expected one of pixels, view"),
        ("sam", "num_heads", 7, r"preset\.sam\.num_heads is 7; expected a divisor of embed_dim, 1280"),
        (
            "sam",
            "global_attn_indexes",
            [40],
            r"preset\.sam\.global_attn_indexes is \[40\]; expected blocks from 0",
        ),
        ("sam", "input", "view", r"preset\.view\.channels is 0; expected above 0"),
        ("sam", "img_size", 512, r"preset\.tile\.size is 1024; expected at most 512"),
        ("vae", "block_out_channels", [100], r"preset\.vae\.block_out_channels is \[100\]; expected multiples of"),
        ("vae", "block_out_channels", [], r"preset\.vae\.block_out_channels is empty"),
        ("vae", "scaling_factor", 0, r"preset\.vae\.scaling_factor is 0; expected"),
        ("vae", "scaling_factor", float("nan"), r"preset\.vae\.scaling_factor is 'nan'; expected a number"),
        (
            "transformer",
            "feature_blocks",
            [24],
            r"preset\.transformer\.feature_blocks is \[24\]; expected rising",
        ),
        ("transformer", "feature_blocks", [3, 2], r"preset\.transformer\.feature_blocks"),
        ("transformer", "qk_norm", "other", r"preset\.transformer\.qk_norm is 'other'; expected nothing or rms_norm"),
        ("transformer", "qk_norm", 1, r"preset\.transformer\.qk_norm is '1'; expected a text or nothing"),
        ("transformer", "num_attention_heads", 65536, r"attention_head_dim is 64; expected num_attention_heads times"),
        ("transformer", "num_layers", 10**9, r"preset\.transformer\.num_layers is 1000000000"),
        ("noise", "levels", [1.5], r"preset\.noise\.levels is \[1\.5\]; expected levels from 0 to 1"),
        ("noise", "levels", [], r"preset\.noise\.levels is \[\]; expected at least one level"),
        ("noise", "levels", ["a"], r"preset\.noise\.levels is .*; expected a list, each item a number"),
        ("noise", "shift", -1.0, r"preset\.noise\.shift is -1\.0; expected above 0"),
        ("lora", "dropout", 1, r"preset\.lora\.dropout is 1; expected below 1"),
        ("head", "groups", 7, r"preset\.head\.channels is 256; expected a multiple of groups, 7"),
        ("tile", "multiple", 8, r"preset\.tile\.multiple is 8; expected a multiple of 16"),
        ("tile", "overlap", 1024, r"preset\.tile\.overlap is 1024; expected at most half"),
    ],
)
def test_what_is_wrong_is_named(part: str, key: Any, value: Any, named: str) -> None:
    data = SD3_MEDIUM.to_dict()
    data[part][key] = value
    with pytest.raises(ValueError, match=named):
        Preset.from_dict(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, r"preset\.name is missing"),
        ({"name": ""}, r"preset\.name is ''"),
        ({"name": "x\n"}, r"preset\.name"),
        ({"name": "x", "sam": 3}, r"preset\.sam is '3'; expected a mapping"),
        ({"name": "x", "adapt_sam": "some"}, r"preset\.adapt_sam is 'some'; expected one of lora, full, frozen"),
        ([], r"preset is '\[\]'; expected a mapping"),
    ],
)
def test_other_shapes_are_refused(data: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Preset.from_dict(data)


class TestFiles:
    def test_by_name(self) -> None:
        assert preset_of("sd3.5-medium") is SD35_MEDIUM

    def test_a_file_changes_what_it_names(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("base: mini\nlora: {rank: 4}\nnoise:\n  levels: [0.2]\n")
        preset = preset_of(str(path))
        assert (preset.name, preset.lora.rank, preset.noise.levels) == ("mine", 4, (0.2,))
        assert preset.sam == MINI.sam

    def test_without_base_it_is_the_papers(self, tmp_path: Path) -> None:
        path = tmp_path / "x.yaml"
        path.write_text("name: mine\n")
        assert preset_of(str(path)).transformer == SD3_MEDIUM.transformer

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            (b"sam: {depth: many}", r"x\.yaml: preset\.sam\.depth is 'many'"),
            (b"base: sd9", r"x\.yaml: base is 'sd9'; known: mini"),
            (b"base: [1]", r"base is \[1\]"),
            (b"- 1", "expected keys such as"),
            (b"", "expected keys such as"),
            (b"a: [", "not YAML"),
            (b"\xff\xfe\x00", "not YAML"),
            (b"a: !!python/object/apply:os.system ['touch executed']", "not YAML"),
            (b"#" * (2 << 20), "larger than 1 MiB"),
            (b"sam: {depth: 3}\nsam: {depth: 4}", r"x\.yaml, line 2: the key 'sam' is there twice"),
            (b"sam: {depth: &a [x]}\nvae: [*a, *a]", r"x\.yaml, line 2: \*a is an alias"),
            (b"sam: {depth: 2024-13-45}", "not YAML: month must be"),
            (b"sam: {depth: " + b"9" * 5000 + b"}", "not YAML"),
            (b"sam: {depth: 0x" + b"f" * 5000 + b"}", r"preset\.sam\.depth is thousands of digits"),
            (b"vae: {scaling_factor: 1" + b"0" * 400 + b"}", r"preset\.vae\.scaling_factor is 1000.*at most 65536"),
        ],
    )
    def test_a_wrong_file_is_named(self, tmp_path: Path, text: bytes, named: str) -> None:
        path = tmp_path / "x.yaml"
        path.write_bytes(text)
        with pytest.raises(PresetError, match=named):
            preset_of(str(path))

    def test_neither_name_nor_file(self) -> None:
        with pytest.raises(PresetError, match="there is no preset 'sd9'; known: mini"):
            preset_of("sd9")
