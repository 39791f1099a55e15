"""`sd3.5-medium`: the transformer of SD3.5-medium, with a second attention in its first blocks and normalized q and k.

The sizes are those of transformer/config.json in stabilityai/stable-diffusion-3.5-medium; its VAE is SD3's.
"""

from model.branches.sam import VIT_H
from model.preset import LoraSpec, Preset, TransformerSpec

SECOND_ATTENTION = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
"""Adapted like the joint attention beside it; the paper's model, SD3, has none."""

SD35_MEDIUM = Preset(
    name="sd3.5-medium",
    transformer=TransformerSpec(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
    sam=VIT_H,
    lora=LoraSpec(sd3_targets=(*LoraSpec().sd3_targets, *SECOND_ATTENTION)),
)
