"""Folders of transformers models as bases of methods: which files count, their digest, and how they are loaded.

Only safetensors and JSON are read. No code that comes with a folder is ever run: `auto_map` is ignored, or refused
where transformers would ask. Torch-free but for `load_network`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.registry import (
    BasesError,
    FolderBase,
    StoredFile,
    check_unchanged,
    folders,
    put,
    read_json,
    registered,
    shards,
    stored,
)
from model.reporter import SILENT, Reporter

if TYPE_CHECKING:
    import torch

__all__ = ["FolderBase", "bound_base", "find_base", "load_network", "load_processor", "register_folder"]

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "*.model", "chat_template.*",
)  # fmt: skip
_OTHERS = ("generation_config.json", "*processor_config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_MODEL_TYPE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def find_base(name_or_folder: str) -> FolderBase:
    """A folder of a transformers model that is registered, or one that is not.

    A registered one is compared with its note: what has the same size and time is taken for the same. Any other is
    hashed, which takes as long as its weights are large.

    Raises:
        BasesError: there is none, a file is missing or changed, or the folder holds a pickle, an adapter, or something
            else that is not a whole model; the message says which file.
    """
    known = folders()
    if name_or_folder in known:
        return _unchanged(known[name_or_folder])
    folder = Path(name_or_folder).absolute()
    for base in known.values():
        if base.folder == str(folder):
            return _unchanged(base)
    if name_or_folder in registered():
        raise BasesError(f"{name_or_folder} is weights of SD3 and SAM, and no folder of a transformers model")
    if not folder.is_dir():
        there = ", ".join(known) or "none"
        raise BasesError(
            f"{name_or_folder[:300]} is neither a folder nor the name of a registered one (there is {there})",
        )
    return _noted(str(folder), folder, SILENT)


def bound_base(name: str, digest: str, user: str) -> FolderBase:
    """The base that adapters were trained on, under its name or, where it was registered anew, under another.

    Args:
        name: of the base, as the adapters' folder has it.
        digest: SHA-256 of the base then.
        user: what stands on it, for the message.

    Raises:
        BasesError: it is missing, or has another digest; both are in the message.
    """
    same = [base.name for base in folders().values() if base.digest == digest]
    try:
        base = find_base(name if name in same or not same else same[0])
    except BasesError as error:
        raise BasesError(f"{user} needs the base {name}: {error}") from error
    if base.digest != digest:
        raise BasesError(
            f"{user} was trained on another {name}: SHA-256 {digest} there, {base.digest} here ({base.folder})"
        )
    return base


def register_folder(name: str, folder: Path, reporter: Reporter = SILENT) -> FolderBase:
    """Check a folder, hash its files and register it. Nothing is copied.

    Raises:
        BasesError: as of `find_base`; or the name is taken or not a plain word, or transformers, where it is installed,
            does not know the model.
        OSError: the config folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise BasesError(f"{name[:80]!r} cannot be a name: expected letters, digits, points, dashes, up to 64")
    base = replace(_noted(name, folder.absolute(), reporter), added=datetime.now(UTC).isoformat(timespec="seconds"))
    if importlib.util.find_spec("transformers") is not None:
        _check_known(base)
    put(base)
    return base


def _noted(name: str, folder: Path, reporter: Reporter) -> FolderBase:
    model_type, paths = _examine(folder)
    reporter.stage("Hashing", "bytes", sum(path.stat().st_size for path in paths))
    files = tuple(stored(path, reporter) for path in paths)
    reporter.finish()
    return FolderBase(name, str(folder), model_type, _digest(files), files)


def _unchanged(base: FolderBase) -> FolderBase:
    what = f"the folder of {base.name}"
    check_unchanged(what, base.files)
    _, paths = _examine(Path(base.folder))
    new = sorted({str(path) for path in paths} - {file.path for file in base.files})
    if new:
        raise BasesError(f"{what} changed since it was added: {new[0]} is new")
    return base


def _digest(files: tuple[StoredFile, ...]) -> str:
    lines = (f"{Path(file.path).name} {file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _examine(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """The `model_type` of a folder and the files that count, sorted by name."""
    try:
        if not folder.is_dir():
            raise BasesError(f"{folder} is not a folder")
        if not (folder / CONFIG).is_file():
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
            raise BasesError(
                f"{folder} is not a folder of a transformers model: {CONFIG} is missing (there is: {found})"
            )
        if (folder / "adapter_config.json").exists():
            raise BasesError(
                f"{folder} holds an adapter (adapter_config.json), which could name any base; expected none"
            )
        names = {path.name for glob in (*TOKENIZER, *_OTHERS) for path in folder.glob(glob)}
        paths = {folder / name for name in (CONFIG, *names)} | set(_weights(folder))
        for path in paths:
            if not path.is_file():
                raise BasesError(f"{path} is not a regular file")
        for path in paths:
            if path.suffix == ".safetensors":
                _check_header(path)
    except OSError as error:
        raise BasesError(f"{folder} cannot be read: {error.strerror or error}") from error
    config = read_json(folder / CONFIG)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        raise BasesError(f"{folder / CONFIG} has the model_type {str(model_type)[:80]!r}; expected a word like blip-2")
    if config.get("quantization_config") is not None:
        raise BasesError(f"{folder / CONFIG} has a quantization_config; expected weights that are not quantized")
    return model_type, tuple(sorted(paths, key=lambda path: path.name))


def _weights(folder: Path) -> tuple[Path, ...]:
    """What transformers reads: one file, or else the index and its shards."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        return (folder / INDEX, *shards(folder / INDEX))
    raise BasesError(f"{folder / WEIGHTS} is missing, and so is an index of shards{pickle_in(folder)}")


def pickle_in(folder: Path) -> str:
    """The pickle of a folder that has no safetensors, for the message; empty: there is none."""
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    return f"; {pickles[0]} is a pickle or the like, which is not read: get the safetensors" if pickles else ""


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise BasesError(f"{path} is damaged or not a safetensors file: {error}") from error


def load_network(base: FolderBase, kind: str, dtype: torch.dtype, device: str = "cpu") -> Any:
    """A network of transformers with the weights of the folder, frozen, in evaluation mode.

    Args:
        base: of `find_base`.
        kind: a class of transformers, such as `Blip2ForConditionalGeneration` or `AutoModel`.
        dtype: its number format.
        device: where it goes.

    Raises:
        BasesError: transformers is not installed or does not know the model or the class, or the weights are damaged,
            incomplete or of other shapes.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    loader = _class(base, kind)
    shared = {
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    try:
        try:  # an attention that config.json names could be a kernel to be fetched from the web
            network, report = loader.from_pretrained(base.folder, dtype=dtype, attn_implementation="sdpa", **shared)
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
            network, report = loader.from_pretrained(base.folder, dtype=dtype, attn_implementation="eager", **shared)
    except MemoryError:
        raise
    except Exception as error:  # the library raises whatever a damaged file makes of it
        raise _damaged(base, error) from error
    for key in ("missing_keys", "mismatched_keys"):
        if wrong := sorted(map(str, report.get(key) or ())):
            more = f" ({len(wrong)} in all)" if len(wrong) > 1 else ""
            raise BasesError(f"{base.folder} is not a whole {kind}: {key.replace('_', ' ')}: {wrong[0][:200]}{more}")
    return network.requires_grad_(False).eval().to(device)


def load_processor(base: FolderBase, kind: str, **more: Any) -> Any:
    """A tokenizer or an image processor of the folder.

    Args:
        base: of `find_base`.
        kind: a class of transformers, such as `AutoTokenizer` or `AutoImageProcessor`.
        more: for its `from_pretrained`.

    Raises:
        BasesError: transformers is not installed, or the files that it needs are missing or damaged.
    """
    loader = _class(base, kind)
    names = [Path(file.path).name for file in base.files]
    if "Tokenizer" in kind and not any(name in _VOCABULARIES or name.endswith(".model") for name in names):
        raise BasesError(f"{base.folder} has no tokenizer: expected tokenizer.json, or vocab.json with merges.txt")
    if "ImageProcessor" in kind and not any(name.endswith("processor_config.json") for name in names):
        raise BasesError(f"{base.folder} has no image processor: expected preprocessor_config.json")
    try:
        return loader.from_pretrained(base.folder, local_files_only=True, trust_remote_code=False, **more)
    except Exception as error:  # as above
        raise _damaged(base, error) from error


def _class(base: FolderBase, kind: str) -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise BasesError(
            f"{base.name} is loaded with transformers, which is not installed: pip install 'clue-forensics[models]'"
        )
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _check_known(base)
    try:
        return getattr(transformers, kind)
    except AttributeError as error:
        raise BasesError(f"transformers {transformers.__version__} has no {kind}") from error


def _check_known(base: FolderBase) -> None:
    import transformers
    from transformers import CONFIG_MAPPING

    if base.model_type not in CONFIG_MAPPING:
        raise BasesError(
            f"transformers {transformers.__version__} does not know the model_type {base.model_type} of {base.folder}; "
            "code that comes with a folder is not run"
        )


def _damaged(base: FolderBase, error: Exception) -> BasesError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return BasesError(f"{base.folder} cannot be loaded: {reason}")
