"""A person's own preset: a YAML or JSON file of the shape that `Preset.to_dict` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from model.errors import ClueError
from model.presets import PRESETS, Preset
from model.presets.check import brief
from model.registry import registered

LARGEST_FILE = 1 << 20
"""Bytes: a description of a network that is larger than this is something else."""


class PresetError(ClueError, ValueError):
    """A preset that does not exist or cannot be used; the message names the file, the key and what was expected."""

    exit_code = 2
    advice = "`clue schema --preset` describes the file."


class _Loader(yaml.SafeLoader):
    """YAML's safe loader without aliases, with which a page can stand for more values than there is memory, and
    without keys that are there twice, of which the last would count."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise PresetError(f"line {event.start_mark.line + 1}: *{event.anchor} is an alias; expected values only")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise PresetError(f"line {key.start_mark.line + 1}: the key {brief(key.value)!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def preset_of(name_or_path: str) -> Preset:
    """A preset by name, that of a registered base model, or from a YAML or JSON file.

    The file holds what `Preset.to_dict` writes, or only some of it: `base: mini` names the preset that the rest is
    taken from; without it that is the paper's. The name is the file's where the file gives none.

    Raises:
        PresetError: neither a preset nor a readable file, or a file with a wrong key or value.
        BasesError: the registry of base models is damaged.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    try:
        if not path.is_file():
            bases = registered()
            if name_or_path in bases:
                return bases[name_or_path].preset
            known = ", ".join(dict.fromkeys((*PRESETS, *bases)))
            raise PresetError(f"there is no preset {name_or_path!r}; known: {known}, or a YAML file")
        if path.stat().st_size > LARGEST_FILE:
            raise PresetError(f"{path} is larger than 1 MiB; expected a description of a network")
        text = path.read_bytes()
    except OSError as error:
        raise PresetError(f"{path} cannot be read: {error.strerror}") from error
    try:
        data = yaml.load(text.decode("utf-8"), Loader=_Loader)
    except PresetError as error:
        raise PresetError(f"{path}, {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # such as the 13th month of a date
        raise PresetError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise PresetError(f"{path}: expected keys such as base, name, sam, transformer")
    base = data.pop("base", "sd3-medium")
    if not isinstance(base, str) or base not in PRESETS:
        raise PresetError(f"{path}: base is {base!r}; known: {', '.join(PRESETS)}")
    data.setdefault("name", path.stem)
    try:
        return Preset.from_dict(_merged(PRESETS[base].to_dict(), data))
    except ValueError as error:
        raise PresetError(f"{path}: {error}") from error


def _merged(base: dict[str, Any], change: dict[Any, Any]) -> dict[Any, Any]:
    merged: dict[Any, Any] = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
