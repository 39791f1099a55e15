"""Register base weights: check them, hash them, have the empty prompt's embeddings, and write it all down."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from clue_cli.errors import OutputError, UsageError, WeightsError
from clue_cli.terminal import printable, say, sentence
from model.bases import examine, needs_bases
from model.empty_prompt import compute, missing_encoders, read_prompt, write_prompt
from model.presets import Preset
from model.presets.files import PresetError, preset_of
from model.registry import PARTS, Base, BasesError, StoredFile, config_folder, put, registered, stored
from model.reporter import Reporter

_NOTE = 1 << 12
"""Characters of a note of the Hugging Face Hub's client that are read; it has about a hundred."""


def base_preset(name_or_path: str) -> Preset:
    """A preset that stands on weights of others.

    Raises:
        UsageError: there is none, its file is wrong, or it needs no base weights.
    """
    try:
        preset = preset_of(name_or_path)
    except PresetError as error:
        raise UsageError(sentence(error)) from error
    except BasesError as error:
        raise WeightsError(sentence(error)) from error
    if not needs_bases(preset):
        raise UsageError(f"{preset.name} needs no base weights.", "It is ready to be used: clue scan --model mini")
    return preset


def register(preset: Preset, sd3: Path, sam: Path, prompt: Path | None, reporter: Reporter) -> Base:
    """Check the weights, and write down where they are. Nothing is copied but the prompt's embeddings, if computed.

    Args:
        preset: what they should be.
        sd3: a diffusers folder.
        sam: a checkpoint of segment_anything's.
        prompt: stored embeddings of the empty prompt; None computes them from the folder's text encoders.
        reporter: receives the number of bytes read.

    Raises:
        WeightsError: they are damaged, incomplete or of another model; every problem was said on stderr.
        OutputError: the config folder cannot be written.
    """
    try:
        parts = _checked(preset, sd3, sam, prompt, reporter)
        digests = Base(preset.name, preset, parts).digests()
        chosen = prompt if prompt is not None else _computed(preset, sd3, digests)
        parts["prompt"] = (stored(chosen, reporter),)
        tokens = read_prompt(chosen, preset).tokens
        added = datetime.now(UTC).isoformat(timespec="seconds")
        base = Base(preset.name, preset, {part: parts[part] for part in PARTS}, tokens, added, str(sd3.absolute()))
        put(base)
    except BasesError as error:
        if len(error.problems) > 1:
            say(*map(printable, error.problems))
        raise WeightsError(sentence(error), "Nothing was registered.") from error
    except OSError as error:
        raise OutputError(
            f"The config folder {config_folder()} cannot be written: {error.strerror or error}.",
            "Choose another with the environment variable CLUE_CONFIG.",
        ) from error
    return base


def _checked(
    preset: Preset, sd3: Path, sam: Path, prompt: Path | None, reporter: Reporter
) -> dict[str, tuple[StoredFile, ...]]:
    """The notes of the base's own files; raises BasesError for whatever is wrong with them."""
    try:
        found = examine(preset, sd3, sam)
        if prompt is not None:
            read_prompt(prompt, preset)  # before gigabytes are hashed
    except OSError as error:  # no permission, or a name that no file system has
        raise BasesError(f"{str(error.filename)[:300]} cannot be read: {error.strerror or error}") from error
    files = {"transformer": found.transformer, "vae": found.vae, "sam": found.sam}
    reporter.stage("Hashing", "bytes", sum(path.stat().st_size for paths in files.values() for path in paths))
    parts = {part: tuple(stored(path, reporter) for path in paths) for part, paths in files.items()}
    for path, file in zip((*found.transformer, *found.vae), (*parts["transformer"], *parts["vae"]), strict=True):
        published = hub_digest(path, sd3)
        if published not in (None, file.sha256):
            raise BasesError(f"{path} is not what was downloaded: SHA-256 {file.sha256}, {published} at its source")
    return parts


def hub_digest(path: Path, folder: Path) -> str | None:
    """The SHA-256 that the Hugging Face Hub has for a file, where its client noted it beside what it downloaded.

    Args:
        path: in the folder, or a link into the client's cache, where large files are named by their digest.
        folder: as it was downloaded.
    """
    note = folder / ".cache/huggingface/download" / f"{path.relative_to(folder)}.metadata"
    try:
        if note.is_file():
            with note.open(encoding="utf-8") as lines:  # the commit, the digest, the time
                name = lines.read(_NOTE).split("\n")[1].strip()
        else:
            name = path.resolve().name
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _computed(preset: Preset, sd3: Path, digests: dict[str, str]) -> Path:
    """The embeddings of this base in the config folder, computed if they are not there yet."""
    # T5 is often added later: what was computed without it is not taken then.
    without = "" if (sd3 / "text_encoder_3").is_dir() else "-without-t5"
    path = config_folder() / "prompts" / f"{digests['transformer'][:16]}{without}.safetensors"
    if path.is_file():
        try:
            read_prompt(path, preset)
        except BasesError:
            say(f"{printable(str(path))} is damaged; it is computed again.")
        else:
            return path
    if not missing_encoders(sd3):
        say("Computing the empty prompt's embeddings, once; T5 takes a minute and its size in memory.")
    write_prompt(path, compute(sd3, preset), digests)
    return path


def forget_prompt(base: Base) -> None:
    """Delete the embeddings that were computed for a base, if no other uses them; those that a person stored stay."""
    used = {path for other in registered().values() if other.name != base.name for path in other.paths("prompt")}
    for path in base.paths("prompt"):
        if path.parent == (config_folder() / "prompts").absolute() and path not in used:
            path.unlink(missing_ok=True)
