"""One small file per model; a preset is a plain description, built by `model.clue.build`."""

from model.presets.mini import MINI
from model.presets.sd3_medium import SD3_MEDIUM
from model.presets.spec import Preset

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (MINI, SD3_MEDIUM)}

__all__ = ["MINI", "PRESETS", "SD3_MEDIUM", "Preset"]
