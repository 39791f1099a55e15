"""`sd3-medium`: the model of the paper, SD3-medium with SAM ViT-H, and the same with the smaller encoders of SAM.

The sizes are those of transformer/config.json and vae/config.json in stabilityai/stable-diffusion-3-medium-diffusers.
The weights are the user's.
"""

from model.branches.sam import VIT_B, VIT_H, VIT_L
from model.preset import Preset

SD3_MEDIUM = Preset(name="sd3-medium", sam=VIT_H)
SD3_MEDIUM_VIT_L = Preset(name="sd3-medium-vit-l", sam=VIT_L)
SD3_MEDIUM_VIT_B = Preset(name="sd3-medium-vit-b", sam=VIT_B)
