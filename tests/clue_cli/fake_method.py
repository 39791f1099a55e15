"""A method of the second question in the layout of a real one, whose answer the first pixel of a picture gives.

`python -m tests.clue_cli.fake_method` is a network's process that knows it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import model.synthetic
from model.calibration import Calibration
from model.synthetic import FORMAT, METHOD_FILE, Detection, Method, MethodError

TOO_SMALL, NO_MEMORY, NOT_A_NUMBER, FAILS, WRONG_MAP, ENDLESS_PART = range(1, 7)
"""Values of red; any other is the score, of 255."""

CALIBRATION = Calibration(
    name="faked",
    no_evidence_below=0.3,
    score_threshold=0.8,
    fitted_on="pictures of <one> pixel",
    fitted_megapixels=(0.001, 10),
    figures={"false_generated": 0.0125, "n": 80},
)


class FakeDetector:
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        red = int(pixels[0, 0, 0])
        if red == TOO_SMALL:
            raise ValueError("too small: 128 pixels on each side are needed")
        if red == NO_MEMORY:
            raise MemoryError
        if red == FAILS:
            raise KeyError("no such layer")
        heatmap = np.zeros(pixels.shape[:2], np.float32)
        heatmap[0] = 1  # the first row as stored
        if red == WRONG_MAP:
            return Detection(0.9, heatmap * 2)
        score = float("nan") if red == NOT_A_NUMBER else red / 255
        return Detection(score, heatmap, {"early": float("inf") if red == ENDLESS_PART else 0.25})


def describe(name_or_path: str) -> Method:
    folder = Path(name_or_path)
    text = (folder / METHOD_FILE).read_bytes()
    content = json.loads(text)
    if content.get("damaged"):
        raise MethodError(f"the weights in {folder} are damaged")
    calibration = Calibration.from_dict(content["calibration"])
    digest = hashlib.sha256(content["weights"].encode()).hexdigest()
    training = {"generators": ["a <diffusion> model"]}
    return Method(
        str(folder), "fake", digest, calibration, folder, training=training, limits=("It knows <one> pixel.",)
    )


def load(method: Method, device: str, dtype: Any) -> FakeDetector:
    if (method.folder or Path()).joinpath("unloadable").exists():
        raise MethodError("its tensors are damaged")
    return FakeDetector()


def write_method(folder: Path, calibration: Calibration = CALIBRATION, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"format": FORMAT, "kind": "fake", "weights": "w", "calibration": calibration.to_dict(), **changes}
    (folder / METHOD_FILE).write_text(json.dumps(content))
    return folder


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.synthetic.KINDS, "fake", "fake")
    monkeypatch.setitem(sys.modules, "model.synthetic.fake", sys.modules[__name__])


if __name__ == "__main__":
    from clue_cli.networks.worker import main

    register(pytest.MonkeyPatch())
    main()
