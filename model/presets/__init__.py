"""One small file per model; a preset is a plain description, built by `model.clue.build`."""

import os
from pathlib import Path
from typing import Any

from model.config import ConfigError, advising, read_yaml
from model.preset import Preset, checked
from model.presets.mini import MINI
from model.presets.sd3_medium import SD3_MEDIUM, SD3_MEDIUM_VIT_B, SD3_MEDIUM_VIT_L
from model.presets.sd35_medium import SD35_MEDIUM

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (MINI, SD3_MEDIUM, SD3_MEDIUM_VIT_L, SD3_MEDIUM_VIT_B, SD35_MEDIUM)
}

__all__ = ["MINI", "PRESETS", "SD3_MEDIUM", "SD3_MEDIUM_VIT_B", "SD3_MEDIUM_VIT_L", "SD35_MEDIUM", "preset_of"]


@advising("`clue schema --preset` describes the file.")
def preset_of(name_or_path: str) -> Preset:
    """A preset by name, that of a registered base model, or from a YAML or JSON file.

    The file holds what `Preset.to_dict` writes, or only some of it: `base: mini` names the preset that the rest is
    taken from; without it that is the paper's. The name is the file's where the file gives none.

    Raises:
        ConfigError: neither a preset nor a readable file, or a file with a wrong key or value.
        BasesError: the registry of base models is damaged.
    """
    from model.registry import registered

    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    if not os.path.isfile(name_or_path):  # noqa: PTH113 # of any text: a name may be too long for a path
        bases = registered()
        if name_or_path in bases:
            return bases[name_or_path].preset
        known = ", ".join(dict.fromkeys((*PRESETS, *bases)))
        raise ConfigError(name_or_path, "there is no such preset", f"one of {known}, or a YAML file")
    file = read_yaml(Path(name_or_path))
    if not isinstance(file.value, dict):
        raise ConfigError(file.where(), "found no keys", "keys such as base, name, sam, transformer")
    data: dict[str, Any] = {"name": file.path.stem} | file.value
    base = data.pop("base", "sd3-medium")
    if base not in list(PRESETS):
        raise ConfigError(file.where("base"), f"found `{base}`", f"one of {', '.join(PRESETS)}")
    return checked(_merged(PRESETS[base].to_dict(), data), lambda place: file.where(*place))


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
