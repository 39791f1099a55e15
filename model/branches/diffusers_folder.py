"""A model as diffusers lays it out: a folder for each part, with its configuration and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.registry import BasesError
from model.tensor_files import read_json

STEM = "diffusion_pytorch_model"


def component_config(folder: Path, component: str, kind: str, title: str) -> dict[str, Any]:
    """The configuration of a part.

    Args:
        folder: of the whole model.
        component: name of the part's folder.
        kind: class of the part, as diffusers writes it into the configuration.
        title: of the model, for messages.

    Raises:
        BasesError: the folder is of another model; the message says what it looks like.
    """
    if not folder.is_dir():
        raise BasesError(f"{folder} is not a folder")
    path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise BasesError(
            f"{folder} is not a diffusers folder of {title}: {component}/{path.name} is missing (there is: {found})"
        )
    config = read_json(path)
    there = config.get("_class_name", kind)
    if there != kind:
        raise BasesError(f"{path} is of another model: {str(there)[:80]!r}, expected {kind}")
    return config


def component_files(folder: Path, component: str) -> tuple[Path, ...]:
    """The safetensors files of a part, in the order of their names: one, or the shards that an index names.

    Raises:
        BasesError: there are none, a shard is missing, or the index names what is not a file beside it.
    """
    place = folder / component
    for variant in ("", ".fp16"):
        single = place / f"{STEM}{variant}.safetensors"
        if single.is_file():
            return (single,)
        names = (f"{STEM}.safetensors.index{variant}.json", f"{STEM}{variant}.safetensors.index.json")
        for index in (place / name for name in names):
            if index.is_file():
                return _shards(index)
    pickles = sorted(path.name for path in place.glob("*.bin")) if place.is_dir() else []
    hint = f"; {pickles[0]} is a pickle, which is not read: get the safetensors" if pickles else ""
    raise BasesError(f"{place / STEM}.safetensors is missing, and so is an index of shards{hint}")


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BasesError(f"{index} is damaged: no weight_map")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BasesError(f"{index} names {name[:80]!r}; expected a safetensors file beside it")
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise BasesError(f"{index.parent}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}")
    return tuple(index.parent / name for name in shards)
