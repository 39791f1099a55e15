"""A model on disk, one folder. Here: what can be known without its network.

Which files it has is in `model.storage`, which loads and saves the weights: a resumed scan with nothing left to compute
never imports the libraries behind the network. The digest covers all files, so that a record's digest stands for
everything that can change a result.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.branches import BRANCHES, parts_of
from model.calibration import Calibration
from model.errors import WeightsError
from model.preset import Preset
from model.registry import BasesError, find
from model.whole_file import earlier

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "model.json"
HEAD_FILE = "head.safetensors"
FORMAT = 1
GRAPH_FILE = "network.onnx"
ADAPTER_FORMAT = 2
EXPORTED_FORMAT = 3
NUMBERS = FLOAT32, INT8 = "float32", "int8"
"""Number formats of an exported network."""
_OTHER_PROMPT = (
    "computed on another machine, the embeddings of the empty prompt differ in their last bits: give the file that was "
    "trained on (`clue models info` names it there) to --prompt of `clue models add`"
)
BEST, LAST = "best", "last"
"""The folders of the best and of the last model in the folder of a training."""
EMBEDDED = Path(__file__).parent / "weights" / "mini"


class CheckpointError(WeightsError):
    """A checkpoint that is missing, damaged, or of another model; the message says what and where."""

    advice = "A model is a folder with model.json and model.safetensors, or a name that `clue models list` shows."


class BaseWeightsError(CheckpointError):
    """The base weights of an adapter checkpoint are not registered, missing, or others.

    Attributes:
        base: name of the base model.
    """

    def __init__(self, message: str, base: str) -> None:
        super().__init__(message)
        self.base = base


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known about a model before its network is built.

    Attributes:
        folder: where it lies.
        name: what people call it: `mini`, or its folder; of a training also that of the run (`first/best`), of
            an exported network in int8 also that (`mini-int8 (int8)`): the records' `dtype` is that of what goes in.
        preset: the sizes of everything.
        calibration: from the heatmap to score, verdict and confidence.
        training: summary of how it was trained.
        digest: SHA-256 over all its files, hex.
        branches: `both`, or the only one the model has (ablation).
        base: name of the registered base model that an adapter checkpoint stands on; empty for a whole model.
        bases: SHA-256 of each part of it, hex.
        note: what a person should know of where it was found, a sentence; empty: it lies where it was looked for.
        exported: of a network that was exported as an ONNX graph: from which model, how; empty: it has weights.
        prompt: stored embeddings that take the place of its prompt's when it is loaded (`model.query`); None: none do.
    """

    folder: Path
    name: str
    preset: Preset
    calibration: Calibration
    training: dict[str, Any]
    digest: str
    branches: str = "both"
    base: str = ""
    bases: dict[str, str] = field(default_factory=dict)
    note: str = ""
    exported: dict[str, Any] = field(default_factory=dict)
    prompt: Path | None = None


def locate(name_or_path: str) -> Path:
    """The folder of a model: `mini` is the embedded one, anything else a path.

    Where a training was killed in the moment in which it replaced the model, it is the folder of the earlier one.

    Raises:
        CheckpointError: there is no such model.
    """
    folder = EMBEDDED if name_or_path == "mini" else Path(name_or_path)
    try:
        if folder.name and not folder.exists() and earlier(folder).is_dir():
            folder = earlier(folder)
        weights = next((name for name in (HEAD_FILE, GRAPH_FILE) if (folder / name).is_file()), WEIGHTS_FILE)
        missing = [name for name in (CONFIG_FILE, weights) if not (folder / name).is_file()]
    except OSError as error:  # no permission, or a name that no file system has
        raise CheckpointError(f"{str(folder)[:300]} cannot be read: {error.strerror}") from error
    if missing:
        raise CheckpointError(f"no model at {folder}: {' and '.join(missing)} not found{_hint(folder)}")
    return folder


def _hint(folder: Path) -> str:
    best = folder / BEST
    if not best.is_dir() and not earlier(best).is_dir():
        return ""
    return f"; it is the folder of a training, whose best model is {best}"


def lora_folder(folder: Path, branch: str) -> Path:
    """Where an adapter checkpoint keeps the LoRA of a branch."""
    return folder / f"lora_{branch}"


def svd_folder(folder: Path, branch: str) -> Path:
    """Where an adapter checkpoint keeps the SVD residuals of a branch."""
    return folder / f"svd_{branch}"


def digest_of(folder: Path) -> str:
    """SHA-256 over the SHA-256 of each file of the model, hex."""
    total = hashlib.sha256()
    folders = [place(folder, name) for place in (lora_folder, svd_folder) for name in BRANCHES]
    adapters = [path for place in folders for path in sorted(place.glob("adapter_*"))]
    files = [HEAD_FILE, *(path.relative_to(folder).as_posix() for path in adapters)]
    whole = not (folder / HEAD_FILE).is_file()
    weights = GRAPH_FILE if (folder / GRAPH_FILE).is_file() else WEIGHTS_FILE
    for name in [CONFIG_FILE, weights] if whole else [CONFIG_FILE, *files]:
        total.update(b"" if whole else name.encode())
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def inspect(name_or_path: str, *, check_bases: bool = True) -> Checkpoint:
    """Read a model's description and digest, without building its network.

    Args:
        name_or_path: `mini`, or a folder.
        check_bases: whether the base weights of an adapter checkpoint must be there, and the same.

    Raises:
        CheckpointError: missing, its configuration cannot be understood, or its bases are missing or others.
    """
    folder = locate(name_or_path)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        wanted = FORMAT
        if (folder / HEAD_FILE).is_file():
            wanted = ADAPTER_FORMAT
        elif (folder / GRAPH_FILE).is_file():
            wanted = EXPORTED_FORMAT
        if config["format"] != wanted:
            raise ValueError(f"format {config['format']}, this version reads {wanted}")
        preset = Preset.from_dict(config["preset"])
        calibration = Calibration.from_dict(config["calibration"])
        branches = config.get("branches", "both")
        parts = parts_of(preset, branches)
        if not isinstance(config["training"], dict):
            raise ValueError(f"training is {str(config['training'])[:80]!r}, expected an object")
        base = str(config["base"]) if wanted == ADAPTER_FORMAT else ""
        bases = {str(part): str(digest) for part, digest in config["bases"].items()} if base else {}
        if base and set(bases) != set(parts):
            raise ValueError(f"bases has {', '.join(bases) or 'nothing'}; expected {', '.join(parts)}")
        exported = _exported(config) if wanted == EXPORTED_FORMAT else {}
        checkpoint = Checkpoint(
            folder,
            _name(name_or_path) + (f" ({exported['numbers']})" if exported.get("numbers", FLOAT32) != FLOAT32 else ""),
            preset,
            calibration,
            config["training"],
            digest_of(folder),
            branches,
            base,
            bases,
            _note(name_or_path, folder),
            exported,
        )
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be understood: {error}") from error
    if checkpoint.base and check_bases:
        _compare_bases(checkpoint)
    return checkpoint


def _exported(config: dict[str, Any]) -> dict[str, Any]:
    """What `model.json` says under `exported`; raises ValueError: it is not what `model.runtimes` writes there."""
    exported = config["exported"]
    if not isinstance(exported, dict) or not isinstance(exported.get("digest"), str):
        raise ValueError(f"exported is {str(exported)[:80]!r}, expected an object that names the digest of a model")
    if exported.get("numbers") not in NUMBERS:
        raise ValueError(f"numbers is {str(exported.get('numbers'))[:80]!r}, expected {' or '.join(NUMBERS)}")
    return exported


def _name(name_or_path: str) -> str:
    folder = Path(name_or_path).resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name in (BEST, LAST) else folder.name


def _note(name_or_path: str, folder: Path) -> str:
    if name_or_path == "mini" or folder == Path(name_or_path):
        return ""
    return (
        f"{name_or_path} is missing, as a training ended while it replaced it; the earlier model, which it had moved "
        f"to {folder}, is used. The same training puts it back when it is resumed."
    )


def _compare_bases(checkpoint: Checkpoint) -> None:
    try:
        here = find(checkpoint.base).digests()
    except BasesError as error:
        raise BaseWeightsError(f"{checkpoint.folder} needs base weights: {error}", checkpoint.base) from error
    for part, digest in checkpoint.bases.items():
        if here.get(part) != digest:
            hint = f"; {_OTHER_PROMPT}" if part == "prompt" else ""
            raise BaseWeightsError(
                f"{checkpoint.folder} was trained on another {part} of {checkpoint.base}: "
                f"SHA-256 {digest} there, {here.get(part, 'none')} registered{hint}",
                checkpoint.base,
            )
