"""What is done once the training is over: the kept models get their calibration."""

from __future__ import annotations

import json
from pathlib import Path

from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE
from model.whole_file import write_text


def finish(folder: Path, calibration: Calibration | None = None) -> None:
    """Store the calibration of a model beside its weights.

    Args:
        folder: of a model, as `model.storage.save` writes it.
        calibration: fitted on pictures that were neither trained nor tested on; None: the defaults, which give no
            confidence.

    Raises:
        OSError: the folder cannot be written; the model is as it was.
    """
    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    config["calibration"] = (calibration or Calibration()).to_dict()
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / CONFIG_FILE, text)
