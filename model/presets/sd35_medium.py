"""`sd3.5-medium`: the transformer of SD3.5-medium, with a second attention in its first blocks and normalized q and k.

The sizes are those of transformer/config.json in stabilityai/stable-diffusion-3.5-medium; its VAE is SD3's.
"""

from model.presets.sd3_medium import VIT_H
from model.presets.spec import Preset, TransformerSpec

SD35_MEDIUM = Preset(
    name="sd3.5-medium",
    transformer=TransformerSpec(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
    sam=VIT_H,
)
