"""The folder of a trained method: `method.json` beside its tensors, read without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.calibration import Calibration
from model.registry import BasesError, FolderBase, read_json, sha256_of
from model.synthetic import FORMAT, METHOD_FILE, Method, MethodError, read_method_file
from model.synthetic.bases import bound_base, find_base, pickle_in


@dataclass(frozen=True, slots=True)
class Description:
    """What `method.json` holds.

    Attributes:
        base: name or path of the base, empty if there is none.
        base_digest: SHA-256 of the base, hex.
        settings: what the kind needs of its own, in JSON types.
    """

    kind: str
    base: str
    base_digest: str
    calibration: Calibration
    training: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it into a folder that is not in its place yet (`whole_folder`).

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "base": self.base,
            "base_digest": self.base_digest,
            "settings": self.settings,
            "calibration": self.calibration.to_dict(),
            "training": self.training,
        }
        (folder / METHOD_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_description(folder: Path, kind: str) -> Description:
    """Read `method.json` of a folder.

    Raises:
        MethodError: it is missing, of another kind or format, or cannot be understood.
    """
    path, content = folder / METHOD_FILE, read_method_file(folder)
    try:
        if content["kind"] != kind:
            raise ValueError(f"kind {content['kind']!r}; expected {kind!r}")
        training, settings = content["training"], content.get("settings", {})
        if not isinstance(training, dict) or not isinstance(settings, dict):
            raise ValueError("training and settings; expected objects")
        calibration = Calibration.from_dict(content["calibration"])
        return Description(kind, str(content["base"]), str(content["base_digest"]), calibration, training, settings)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MethodError(f"{path} cannot be understood: {error}") from error


def method_of(name: str, description: Description, files: Sequence[str], limits: Sequence[str] = ()) -> Method:
    """The method of a folder.

    Args:
        name: of the folder, as it was given.
        description: what it has in `method.json`.
        files: its other files, all of which can change a score.
        limits: of its kind; the generators that it learned from are added.

    Raises:
        MethodError: a file is missing.
    """
    folder = Path(name)
    total = hashlib.sha256(description.base_digest.encode())
    for file in (METHOD_FILE, *files):
        try:
            total.update(f"\n{file} {sha256_of(folder / file)}".encode())
        except FileNotFoundError as error:
            raise MethodError(f"{folder / file} is missing{pickle_in(folder)}") from error
        except OSError as error:
            raise MethodError(f"{folder / file} cannot be read: {error.strerror}") from error
    seen = description.training.get("generators") or ()
    seen = ", ".join(map(str, seen)) if isinstance(seen, list | tuple) else ""
    known = f"It learned from pictures of {seen}" if seen else "Which generators it learned from is not stated"
    return Method(
        name,
        description.kind,
        total.hexdigest(),
        description.calibration,
        folder,
        description.base,
        description.training,
        (f"{known}; what it says of pictures of other generators must be measured.", *limits),
    )


def base_of(description: Description, folder: Path) -> FolderBase:
    """The folder of transformers weights that a method was trained on.

    Raises:
        MethodError: it is missing, or has another digest; both digests, and sizes that differ, are in the message.
    """
    try:
        return bound_base(description.base, description.base_digest, str(folder))
    except BasesError as error:
        there: object = description.settings.get("base_sizes")
        try:
            here: object = sizes_of(find_base(description.base))
        except BasesError:
            here = there
        differ = f"; trained on {_words(there)}, here is {_words(here)}" if here != there else ""
        raise MethodError(f"{error}{differ}", error.advice) from error


def sizes_of(base: FolderBase) -> dict[str, Any]:
    """What `config.json` of a folder says of the model's size: model type, width and layers of each part.

    Raises:
        BasesError: it cannot be read.
    """
    config = read_json(Path(base.folder) / "config.json")
    wanted = ("model_type", "hidden_size", "d_model", "num_hidden_layers", "num_layers", "image_size")
    parts = {"": config} | {key: part for key, part in sorted(config.items()) if isinstance(part, dict)}
    return {
        f"{part.removesuffix('_config')} {key}".strip(): content[key]
        for part, content in parts.items()
        for key in wanted
        if isinstance(content.get(key), int | str)
    }


def _words(sizes: object) -> str:
    pairs = sizes.items() if isinstance(sizes, dict) else ()
    return ", ".join(f"{str(key)[:40]} {str(value)[:40]}" for key, value in pairs) or "an unknown size"
