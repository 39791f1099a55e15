"""A method of the second question that learns in seconds: a tiny network on crops, saved in a real folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.calibration import Calibration
from model.synthetic import FORMAT, KINDS, METHOD_FILE, Detection, Method
from model.synthetic.options import SyntheticOptions
from model.training.options import read_synthetic_options

CROP = 32


class ToyLearner:
    """A frozen high-pass filter, and a head that learns."""

    def __init__(self) -> None:
        self.crop, self.base_digest = CROP, "0" * 64
        base = nn.Conv2d(3, 4, 3).requires_grad_(False)
        self.network = nn.ModuleDict({"base": base, "head": nn.Linear(4, 1), "drop": nn.Dropout(0.1)})
        kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])
        base.weight.data[:] = kernel / 3

    def inputs(self, pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
        assert pixels.shape == (CROP, CROP, 3) and pixels.dtype == np.uint8
        return {"pixels": torch.from_numpy(pixels).permute(2, 0, 1).float() / 255}

    def _logits(self, inputs: dict[str, Tensor]) -> Tensor:
        energy = self.network["base"](inputs["pixels"]).abs().mean((2, 3)) * 5
        found: Tensor = self.network["head"](self.network["drop"](energy))[:, 0]
        return found

    def loss(self, inputs: dict[str, Tensor], generated: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self._logits(inputs), generated.float())

    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        return self._logits(inputs).sigmoid()

    def stored(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.network["head"].named_parameters()}

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        self.network["head"].load_state_dict(tensors)

    def save(self, folder: Path, calibration: Calibration, training: dict[str, Any]) -> None:
        save_file(self.stored(), folder / "head.safetensors")
        content = {"format": FORMAT, "kind": "vision", "base": "toy"}
        content |= {"calibration": calibration.to_dict(), "training": training}
        (folder / METHOD_FILE).write_text(json.dumps(content), "utf-8")


class ToyDetector:
    def __init__(self, learner: ToyLearner) -> None:
        self.learner = learner
        learner.network.eval()

    @torch.inference_mode()
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        inputs = self.learner.inputs(np.ascontiguousarray(pixels[:CROP, :CROP]))
        return Detection(float(self.learner.scores({"pixels": inputs["pixels"][None]})[0]))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the method of the kind `vision`."""
    module: Any = ModuleType("model.synthetic.toy")

    def load(method: Method, device: str, dtype: torch.dtype) -> ToyDetector:
        learner = ToyLearner()
        assert method.folder is not None
        learner.load_stored(load_file(method.folder / "head.safetensors"))
        return ToyDetector(learner)

    def describe(path: str) -> Method:
        content = json.loads((Path(path) / METHOD_FILE).read_text("utf-8"))
        return Method(
            path,
            "vision",
            "0" * 64,
            Calibration.from_dict(content["calibration"]),
            Path(path),
            "toy",
            content["training"],
        )

    module.learner = lambda base, options, device, dtype: ToyLearner()
    module.load, module.describe = load, describe
    monkeypatch.setitem(sys.modules, "model.synthetic.toy", module)
    monkeypatch.setitem(KINDS, "vision", "toy")


def options(**typed: Any) -> SyntheticOptions:
    """Options of a short training."""
    short: dict[str, Any] = {"base": "toy", "batch": 8, "lr": 0.3, "workers": 0, "validation_samples": 32}
    short |= {"validate_every": 10, "save_every": 5, "calibration_samples": 0, "device": "cpu"}
    return read_synthetic_options("aligned", [f"{key}={value}" for key, value in (short | typed).items()])


def photo(number: int, side: int = 64) -> NDArray[np.uint8]:
    """A smooth picture."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(60, 200, (4, 4, 3)).astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def traced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same with the trace that the toy finds: a chequered pattern."""
    rows, columns = np.indices(pixels.shape[:2])
    chequered = np.asarray((rows + columns) % 2 * 24 - 12)[..., None]
    return np.asarray(np.clip(pixels.astype(int) + chequered, 0, 255), np.uint8)


def write_mix(folder: Path, real: int = 40, made: int = 40, **more: Any) -> Path:
    """A mix of photos as JPEG and of pictures of two generators as PNG. JSON is YAML."""
    for name in ("real", "alpha", "beta"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(real):
        Image.fromarray(photo(number)).save(folder / "real" / f"r{number:03}.jpg", quality=95)
    for number in range(made):
        name = "alpha" if number % 2 else "beta"
        Image.fromarray(traced(photo(1000 + number))).save(folder / name / f"g{number:03}.png")
    content: dict[str, Any] = {
        "sources": [
            {"name": "photos", "real": "real"},
            {"name": "a", "generated": "alpha", "generator": "Alpha 1.0"},
            {"name": "b", "generated": "beta"},
        ],
        "validation": {"share": 0.25, "calibration_share": 0.2},
        "augment": {"blur": 0, "history": 0.2},
    }
    path = folder / "mix.yaml"
    path.write_text(json.dumps(content | more), "utf-8")
    return path
