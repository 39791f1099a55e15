"""`sd3-medium`: the model of the paper, SD3-medium with SAM ViT-H. The weights are the user's."""

from model.presets.spec import Preset

SD3_MEDIUM = Preset(name="sd3-medium")
