"""One small file per model; a preset is a plain description, built by `model.clue.build`."""

from model.presets.mini import MINI
from model.presets.sd3_medium import SD3_MEDIUM, SD3_MEDIUM_VIT_B, SD3_MEDIUM_VIT_L
from model.presets.sd35_medium import SD35_MEDIUM
from model.presets.spec import Preset

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (MINI, SD3_MEDIUM, SD3_MEDIUM_VIT_L, SD3_MEDIUM_VIT_B, SD35_MEDIUM)
}

__all__ = ["MINI", "PRESETS", "SD3_MEDIUM", "SD3_MEDIUM_VIT_B", "SD3_MEDIUM_VIT_L", "SD35_MEDIUM", "Preset"]
