"""Every preset is sound, and a wrong key or value in a person's own is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.clue import adapt, build
from model.config import ConfigError
from model.preset import Preset
from model.presets import MINI, PRESETS, SD3_MEDIUM, SD35_MEDIUM, preset_of
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
    assert sum(p.numel() for p in model.sd3.vae.parameters()) / 1e6 == pytest.approx(34, rel=0.03)


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
        ("sam", "heads", 3, r"preset\.sam\.heads: unknown key `heads`; did you mean `num_heads`"),
        ("sam", "depth", "many", r"preset\.sam\.depth: found `many`; expected a whole number"),
        ("sam", "depth", 0, r"preset\.sam\.depth: found `0`; expected a number from 1 to 1024"),
        ("sam", "num_heads", 7, r"preset\.sam\.num_heads: found `7`; expected a divisor of embed_dim, 1280"),
        (
            "sam",
            "global_attn_indexes",
            [40],
            r"preset\.sam\.global_attn_indexes: found `\[40\]`; expected blocks from 0",
        ),
        ("sam", "input", "view", r"preset\.view\.channels: found `0`; expected above 0"),
        ("sam", "img_size", 512, r"preset\.tile\.size: found `1024`; expected at most 512"),
        ("vae", "block_out_channels", [100], r"block_out_channels: found `\[100\]`; expected multiples of"),
        ("vae", "block_out_channels", [], r"block_out_channels: found `\[\]`; expected 1 to 8 blocks"),
        ("vae", "scaling_factor", 0, r"preset\.vae\.scaling_factor: found `0`; expected a number above 0"),
        ("vae", "scaling_factor", float("nan"), r"preset\.vae\.scaling_factor: found `nan`; expected a finite number"),
        (
            "transformer",
            "feature_blocks",
            [24],
            r"preset\.transformer\.feature_blocks: found `\[24\]`; expected rising",
        ),
        ("transformer", "feature_blocks", [3, 2], r"preset\.transformer\.feature_blocks"),
        ("transformer", "qk_norm", "other", r"preset\.transformer\.qk_norm: found `other`; expected 'rms_norm'"),
        ("transformer", "num_attention_heads", 65536, r"attention_head_dim: found `64`; expected num_att"),
        ("transformer", "num_layers", 10**9, r"preset\.transformer\.num_layers: found `1000000000`"),
        ("noise", "levels", [1.5], r"preset\.noise\.levels\[0\]: found `1\.5`; expected a number from 0 to 1"),
        ("noise", "levels", [], r"preset\.noise\.levels: found `\[\]`; expected at least one level"),
        ("lora", "dropout", 1, r"preset\.lora\.dropout: found `1\.0`; expected a number below 1"),
        ("head", "groups", 7, r"preset\.head\.channels: found `256`; expected a multiple of groups, 7"),
        ("tile", "multiple", 8, r"preset\.tile\.multiple: found `8`; expected a multiple of 16"),
        ("tile", "overlap", 1024, r"preset\.tile\.overlap: found `1024`; expected at most half"),
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
        ({}, r"preset: `name` is missing"),
        ({"name": ""}, r"preset\.name: found ``"),
        ({"name": "x\n"}, r"preset\.name"),
        ({"name": "x", "sam": 3}, r"preset\.sam: found `3`; expected a mapping with `img_size`"),
        (
            {"name": "x", "adapt_sam": "some"},
            r"preset\.adapt_sam: found `some`; expected 'lora', 'full', 'frozen' or 'svd'",
        ),
        ([], r"preset: found a list of 0; expected a mapping"),
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
            (b"sam: {depth: many}", r"x\.yaml, line 1, sam\.depth: found `many`; expected a whole number"),
            (b"sam:\n  dept: 3", r"x\.yaml, line 2, sam\.dept: unknown key `dept`; did you mean `depth`"),
            (b"lora: {rank: 4}\nhead: {groups: 7}", r"line 2, head\.channels: found `256`; expected a multiple of gr"),
            (b"base: sd9", r"x\.yaml, line 1, base: found `sd9`; expected one of mini"),
            (b"base: [1]", r"base: found `\['1'\]`"),
            (b"- 1", "line 1: found no keys; expected keys such as"),
            (b"", "the file is empty"),
            (b"\xff\xfe\x00", "expected YAML"),
            (b"a: !!python/object/apply:os.system ['touch executed']", "unknown key `a`"),
            (b"sam: {depth: 3}\nsam: {depth: 4}", r"x\.yaml, line 2, sam: found twice, first in line 1"),
            (b"sam: {depth: " + b"9" * 5000 + b"}", "sam.depth: found `999.*a whole number"),
            (b"vae: {scaling_factor: 1" + b"0" * 400 + b"}", r"vae\.scaling_factor: found `1000"),
        ],
    )
    def test_a_wrong_file_is_named(self, tmp_path: Path, text: bytes, named: str) -> None:
        path = tmp_path / "x.yaml"
        path.write_bytes(text)
        with pytest.raises(ConfigError, match=named):
            preset_of(str(path))
