"""What is known of models, in words: for a person to read, and one line of it after the other for `grep`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.branches import branches_of, from_scratch
from model.checkpoint import EMBEDDED, Checkpoint
from model.clue import build
from model.presets import PRESETS, Preset
from model.registry import Base


def parameters(preset: Preset) -> int:
    """How many parameters the whole network has, counted."""
    return sum(parameter.numel() for parameter in build(preset, "meta").parameters())


def model_table(bases: dict[str, Base]) -> list[tuple[str, ...]]:
    """All known models: name, parameters, size, licence, present or not; the first row is the heading."""
    rows = [("name", "parameters", "size", "licence", "weights")]
    for name, preset in PRESETS.items() | {base.name: base.preset for base in bases.values()}.items():
        count = parameters(preset)
        if from_scratch(preset):
            size, licence, state = sum(p.stat().st_size for p in EMBEDDED.iterdir()), "Apache-2.0", "in the package"
        else:
            licence = ", ".join(f"{branch.licence.name} ({branch.title})" for branch in branches_of(preset))
            base = bases.get(name)
            files = [file for part in base.parts.values() for file in part] if base else []
            size = sum(file.bytes for file in files) or 2 * count  # unseen: as stored in two bytes each
            gone = sum(not _there(Path(file.path)) for file in files)
            state = f"registered {base.added[:10]}" if base else "not registered"
            state += f", {gone} of {len(files)} files missing" if gone else ""
        rows.append((name, f"{count / 1e6:,.0f} M", _size(size), licence, state))
    return [rows[0], *sorted(rows[1:])]


def _there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission
        return False


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Rows as text, their columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def base_facts(base: Base) -> dict[str, Any]:
    """A registered base model, in plain JSON types."""
    digests = base.digests()
    return {
        "name": base.name,
        "parameters": parameters(base.preset),
        "added": base.added,
        "sd3": base.sd3,
        "parts": {
            part: {
                "files": [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in files],
                "digest": digests[part],
            }
            for part, files in base.parts.items()
        },
        "prompt tokens": base.tokens,
        "licences": {branch.title: dataclasses.asdict(branch.licence) for branch in branches_of(base.preset)},
    }


def checkpoint_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """A trained model, in plain JSON types."""
    facts: dict[str, Any] = {"name": checkpoint.name, "folder": str(checkpoint.folder)}
    if checkpoint.note:
        facts["note"] = checkpoint.note
    facts |= {
        "preset": checkpoint.preset.name,
        "branches": checkpoint.branches,
        "digest": checkpoint.digest,
        "calibration": checkpoint.calibration.name,
    }
    if checkpoint.base:
        facts |= {"adapters on": checkpoint.base, "base digests": checkpoint.bases}
    return facts | {"training": checkpoint.training}


def lines(facts: dict[str, Any], before: str = "") -> Iterator[str]:
    """One fact a line, such as `training, steps: 7`; a line for each part of a list that is no plain value."""
    for key, value in facts.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value:
            yield from lines(value, f"{name}, ")
        elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            yield from (f"{name}: {_plain(item)}" for item in value)
        else:
            yield f"{name}: {_plain(value)}"


def _plain(value: object) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [f"{key} {_plain(item)}" for key, item in value.items()]
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
