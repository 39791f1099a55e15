"""Which base weights a person has, and where: `models.json` in the config folder. Nothing is copied.

The weights of SD3 and SAM are large and not ours to hand on, so a base model is a note: the files of each part, with
size, time and SHA-256. Torch-free: a resumed scan with nothing left to compute reads this and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock

from model.branches import parts_of
from model.config import Keyed, check, dotted
from model.errors import WeightsError
from model.preset import Preset
from model.reporter import SILENT, Reporter
from model.whole_file import write_text

FORMAT = 1
REGISTRY_FILE = "models.json"
_CHUNK = 1 << 22


class BasesError(WeightsError):
    """Base weights that are missing, damaged, changed, or of another model.

    Attributes:
        problems: one line for each thing that is wrong; the message names the first, and how many more there are.
    """

    advice = "`clue models add` registers base weights of SD3 and SAM; `clue models list` shows them."

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
class _Registry(Keyed):
    format: Literal[1]
    models: dict[str, Base]


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
    path = config_folder() / REGISTRY_FILE
    try:
        bases = check(_Registry, json.loads(path.read_text("utf-8")), lambda place: dotted(place) or "the file").models
        for name, base in bases.items():
            wanted = parts_of(base.preset)
            if set(base.parts) != set(wanted) or not all(base.parts.values()):
                raise ValueError(f"{name} has the parts {', '.join(base.parts)}; expected {', '.join(wanted)}")
        return bases
    except FileNotFoundError:
        return {}
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
    for part, file in ((part, file) for part, files in base.parts.items() for file in files):
        path = Path(file.path)
        try:
            status = path.stat()
            same = status.st_size == file.bytes and (
                status.st_mtime_ns == file.mtime_ns or sha256_of(path) == file.sha256
            )
        except OSError as error:
            raise BasesError(f"the {part} of {name} cannot be read: {path}: {error.strerror}") from error
        if not same:
            raise BasesError(f"the {part} of {name} changed since it was added: {path}")
    return base


def verify(base: Base, reporter: Reporter = SILENT) -> list[str]:
    """Hash every file again; one line for each that is missing or changed, with both digests.

    Args:
        base: what was registered.
        reporter: receives the number of bytes read.
    """
    problems = []
    reporter.stage(f"Hashing {base.name}", "bytes", sum(file.bytes for files in base.parts.values() for file in files))
    for part, file in ((part, file) for part, files in base.parts.items() for file in files):
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


def put(base: Base) -> None:
    """Register a base model, in the place of one of the same name.

    Raises:
        OSError: the config folder cannot be written; the registry is as before.
        BasesError: the registry is damaged.
    """
    with _locked():
        _write(registered() | {base.name: base})


def drop(name: str) -> None:
    """Forget a base model. Its weights stay where they are.

    Raises:
        OSError: the config folder cannot be written; the registry is as before.
        BasesError: there is none of this name, or the registry is damaged.
    """
    with _locked():
        bases = registered()
        if name not in bases:
            raise BasesError(f"{name} is not registered; registered: {', '.join(bases) or 'nothing'}")
        _write({other: base for other, base in bases.items() if other != name})


@contextmanager
def _locked() -> Iterator[None]:
    folder = config_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{REGISTRY_FILE}.lock"):
        yield


def _write(bases: dict[str, Base]) -> None:
    entries = {name: asdict(base) for name, base in bases.items()}
    text = json.dumps({"format": FORMAT, "models": entries}, indent=1, ensure_ascii=False) + "\n"
    write_text(config_folder() / REGISTRY_FILE, text)
