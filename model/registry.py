"""Which base weights a person has, and where: `models.json` in the config folder. Nothing is copied.

The weights of SD3 and SAM are large and not ours to hand on, so a base model is a note: the files of each part, with
size, time and SHA-256. So is a folder of a transformers model (`FolderBase`, found by `model.synthetic.bases`).
Torch-free: a resumed scan with nothing left to compute reads this and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from model.branches import parts_of
from model.config import Keyed, check, dotted
from model.errors import WeightsError
from model.preset import Preset
from model.reporter import SILENT, Reporter
from model.whole_file import write_text

FORMAT: Literal[1] = 1
REGISTRY_FILE = "models.json"
LARGEST_JSON = 1 << 26
"""Bytes: the index of a model with a hundred thousand tensors is smaller."""
_CHUNK = 1 << 22


class BasesError(WeightsError):
    """Base weights that are missing, damaged, changed, or of another model.

    Attributes:
        problems: one line for each thing that is wrong; the message names the first, and how many more there are.
    """

    advice = "`clue models add` registers base weights; `clue models list` shows them."

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{message}: {problems[0]}{more}" if problems else message)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class StoredFile(Keyed):
    """A file as it was when it was hashed: absolute path, size in bytes, time in ns, SHA-256 in hex."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Base(Keyed):
    """A registered base model.

    Attributes:
        name: of the preset it was added as.
        preset: the sizes it was checked against.
        parts: the files of each part, in the order in which they are read.
        tokens: how many tokens of the empty prompt came from which encoder.
        added: when, ISO 8601.
        sd3: the folder it was found in.
    """

    name: str
    preset: Preset
    parts: dict[str, tuple[StoredFile, ...]]
    tokens: dict[str, int] = field(default_factory=dict)
    added: str = ""
    sd3: str = ""

    def digests(self) -> dict[str, str]:
        """SHA-256 of each part, hex: that of its file, or of the list of theirs where it has several."""
        return {part: part_digest([file.sha256 for file in files]) for part, files in self.parts.items()}

    def paths(self, part: str) -> tuple[Path, ...]:
        """The files of a part."""
        return tuple(Path(file.path) for file in self.parts[part])


@dataclass(frozen=True, slots=True)
class FolderBase(Keyed):
    """A folder of a transformers model.

    Attributes:
        name: that it was registered under; of one that is not registered, its absolute path.
        folder: absolute path.
        model_type: as its `config.json` has it, such as `blip-2`.
        digest: SHA-256, hex, over the names and SHA-256 of all files that count.
        files: those, sorted by name: configuration, weights, tokenizer, image processor.
        added: when, ISO 8601; empty: not registered.
    """

    name: str
    folder: str
    model_type: str
    digest: str
    files: tuple[StoredFile, ...]
    added: str = ""


@dataclass(frozen=True, slots=True)
class _Registry(Keyed):
    format: Literal[1]
    models: dict[str, Base]
    folders: dict[str, FolderBase] = field(default_factory=dict)


def part_digest(digests: list[str]) -> str:
    """One SHA-256 for the files of a part, hex."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def config_folder() -> Path:
    """The person's config folder for clue: $CLUE_CONFIG, or where the platform keeps such things.

    Raises:
        BasesError: there is neither that variable nor a home folder, as for a user id that the system does not know.
    """
    chosen = os.environ.get("CLUE_CONFIG")
    try:
        if chosen:
            return Path(chosen).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "clue"
        if sys.platform == "win32":
            return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "clue"
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "clue"
    except RuntimeError as error:
        raise BasesError("there is no home folder; name a config folder with CLUE_CONFIG") from error


def registered() -> dict[str, Base]:
    """All registered base models by name.

    Raises:
        BasesError: the registry is damaged, or of another version.
    """
    return _read().models


def folders() -> dict[str, FolderBase]:
    """All registered folders of transformers models by name.

    Raises:
        BasesError: as of `registered`.
    """
    return _read().folders


def _read() -> _Registry:
    path = config_folder() / REGISTRY_FILE
    try:
        found = check(_Registry, json.loads(path.read_text("utf-8")), lambda place: dotted(place) or "the file")
        for name, base in found.models.items():
            wanted = parts_of(base.preset)
            if set(base.parts) != set(wanted) or not all(base.parts.values()):
                raise ValueError(f"{name} has the parts {', '.join(base.parts)}; expected {', '.join(wanted)}")
        return found
    except FileNotFoundError:
        return _Registry(FORMAT, {})
    except OSError as error:
        raise BasesError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BasesError(f"{path} cannot be understood: {error}; add the models again after deleting it") from error


def find(name: str) -> Base:
    """A registered base model, its files there and unchanged since they were hashed.

    A file whose time changed is hashed again; what has the same size and time is taken for the same.

    Raises:
        BasesError: not registered, or a file is missing or changed.
    """
    base = registered().get(name)
    if base is None:
        raise BasesError(f"the base weights of {name} are not registered; add them with `clue models add {name}`")
    for part, files in base.parts.items():
        check_unchanged(f"the {part} of {name}", files)
    return base


def check_unchanged(what: str, files: tuple[StoredFile, ...]) -> None:
    """Compare files with their notes; one whose time changed is hashed again.

    Args:
        what: names them in the message.

    Raises:
        BasesError: a file is missing or changed.
    """
    for file in files:
        path = Path(file.path)
        try:
            status = path.stat()
            same = status.st_size == file.bytes and (
                status.st_mtime_ns == file.mtime_ns or sha256_of(path) == file.sha256
            )
        except OSError as error:
            raise BasesError(f"{what} cannot be read: {path}: {error.strerror}") from error
        if not same:
            raise BasesError(f"{what} changed since it was added: {path}")


def verify(base: Base | FolderBase, reporter: Reporter = SILENT) -> list[str]:
    """Hash every file again; one line for each that is missing or changed, with both digests.

    Args:
        base: what was registered.
        reporter: receives the number of bytes read.
    """
    problems = []
    parts = base.parts if isinstance(base, Base) else {base.model_type: base.files}
    reporter.stage(f"Hashing {base.name}", "bytes", sum(file.bytes for files in parts.values() for file in files))
    for part, file in ((part, file) for part, files in parts.items() for file in files):
        try:
            now = sha256_of(Path(file.path), reporter)
        except OSError as error:
            problems.append(f"{part}: {file.path}: {error.strerror}")
            continue
        if now != file.sha256:
            problems.append(f"{part}: {file.path}: SHA-256 was {file.sha256} when added, is {now}")
    return problems


def stored(path: Path, reporter: Reporter = SILENT) -> StoredFile:
    """A file's note: it is read once, from beginning to end.

    Raises:
        BasesError: it cannot be read.
    """
    path = path.absolute()
    try:
        status = path.stat()
        return StoredFile(str(path), status.st_size, status.st_mtime_ns, sha256_of(path, reporter))
    except OSError as error:
        raise BasesError(f"{path} cannot be read: {error.strerror}") from error


def sha256_of(path: Path, reporter: Reporter = SILENT) -> str:
    """SHA-256 of a file, hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            reporter.advance(len(chunk))
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        BasesError: missing, unreadable, too large, or something else.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise BasesError(f"{path} is too large for what it should be")
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BasesError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BasesError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise BasesError(f"{path} is damaged: expected a JSON object")
    return document


def shards(index: Path) -> tuple[Path, ...]:
    """The files that the index of a safetensors model names, sorted.

    Raises:
        BasesError: it is damaged, a shard is missing, or it names what is not a file beside it.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BasesError(f"{index} is damaged: no weight_map")
    found = sorted({str(name) for name in names.values()})
    for name in found:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BasesError(f"{index} names {name[:80]!r}; expected a safetensors file beside it")
    missing = [name for name in found if not (index.parent / name).is_file()]
    if missing:
        raise BasesError(f"{index.parent}: {len(missing)} of {len(found)} shards are missing: {', '.join(missing)}")
    return tuple(index.parent / name for name in found)


def put(base: Base | FolderBase) -> None:
    """Register a base model or a folder, in the place of one of the same name and sort.

    Raises:
        OSError: the config folder cannot be written; the registry is as before.
        BasesError: the registry is damaged, or has one of the other sort under this name.
    """
    with _locked():
        there = _read()
        if base.name in (there.folders if isinstance(base, Base) else there.models):
            raise BasesError(f"the name {base.name} is taken: `clue models remove {base.name}` frees it")
        if isinstance(base, Base):
            _write(replace(there, models=there.models | {base.name: base}))
        else:
            _write(replace(there, folders=there.folders | {base.name: base}))


def drop(name: str) -> None:
    """Forget a base model or a folder. The weights stay where they are.

    Raises:
        OSError: the config folder cannot be written; the registry is as before.
        BasesError: there is none of this name, or the registry is damaged.
    """
    with _locked():
        there = _read()
        known = [*there.models, *there.folders]
        if name not in known:
            raise BasesError(f"{name} is not registered; registered: {', '.join(known) or 'nothing'}")
        models = {other: base for other, base in there.models.items() if other != name}
        folders = {other: base for other, base in there.folders.items() if other != name}
        _write(replace(there, models=models, folders=folders))


@contextmanager
def _locked() -> Iterator[None]:
    folder = config_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{REGISTRY_FILE}.lock"):
        yield


def _write(registry: _Registry) -> None:
    content = asdict(registry)
    if not registry.folders:  # earlier versions know no such key
        del content["folders"]
    write_text(config_folder() / REGISTRY_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
