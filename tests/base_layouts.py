"""Tiny random base models in the layouts that the real ones are published in.

A diffusers folder of SD3 (transformer, vae with its decoder, scheduler, three text encoders with their tokenizers)
and a checkpoint of segment_anything's, with the true names of everything.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import nn

from model import registry
from model.branches.sam_network import build_encoder
from model.branches.sd3_network import build_autoencoder
from model.branches.sd3_prompt import Prompt, write_prompt
from model.calibration import Calibration
from model.clue import adapt
from model.preset import Preset, TransformerSpec
from model.presets.sd3_medium import SD3_MEDIUM
from model.presets.sd35_medium import SD35_MEDIUM
from model.storage import examine, save, with_bases

SMALL = replace(
    SD3_MEDIUM,
    name="small-sd3",
    vae=replace(SD3_MEDIUM.vae, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
    transformer=replace(
        SD3_MEDIUM.transformer,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=48,
        pooled_projection_dim=24,
        sample_size=16,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
        feature_blocks=(0, 1),
        prompt_tokens=5,
    ),
    sam=replace(
        SD3_MEDIUM.sam,
        img_size=128,
        embed_dim=32,
        depth=2,
        num_heads=2,
        window_size=3,
        global_attn_indexes=(1,),
        out_chans=16,
    ),
    noise=replace(SD3_MEDIUM.noise, levels=(0.1, 0.5)),
    lora=replace(SD35_MEDIUM.lora, rank=2, alpha=4),
    head=replace(SD3_MEDIUM.head, channels=16, groups=4),
    tile=replace(SD3_MEDIUM.tile, size=128, overlap=32),
)
"""The paper's model with everything it has, small enough for a test. SD3.5's dual attention is in its first block."""


def theirs(spec: TransformerSpec, latent_channels: int = 16) -> SD3Transformer2DModel:
    """diffusers' own transformer at the size of the spec."""
    return SD3Transformer2DModel(
        sample_size=spec.sample_size,
        patch_size=spec.patch_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=spec.num_layers,
        attention_head_dim=spec.attention_head_dim,
        num_attention_heads=spec.num_attention_heads,
        joint_attention_dim=spec.joint_attention_dim,
        caption_projection_dim=spec.width,
        pooled_projection_dim=spec.pooled_projection_dim,
        pos_embed_max_size=spec.pos_embed_max_size,
        dual_attention_layers=spec.dual_attention_layers,
        qk_norm=spec.qk_norm,
    )


def write_sd3(folder: Path, preset: Preset = SMALL, shard_size: str = "10GB") -> Path:
    """A diffusers folder without text encoders, random weights, the same every time."""
    torch.manual_seed(0)
    vae = build_autoencoder(preset.vae)
    transformer = theirs(preset.transformer, preset.vae.latent_channels)
    transformer.save_pretrained(folder / "transformer", max_shard_size=shard_size)
    vae.save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusion3Pipeline"}))
    return folder


def write_text_encoders(folder: Path, preset: Preset = SMALL, t5: bool = True) -> Path:
    """The two CLIPs (together half of the joint width wide) and T5, with tokenizers of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast, T5Config
    from transformers import T5EncoderModel as T5

    torch.manual_seed(0)
    width, pooled = preset.transformer.joint_attention_dim, preset.transformer.pooled_projection_dim
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "!": 2, "plate": 3, "sky": 4, "the": 5}
    for suffix, pad in (("", "<|endoftext|>"), ("_2", "!")):
        config = CLIPTextConfig(
            vocab_size=8, hidden_size=width // 4, intermediate_size=16, projection_dim=pooled // 2,
            num_hidden_layers=2, num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=words[pad],
        )  # fmt: skip
        CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{suffix}")
        _tokenizer(Tokenizer(models.WordLevel(words, unk_token="!")), PreTrainedTokenizerFast, pad).save_pretrained(
            folder / f"tokenizer{suffix}"
        )
    if t5:
        t5_config = T5Config(vocab_size=8, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        T5(t5_config).save_pretrained(folder / "text_encoder_3")
        vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "plate": 3, "sky": 4, "the": 5}
        simple = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        simple.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=simple, pad_token="<pad>", eos_token="</s>").save_pretrained(
            folder / "tokenizer_3"
        )
    return folder


def _tokenizer(tokenizer, kind, pad):  # type: ignore[no-untyped-def]
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer.pre_tokenizer = Whitespace()
    template = "<|startoftext|> $A <|endoftext|>"
    special = [("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return kind(tokenizer_object=tokenizer, pad_token=pad)


def sam_state(preset: Preset = SMALL) -> dict[str, torch.Tensor]:
    """A SAM checkpoint's tensors, positions included, and a little of the decoder that nobody needs here."""
    torch.manual_seed(1)
    encoder = build_encoder(preset.sam, 3)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.1)  # the tables of relative positions begin with zeros, which test nothing
    state = {f"image_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    return state | {"prompt_encoder.not_a_point_embed.weight": torch.zeros(1, 4), "mask_decoder.x": torch.zeros(1)}


def write_sam(path: Path, preset: Preset = SMALL) -> Path:
    """A .pth as segment_anything publishes it."""
    torch.save(sam_state(preset), path)
    return path


def write_prompt_file(path: Path, preset: Preset = SMALL) -> Path:
    """Stored embeddings of the empty prompt, random."""
    torch.manual_seed(2)
    spec = preset.transformer
    prompt = torch.randn(1, spec.prompt_tokens, spec.joint_attention_dim)
    write_prompt(path, Prompt(prompt, torch.randn(1, spec.pooled_projection_dim), {"clip": 5}), {})
    return path


def register_small(folder: Path, preset: Preset = SMALL) -> registry.Base:
    """Write all of it into a folder and register it in the config folder of the test."""
    sd3, sam = write_sd3(folder / "sd3", preset), write_sam(folder / "sam.pth", preset)
    prompt = write_prompt_file(folder / "prompt.safetensors", preset)
    files = examine(preset, {"sd3": sd3, "sam": sam, "prompt": prompt})
    parts = {part: tuple(registry.stored(path) for path in paths) for part, paths in files.items()}
    base = registry.Base(preset.name, preset, parts, {"clip": 5}, "2026-01-01T00:00:00+00:00", str(sd3))
    registry.put(base)
    return base


def write_adapter(folder: Path, preset: Preset = SMALL) -> Path:
    """A model as a training leaves it, at folder/adapter, on base weights in folder/bases, which are registered."""
    base = register_small(folder / "bases", preset)
    model = with_bases(preset, base, "cpu", torch.float32)
    adapt(model, "lora")
    save(folder / "adapter", model, Calibration(name="test"), {"steps": 7})
    return folder / "adapter"


def write_asked_adapter(folder: Path, preset: Preset = SMALL, t5: bool = True) -> Path:
    """The same on a base whose empty prompt its own text encoders computed, as `clue models add` registers it."""
    from clue_cli.models import register
    from model.reporter import SILENT

    sd3 = write_text_encoders(write_sd3(folder / "bases" / "sd3", preset), preset, t5)
    base = register(preset, {"sd3": sd3, "sam": write_sam(folder / "bases" / "sam.pth", preset)}, SILENT)
    torch.manual_seed(3)
    model = with_bases(preset, base, "cpu", torch.float32)
    adapt(model, "lora")
    save(folder / "adapter", model, Calibration(name="test"), {"steps": 7})
    return folder / "adapter"
