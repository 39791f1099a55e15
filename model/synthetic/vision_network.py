"""The network of the kind `vision`: head, training and detection; its bases are in `vision_towers.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from model.branches.network import adapters_in, merge_adapters
from model.branches.svd import constraint, svd_layers
from model.calibration import Calibration
from model.preset import LoraSpec, SvdSpec
from model.registry import BasesError
from model.storage import write_tensors
from model.synthetic import Detection, Method, MethodError
from model.synthetic.bases import FolderBase
from model.synthetic.card import card
from model.synthetic.learner import Inputs
from model.synthetic.method_folder import Description, base_of
from model.synthetic.vision import (
    CARD_FILE,
    KIND,
    SAM,
    WEIGHTS_FILE,
    Settings,
    check_base,
    limits,
    smallest,
)
from model.synthetic.vision_towers import Standing, Tower, standing_on
from model.tensor_files import converted, learned_tensors
from model.whole_file import write_text

if TYPE_CHECKING:
    from model.synthetic.options import SyntheticOptions

BATCH = 16
"""Crops that are judged at once."""
UPPER = 0.5
"""Share of a picture's crops, those with the largest logits, whose mean is its score."""


class VisionNetwork(nn.Module):
    """Crops → logits of being generated: a tower and a linear head."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.features, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: B×3×H×W uint8 → B float32."""
        features = self.tower(pixels.float() / 255)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())[:, 0]
        return logits

    def learned(self) -> dict[str, Tensor]:
        """Adapters, head and the scale of the features, by name."""
        head = {f"head.{name}": tensor for name, tensor in self.head.named_parameters()}
        scale = {n: t for n, t in self.named_buffers() if n.startswith("tower.scale.") and t.is_floating_point()}
        return adapters_in(self) | head | scale


def _spec(adapt: str, rank: int, alpha: float) -> LoraSpec | SvdSpec:
    return SvdSpec(rank=rank) if adapt == "svd" else LoraSpec(rank=rank, alpha=alpha)  # type: ignore[arg-type]


def _built(standing: Standing, settings: Settings, device: str, *, empty: bool) -> VisionNetwork:
    tower, crop = standing.tower, settings.crop
    if crop % tower.multiple or (tower.largest is not None and crop > tower.largest):
        most = f", at most {tower.largest}" if tower.largest is not None else ""
        raise MethodError(f"crop is {crop}; the base {standing.name} needs a multiple of {tower.multiple}{most}")
    try:
        tower.adapt(_spec(settings.adapt, settings.rank, settings.alpha), settings.targets, empty=empty)
    except ValueError as error:
        raise MethodError(f"the base {standing.name} cannot have these adapters: {error}") from error
    network = VisionNetwork(tower)
    network.head.to(device)
    return network


def load_network(
    description: Description, settings: Settings, path: Path, device: str, dtype: torch.dtype
) -> VisionNetwork:
    """The network of a method for detection: adapters are merged into the base's weights, in float32.

    Raises:
        MethodError: the file is damaged or does not fit, or the base is missing or another.
    """
    base: str | FolderBase = description.base
    if description.base.startswith(SAM):
        check_base(description, path.parent)
    else:
        base = base_of(description, path.parent)
    network = _built(standing_on(base, device, dtype), settings, device, empty=True)
    try:
        stored = dict(learned_tensors(path, device, torch.float32))
        _compare(stored, network.learned(), str(path))
        network.load_state_dict(stored, strict=False, assign=True)

        def convert(name: str, merged: Tensor, into: torch.dtype) -> Tensor:
            return converted(path, f"{name}.weight with its adapter", merged, into)

        for _ in merge_adapters(network, convert):
            pass
    except (BasesError, ValueError) as error:
        raise MethodError(str(error)) from error
    return network.requires_grad_(False).eval()


def _compare(stored: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """Raises ValueError where names or shapes differ."""
    for name in sorted(stored.keys() | expected.keys()):
        if name not in stored:
            raise ValueError(f"{what} does not fit the network: {name} is missing")
        if name not in expected:
            raise ValueError(f"{what} does not fit the network: {name[:200]} is unexpected")
        there, here = list(stored[name].shape), list(expected[name].shape)
        if there != here:
            raise ValueError(f"{what} does not fit the network: {name} is {there}, expected {here}")


def new_learner(base: str, options: SyntheticOptions, device: str, dtype: torch.dtype) -> VisionLearner:
    """As `model.synthetic.vision.learner`."""
    device = str(device)  # a torch.device will do
    standing = standing_on(base, device, dtype)
    tower = standing.tower
    targets = tuple(options.targets) if options.targets else tower.targets
    settings = Settings(options.adapt, options.rank, options.alpha, targets, options.crop or tower.crop, standing.sizes)
    torch.manual_seed(options.seed)
    network = _built(standing, settings, device, empty=False)
    return VisionLearner(network, settings, standing.name, standing.digest)


class VisionLearner:
    """A `model.synthetic.learner.Learner`.

    Args:
        network: with adapters.
        settings: of it.
        base, base_digest: what it stands on.
    """

    def __init__(self, network: VisionNetwork, settings: Settings, base: str, base_digest: str) -> None:
        self.network: nn.Module = network
        self._network = network
        self.settings, self.crop = settings, settings.crop
        self.base, self.base_digest = base, base_digest
        self.inputs: Inputs = partial(_inputs, settings.crop)
        self._residuals = svd_layers(network)

    def loss(self, inputs: dict[str, Tensor], generated: Tensor) -> Tensor:
        """Mean binary cross-entropy, and with `svd` the constraints of the residual."""
        logits = self._network(inputs["pixels"])
        loss = F.binary_cross_entropy_with_logits(logits, generated.to(logits.dtype))
        return loss + constraint(self._residuals) if self._residuals else loss

    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """P(generated): B float32."""
        return torch.sigmoid(self._network(inputs["pixels"]))

    def stored(self) -> dict[str, Tensor]:
        """Adapters and head; with `svd`, also the first values of the residual."""
        return {name: tensor.detach().contiguous() for name, tensor in self._network.learned().items()}

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `stored` gave.

        Raises:
            ValueError: names or shapes do not fit.
        """
        own = self._network.learned()
        _compare(tensors, own, "what was stored")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def save(self, folder: Path, calibration: Calibration, training: dict[str, Any]) -> None:
        """Write the method into a folder that is not in its place yet (`whole_folder`).

        Raises:
            OSError: the folder cannot be written.
        """
        settings, known = asdict(self.settings), limits(self.settings)
        description = Description(KIND, self.base, self.base_digest, calibration, training, settings)
        method = Method(f"{KIND} on {self.base}", KIND, "", calibration, None, self.base, training, known)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS_FILE, self.stored())
        description.write(folder)
        write_text(folder / CARD_FILE, card(method, None))


def _inputs(crop: int, pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
    """`pixels`: 3×crop×crop uint8; the network normalizes them itself, on its device."""
    if pixels.shape != (crop, crop, 3):
        raise ValueError(f"a crop is {pixels.shape}, expected {(crop, crop, 3)}")
    return {"pixels": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))}


class VisionDetector:
    """A `model.synthetic.Detector`.

    Args:
        network: in evaluation mode.
        crop: side of a crop in pixels.
    """

    def __init__(self, network: VisionNetwork, crop: int) -> None:
        self.network, self.crop = network, crop
        self._device = next(network.parameters()).device

    @torch.inference_mode()
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """Judge one picture: crops side by side at its own resolution, overlapping where its sides need it.

        A picture that is smaller than a crop is continued by its mirror image.

        Returns:
            The score; the crops' probabilities, interpolated between their centres, as the heatmap; and as parts the
            number of crops, and P(generated) by the mean logit and by the largest.

        Raises:
            ValueError: a side is shorter than half of a crop.
        """
        height, width = pixels.shape[:2]
        least = smallest(self.crop)
        if min(height, width) < least:
            raise ValueError(f"the picture is {width}×{height}; this method needs sides of at least {least} pixels")
        missing = [(0, max(0, self.crop - side)) for side in (height, width)]
        padded = np.pad(pixels, (*missing, (0, 0)), "symmetric") if max(missing)[1] else pixels
        rows, columns = (positions(side, self.crop) for side in padded.shape[:2])
        logits = np.concatenate(list(self._logits(padded, rows, columns)))
        upper = np.sort(logits)[-math.ceil(UPPER * len(logits)) :]
        heatmap = blended(expit(logits).reshape(len(rows), len(columns)), rows, columns, self.crop, (height, width))
        parts = {
            "crops": float(len(logits)),
            "mean": float(expit(logits.mean())),
            "highest": float(expit(logits.max())),
        }
        return Detection(float(expit(upper.mean())), heatmap, parts)

    def _logits(self, pixels: NDArray[np.uint8], rows: list[int], columns: list[int]) -> Iterator[NDArray[np.float64]]:
        places = [(row, column) for row in rows for column in columns]
        for start in range(0, len(places), BATCH):
            crops = [pixels[r : r + self.crop, c : c + self.crop] for r, c in places[start : start + BATCH]]
            batch = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy()).to(self._device)
            yield self.network(batch).double().cpu().numpy()


def positions(side: int, crop: int) -> list[int]:
    """Where crops begin along a side of at least one crop: as few as cover it, evenly spaced."""
    return [int(place) for place in np.linspace(0, side - crop, math.ceil(side / crop)).round()]


def blended(
    values: NDArray[np.float64], rows: list[int], columns: list[int], crop: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Values of crops, rows×columns, interpolated bilinearly between their centres: H×W in [0, 1]."""
    down, across = (_shares(places, crop, side) for places, side in zip((rows, columns), size, strict=True))
    heatmap: NDArray[np.float32] = np.clip(down @ values.astype(np.float32) @ across.T, 0, 1)
    return heatmap


def _shares(places: list[int], crop: int, side: int) -> NDArray[np.float32]:
    """How much each crop counts at each pixel along a side, side×crops."""
    centres = np.array(places) + crop / 2
    at = np.arange(side) + 0.5
    return np.stack([np.interp(at, centres, one) for one in np.eye(len(places))], 1).astype(np.float32)
