"""What is known of models, in words: for a person to read, and one line of it after the other for `grep`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clue_cli.models.sources import APACHE, STABILITY
from model.bases import needs_bases
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
        if not needs_bases(preset):
            size, licence, state = sum(p.stat().st_size for p in EMBEDDED.iterdir()), "Apache-2.0", "in the package"
        else:
            licence = f"{STABILITY.name} (SD3), {APACHE.name} (SAM)"
            base = bases.get(name)
            files = [file for part in base.parts.values() for file in part] if base else []
            size = sum(file.bytes for file in files) or 2 * count  # unseen: as stored in two bytes each
            gone = sum(not _there(Path(file.path)) for file in files)
            state = f"registered {base.added[:10]}" if base else "not registered"
            state += f", {gone} of {len(files)} files are missing" if gone else ""
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


def base_lines(base: Base) -> Iterator[str]:
    """A registered base model, one fact a line."""
    yield f"name: {base.name}"
    yield f"parameters: {parameters(base.preset)}"
    yield f"added: {base.added}"
    yield f"sd3: {base.sd3}"
    for part, files in base.parts.items():
        for file in files:
            yield f"{part}: {file.path} ({file.bytes} bytes, SHA-256 {file.sha256})"
        yield f"{part} digest: {base.digests()[part]}"
    yield "prompt tokens: " + ", ".join(f"{count} {encoder}" for encoder, count in base.tokens.items())
    for what, licence in (("SD3", STABILITY), ("SAM", APACHE)):
        yield f"licence of {what}: {licence.name}, {licence.url}. {licence.allows}"


def checkpoint_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """A trained model, one fact a line."""
    yield f"folder: {checkpoint.folder}"
    if checkpoint.note:
        yield f"note: {checkpoint.note}"
    yield f"preset: {checkpoint.preset.name}"
    yield f"branches: {checkpoint.branches}"
    yield f"digest: {checkpoint.digest}"
    yield f"calibration: {checkpoint.calibration.name}"
    if checkpoint.base:
        yield f"adapters on: {checkpoint.base}"
        yield from (f"{part} digest: {digest}" for part, digest in checkpoint.bases.items())
    yield from (f"training, {key}: {value}" for key, value in checkpoint.training.items())
