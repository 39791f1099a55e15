"""A model on disk: `model.safetensors` and `model.json` in one folder. Here: what can be known without its network.

`model.json` holds the preset, the calibration and a training summary; the digest covers both files, so that a
record's digest stands for everything that can change a result. Loading and saving weights is in `model.storage`:
a resumed scan with nothing left to compute never imports the libraries behind the network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.calibration import Calibration
from model.presets import Preset

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "model.json"
FORMAT = 1
EMBEDDED = Path(__file__).parent / "weights" / "mini"


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or of another model; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known about a model before its network is built.

    Attributes:
        folder: where it lies.
        preset: the sizes of everything.
        calibration: from the heatmap to score, verdict and confidence.
        training: summary of how it was trained.
        digest: SHA-256 over both files, hex.
        branches: `both`, or the only one the model has (ablation).
    """

    folder: Path
    preset: Preset
    calibration: Calibration
    training: dict[str, Any]
    digest: str
    branches: str = "both"


def locate(name_or_path: str) -> Path:
    """The folder of a model: `mini` is the embedded one, anything else a path.

    Raises:
        CheckpointError: there is no such model.
    """
    folder = EMBEDDED if name_or_path == "mini" else Path(name_or_path)
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"no model at {folder}: {' and '.join(missing)} not found")
    return folder


def digest_of(folder: Path) -> str:
    """SHA-256 over the two files' own SHA-256, hex."""
    total = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def inspect(name_or_path: str) -> Checkpoint:
    """Read a model's description and digest, without building its network.

    Raises:
        CheckpointError: missing, or its configuration cannot be understood.
    """
    folder = locate(name_or_path)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']}, this version reads {FORMAT}")
        preset = Preset.from_dict(config["preset"])
        calibration = Calibration.from_dict(config["calibration"])
        branches = config.get("branches", "both")
        if branches not in ("both", "sd3", "sam"):
            raise ValueError(f"branches is {branches!r}")
        return Checkpoint(folder, preset, calibration, config["training"], digest_of(folder), branches)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be understood: {error}") from error
