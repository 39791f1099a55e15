"""`sd3-medium`: the model of the paper, SD3-medium with SAM ViT-H, and the same with the smaller encoders of SAM.

The sizes are those of transformer/config.json and vae/config.json in stabilityai/stable-diffusion-3-medium-diffusers,
and of segment_anything's build_sam.py. The weights are the user's.
"""

from model.presets.spec import Preset, SamSpec

VIT_H = SamSpec()
VIT_L = SamSpec(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23))
VIT_B = SamSpec(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11))

SD3_MEDIUM = Preset(name="sd3-medium", sam=VIT_H)
SD3_MEDIUM_VIT_L = Preset(name="sd3-medium-vit-l", sam=VIT_L)
SD3_MEDIUM_VIT_B = Preset(name="sd3-medium-vit-b", sam=VIT_B)
