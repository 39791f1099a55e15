"""`traces`: the method that is shipped, a small classifier of the statistics of tiles (`model.synthetic.spectra`).

It learned from photographs against the same photographs after learned decoders of our own (autoencoders of several
designs, upsamplers and strengths) and after untrained upsampling, with the same later history in both classes; it has
never seen the output of a generator that people use. Its card, `model/weights/traces/card.md`, has its error rates.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, logsumexp

from model.calibration import Calibration
from model.score import SCREEN, image_features, kind_of
from model.synthetic import FORMAT, METHOD_FILE, Detection, Method, MethodError, read_method_file
from model.whole_file import write_text, write_whole

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parents[1] / "weights" / "traces"
WEIGHTS_FILE = "model.safetensors"
CLASSES = ("photograph", "laundered", "generated")
"""What a tile is taken for; laundered: a photograph that went through a learned decoder."""
TILE = 256
"""Side of a tile, pixels."""
TILES = 16
"""Most tiles of a picture, spread over it evenly."""
_FLAT = 2.0
"""Grey levels: a tile whose brightness varies by less says nothing."""


def describe(name_or_path: str) -> Method:
    """What is known of the method.

    Raises:
        MethodError: its files are damaged.
    """
    folder = FOLDER if name_or_path == "traces" else Path(name_or_path)
    content = read_method_file(folder)
    try:
        parts = [(folder / name).read_bytes() for name in (METHOD_FILE, WEIGHTS_FILE)]
        return Method(
            name=name_or_path if name_or_path == "traces" else folder.name,
            kind="traces",
            digest=hashlib.sha256(b"".join(parts)).hexdigest(),
            calibration=Calibration.from_dict(content["calibration"]),
            folder=folder,
            training=dict(content["training"]),
            limits=tuple(map(str, content["limits"])),
        )
    except OSError as error:
        raise MethodError(f"{folder} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MethodError(f"{folder / METHOD_FILE} cannot be understood: {error}") from error


def load(method: Method, device: str, dtype: torch.dtype) -> Traces:
    """The classifier; it runs on the CPU in float32, whatever the device.

    Raises:
        MethodError: its weights are damaged.
    """
    assert method.folder is not None
    try:
        return Traces(load_file(method.folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise MethodError(f"{method.folder / WEIGHTS_FILE} is damaged: {error}") from error


def save(folder: Path, weights: dict[str, NDArray[np.float32]], calibration: Calibration, **described: Any) -> None:
    """Write the method.

    Args:
        described: `training` and `limits`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_FILE, lambda path: save_file(weights, path))
    content = {"format": FORMAT, "kind": "traces", "calibration": calibration.to_dict()} | described
    write_text(folder / METHOD_FILE, json.dumps(content, indent=1) + "\n")


class Traces:
    """A `Detector`: several small perceptrons on the statistics of tiles, and the mean of what they say.

    Args:
        weights: `mean` and `scale` of the statistics; of M perceptrons `w1` M×n×h, `b1` M×h, `w2` M×h×3, `b2` M×3.

    Raises:
        KeyError, ValueError: they do not fit each other.
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self.mean, self.scale = weights["mean"], weights["scale"]
        self.w1, self.b1, self.w2, self.b2 = (weights[name] for name in ("w1", "b1", "w2", "b2"))
        members, inputs, hidden = self.w1.shape
        expected = {"mean": (inputs,), "b1": (members, hidden), "w2": (members, hidden, 3), "b2": (members, 3)}
        for name, shape in (expected | {"scale": (inputs,)}).items():
            if weights[name].shape != shape:
                raise ValueError(f"{name} is {weights[name].shape}, expected {shape}")

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """The mean evidence of the tiles.

        Raises:
            ValueError: the picture is smaller than a tile, nearly uniform, or a screen or drawing.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < TILE:
            raise ValueError(f"too small: {width}×{height} pixels, {TILE} on each side are needed")
        if kind_of(image_features(np.broadcast_to(np.float32(0), (height, width)), pixels)) == SCREEN:
            raise ValueError("it is taken for a screen or a drawing, and the method was made for photographs")
        from model.synthetic.spectra import statistics  # torch, which `describe` does without

        found = [statistics(tile) for tile in tiles_of(pixels) if float(tile.mean(2).std()) >= _FLAT]
        if not found:
            raise ValueError(f"nearly uniform: brightness varies by less than {_FLAT:g} grey levels")
        return self.of_statistics(np.stack(found))

    def of_statistics(self, found: NDArray[np.float32]) -> Detection:
        """What the tiles of one picture say together.

        Args:
            found: statistics of its tiles, n×statistics.
        """
        logs = self.of_tiles(found)
        photograph, laundered, generated = logs.mean(0).tolist()
        # The mean of the logarithms weighs all tiles alike; one that is sure and wrong does not decide.
        both = float(logsumexp([laundered, generated]))
        score = 1 / (1 + math.exp(min(photograph - both, 700.0)))
        parts = {
            "tiles": float(len(logs)),
            "laundered_if_made": math.exp(laundered - both),
            "spread": float(logs[:, 0].std()),
        }
        return Detection(score, None, parts)

    def of_tiles(self, found: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-probabilities of `CLASSES`.

        Args:
            found: n×statistics.

        Returns:
            n×3.
        """
        x = np.clip((found - self.mean) / self.scale, -6, 6)
        hidden = np.maximum(np.einsum("ni,mih->mnh", x, self.w1) + self.b1[:, None], 0)
        logits = np.einsum("mnh,mhc->mnc", hidden, self.w2) + self.b2[:, None]
        return np.asarray(log_softmax(logits.astype(np.float64).mean(0), -1))


def tiles_of(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """At most TILES tiles, evenly spread, on multiples of 8."""
    height, width = pixels.shape[:2]
    rows, columns = max(1, height // TILE), max(1, width // TILE)
    while rows * columns > TILES:
        if columns == 1 or (rows > 1 and rows * width >= columns * height):
            rows -= 1
        else:
            columns -= 1
    tops, lefts = (
        [int(start) // 8 * 8 for start in np.linspace(0, side - TILE, count)]
        if count > 1
        else [(side - TILE) // 16 * 8]
        for side, count in ((height, rows), (width, columns))
    )
    return [np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE]) for top in tops for left in lefts]
