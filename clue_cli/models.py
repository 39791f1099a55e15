"""Base weights and trained models: download, check, register and describe them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import re
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

from clue_cli.errors import OutputError, UsageError, WeightsError
from clue_cli.terminal import printable, say, sentence
from model.branches import branches_of, from_scratch
from model.branches.branch import HubFolder, WebFile
from model.checkpoint import EMBEDDED, Checkpoint
from model.clue import build
from model.preset import Preset
from model.presets import PRESETS, preset_of
from model.registry import Base, BasesError, FolderBase, StoredFile, config_folder, put, registered, stored
from model.reporter import Reporter
from model.storage import examine
from model.synthetic import bases
from model.whole_file import whole_file

_NOTE = 1 << 12
"""Characters of a note of the Hugging Face Hub's client that are read; it has about a hundred."""
_CHUNK = 1 << 20


def base_preset(name_or_path: str) -> Preset:
    """A preset that needs pretrained weights.

    Raises:
        ConfigError, BasesError: as of `preset_of`.
        UsageError: it needs no base weights.
    """
    preset = preset_of(name_or_path)
    if from_scratch(preset):
        raise UsageError(f"{preset.name} needs no base weights.", "It is ready to be used: clue scan --model mini")
    return preset


def register(preset: Preset, places: Mapping[str, Path], reporter: Reporter) -> Base:
    """Check the weights, and store where they are. Nothing is copied but the prompt's embeddings, if computed.

    Args:
        preset: what they should be.
        places: where the weights of each branch are, by its name, and parts that would be computed otherwise.
        reporter: receives the number of bytes read.

    Raises:
        WeightsError: they are damaged, incomplete or of another model; every problem was printed on stderr.
        OutputError: the config folder cannot be written.
    """
    try:
        files = _checked(preset, places, reporter)
        added, sd3 = datetime.now(UTC).isoformat(timespec="seconds"), places.get("sd3")
        base = Base(preset.name, preset, files, {}, added, str(sd3.absolute()) if sd3 else "")
        for branch in branches_of(preset):
            for part in branch.parts:
                if part not in files:
                    folder = config_folder() / "prompts"
                    path = branch.derived(preset, places[branch.name], base, folder, reporter.note)
                    files[part] = (stored(path, reporter),)
            base.tokens.update(branch.tokens(preset, {part: base.paths(part) for part in branch.parts}))
        put(base)
    except BasesError as error:
        if len(error.problems) > 1:
            say(*map(printable, error.problems))
        raise WeightsError(sentence(error), "Nothing was registered.") from error
    except OSError as error:
        raise _not_written(error) from error
    return base


def register_folder(name: str, folder: Path, reporter: Reporter) -> FolderBase:
    """Check a folder of a transformers model, and store where it is.

    Raises:
        UsageError: the name is that of a preset.
        WeightsError: it is damaged, incomplete, a pickle, or of a model that transformers does not know.
        OutputError: the config folder cannot be written.
    """
    if name in PRESETS:
        raise UsageError(f"{name} is the name of a preset.", "Choose another, such as blip2.")
    try:
        return bases.register_folder(name, folder, reporter)
    except BasesError as error:
        raise WeightsError(sentence(error), "Nothing was registered.") from error
    except OSError as error:
        raise _not_written(error) from error


def _not_written(error: OSError) -> OutputError:
    return OutputError(
        f"The config folder {config_folder()} cannot be written: {error.strerror or error}.",
        "Choose another with the environment variable CLUE_CONFIG.",
    )


def _checked(preset: Preset, places: Mapping[str, Path], reporter: Reporter) -> dict[str, tuple[StoredFile, ...]]:
    """The files of each part that exists; raises BasesError for whatever is wrong with them."""
    try:
        found = examine(preset, places, PRESETS.values())
    except OSError as error:  # no permission, or a name that no file system has
        raise BasesError(f"{str(error.filename)[:300]} cannot be read: {error.strerror or error}") from error
    reporter.stage("Hashing", "bytes", sum(path.stat().st_size for paths in found.values() for path in paths))
    parts = {part: tuple(stored(path, reporter) for path in paths) for part, paths in found.items()}
    reporter.finish()
    for folder in places.values():
        for part, paths in found.items():
            for path, file in zip(paths, parts[part], strict=True):
                published = hub_digest(path, folder) if path.is_relative_to(folder) and path != folder else None
                if published not in (None, file.sha256):
                    raise BasesError(
                        f"{path} is not what was downloaded: SHA-256 {file.sha256}, {published} at its source"
                    )
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


def forget_prompt(base: Base) -> None:
    """Delete the embeddings that were computed for a base, if no other uses them; those that a person stored stay."""
    others = (other for other in registered().values() if other.name != base.name)
    used = {file.path for other in others for files in other.parts.values() for file in files}
    for path in (Path(file.path) for files in base.parts.values() for file in files if file.path not in used):
        if path.parent == (config_folder() / "prompts").absolute():
            path.unlink(missing_ok=True)


def download(preset: Preset, folder: Path, reporter: Reporter) -> dict[str, Path]:
    """Fetch pretrained weights from their publishers, into a folder. What is there already is kept.

    Returns:
        The file or folder of each branch.

    Raises:
        UsageError: huggingface_hub is not installed, or nobody publishes weights of these sizes.
        WeightsError: the gate refuses, or the network fails.
        OutputError: the folder cannot be written.
    """
    sources = {branch.name: branch.source(preset) for branch in branches_of(preset)}
    if None in sources.values():
        raise UsageError(f"There are no published weights of the sizes of {preset.name}.", "See clue models add --help")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError("huggingface_hub is not installed.", "pip install 'clue-forensics[models]'")
    places = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in sources.items():
            if isinstance(source, HubFolder):
                places[name] = folder / source.repository.rpartition("/")[2]
                _snapshot(source, places[name])
            elif isinstance(source, WebFile):
                places[name] = folder / source.url.rpartition("/")[2]
                _fetch(source, places[name], reporter)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return places


def _snapshot(source: HubFolder, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

    name = source.repository
    page = f"https://huggingface.co/{name}"
    try:
        snapshot_download(
            name, local_dir=folder, allow_patterns=list(source.wanted), ignore_patterns=list(source.unwanted)
        )
    except (GatedRepoError, LocalTokenNotFoundError, RepositoryNotFoundError) as error:
        raise WeightsError(
            f"The Hugging Face Hub does not hand out {name} to you: its licence must be accepted there first.",
            f"Log in at {page} and accept the licence; make a token at https://huggingface.co/settings/tokens; "
            "then `hf auth login`, or the environment variable HF_TOKEN.",
        ) from error
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{page} cannot be fetched: {reason}.", "Repeat the same command to continue.") from error
    except Exception as error:  # the hub's HTTP client has its own exceptions, of another kind in each version
        # Its own errors are OSErrors as well: without network it says that a file was not found.
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsError(f"{page} cannot be fetched: {reason}.", "Repeat the same command to continue.") from error


def _fetch(source: WebFile, path: Path, reporter: Reporter) -> None:
    if path.is_file():
        return
    try:
        with urllib.request.urlopen(source.url, timeout=60) as answer, whole_file(path, sync=True) as file:
            expected, there, digest = answer.headers.get("Content-Length"), 0, hashlib.sha256()
            reporter.stage(f"Fetching {source.url}", "bytes", None if expected is None else int(expected))
            while chunk := answer.read(_CHUNK):
                there += file.write(chunk)
                digest.update(chunk)
                reporter.advance(len(chunk))
            if expected is not None and there != int(expected):  # http.client does not report an early end
                raise HTTPException(f"{there} of {expected} bytes came")
            if digest.hexdigest() != source.sha256:
                raise HTTPException(f"what came has SHA-256 {digest.hexdigest()}, its authors' has {source.sha256}")
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or str(error) or "the connection broke off"
        raise WeightsError(
            f"{source.url} cannot be fetched: {reason}.", "Repeat the same command to continue."
        ) from error


def parameters(preset: Preset) -> int:
    """How many parameters the whole network has, counted."""
    return sum(parameter.numel() for parameter in build(preset, "meta").parameters())


def model_table(bases: dict[str, Base], folders: Mapping[str, FolderBase] = {}) -> list[tuple[str, ...]]:
    """All known models: name, parameters (or type), size, licence, present or not; the first row is the heading."""
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
            state = _state(base.added, files) if base else "not registered"
        rows.append((name, f"{count / 1e6:,.0f} M", _size(size), licence, state))
    for name, folder in folders.items():
        size = sum(file.bytes for file in folder.files)
        rows.append((name, folder.model_type, _size(size), "its publisher's", _state(folder.added, folder.files)))
    return [rows[0], *sorted(rows[1:])]


def _state(added: str, files: Sequence[StoredFile]) -> str:
    gone = sum(not _there(Path(file.path)) for file in files)
    return f"registered {added[:10]}" + (f", {gone} of {len(files)} files missing" if gone else "")


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
        "parts": {part: {"files": _files(files), "digest": digests[part]} for part, files in base.parts.items()},
        "prompt tokens": base.tokens,
        "licences": {branch.title: dataclasses.asdict(branch.licence) for branch in branches_of(base.preset)},
    }


def folder_facts(base: FolderBase) -> dict[str, Any]:
    """A registered folder of a transformers model, in plain JSON types."""
    return {
        "name": base.name,
        "model type": base.model_type,
        "added": base.added,
        "folder": base.folder,
        "digest": base.digest,
        "files": _files(base.files),
    }


def _files(files: Sequence[StoredFile]) -> list[dict[str, Any]]:
    return [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in files]


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
    if checkpoint.exported:
        facts["exported"] = checkpoint.exported
    if checkpoint.base:
        facts |= {"adapters on": checkpoint.base, "base digests": checkpoint.bases}
    return facts | {"training": checkpoint.training}


def lines(facts: dict[str, Any], before: str = "") -> Iterator[str]:
    """One fact a line, such as `training, steps: 7`; a line for each part of a list of anything but plain values."""
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
