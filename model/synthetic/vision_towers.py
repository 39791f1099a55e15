"""The bases of the kind `vision`: crops to features, by a vision transformer that stays as it is but for adapters."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from model.branches import BRANCHES
from model.branches.network import adapters_in, inject
from model.checkpoint import EMBEDDED, CheckpointError, inspect, locate
from model.forensic_view import ForensicView
from model.preset import LoraSpec, Preset, SvdSpec
from model.registry import BasesError, find, read_json, registered
from model.storage import load as load_clue
from model.storage import with_bases
from model.synthetic import MethodError
from model.synthetic.bases import FolderBase, find_base
from model.synthetic.bases import load_network as load_transformers
from model.synthetic.method_folder import sizes_of
from model.synthetic.vision import SAM, sam_digest

if TYPE_CHECKING:
    from model.branches.sam_network import SamNetwork

CLASSES = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
"""Classes of transformers by the `model_type` of a folder."""
ATTENTION = ("attention", "attn", "self_attn")
"""Names of modules whose linear layers get adapters: all projections of the attention, as in Effort."""


class Tower(nn.Module):
    """Crops → features.

    Attributes:
        features: how many there are.
        crop: side of a crop in pixels that the base itself was trained on.
        multiple: a side is a multiple of this many pixels.
        largest: the largest side; None: any.
        targets: ends of the names of the layers that get adapters.
    """

    features: int
    crop: int
    multiple: int
    largest: int | None = None
    targets: tuple[str, ...]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x: B×3×H×W float32 in [0, 1] → B×features float32."""

    @abstractmethod
    def adapt(self, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool) -> None:
        """Put adapters on layers, in place; `empty` leaves them on the meta device.

        Raises:
            ValueError: there are no such layers, or the rank is too large for one.
        """


class TransformersTower(Tower):
    """A vision transformer of transformers: the feature is its pooled class token.

    Args:
        network: with its weights.
        mean, std: of each channel, by which its pixels are normalized.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        config = network.config
        self.features, self.multiple = int(config.hidden_size), int(config.patch_size)
        side = int(config.image_size)
        self.crop = side // self.multiple * self.multiple
        # The other kinds place their positions on any grid by themselves.
        self.own_side = side if "clip" in config.model_type else None
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        names = [name.split(".") for name, part in network.named_modules() if isinstance(part, nn.Linear)]
        self.targets = tuple(sorted({parts[-1] for parts in names if set(parts) & set(ATTENTION)}))

    def forward(self, x: Tensor) -> Tensor:
        """Position encodings are interpolated where the crop is not of the size that the base was trained on."""
        x = ((x - self.mean) / self.std).to(self.network.dtype)
        other = self.own_side is not None and x.shape[-1] != self.own_side
        more = {"interpolate_pos_encoding": True} if other else {}
        pooled: Tensor = self.network(pixel_values=x, **more).pooler_output
        return pooled.float()

    def adapt(self, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool) -> None:
        """On the layers of the transformer."""
        inject(self.network, spec, targets, empty=empty)


class SamTower(Tower):
    """SAM's image encoder of a CLUE, with the early forensic view where it sees that.

    The features are the means over all cells. They differ little between crops beside what they have in common, and a
    head would learn slowly from them: they are brought to mean 0 and deviation 1 as in the training's batches.
    """

    def __init__(self, preset: Preset, network: SamNetwork, view: ForensicView | None) -> None:
        super().__init__()
        branch = BRANCHES["sam"]
        self.network, self.view = network, view if network.sees_view else None
        self.features, self.largest = network.channels, branch.largest(preset)
        self.scale = nn.BatchNorm1d(self.features, affine=False)
        self.multiple = math.lcm(branch.cell(preset), 8)
        self.crop = preset.tile.size
        self.targets = branch.lora_targets(preset)

    def forward(self, x: Tensor) -> Tensor:
        """Without maps of self-similarity: they are of whole pictures."""
        found: Tensor = self.network(x, None, None if self.view is None else self.view(x, None))
        pooled: Tensor = self.scale(found.float().mean((-2, -1)))
        return pooled

    def adapt(self, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool) -> None:
        """On q, k and v of the encoder."""
        parts = self.network.get_submodule(self.network.adapted)
        self.network.add_adapters(spec, targets, empty=empty)
        if not adapters_in(parts):
            raise ValueError(f"the encoder has no layer whose name ends with {' or '.join(targets)}")


@dataclass(frozen=True, slots=True)
class Standing:
    """A base and what identifies it: its tower, frozen, name, digest and sizes."""

    tower: Tower
    name: str
    digest: str
    sizes: dict[str, Any]


def standing_on(base: str | FolderBase, device: str, dtype: torch.dtype) -> Standing:
    """Load a base by its name or folder, or a folder that was found already.

    Raises:
        MethodError: it is missing, damaged, or no vision transformer.
    """
    name = base if isinstance(base, str) else base.name
    try:
        if name.startswith(SAM):
            name = _anywhere(name.removeprefix(SAM))
            tower = _sam_tower(name.removeprefix(SAM), device, dtype)
            return Standing(tower.requires_grad_(False), name, sam_digest(name), {})
        folder = find_base(base) if isinstance(base, str) else base
        network = _transformers_tower(folder, device, dtype).requires_grad_(False)
        return Standing(network, folder.name, folder.digest, sizes_of(folder))
    except (BasesError, CheckpointError) as error:
        raise MethodError(f"the base {name[:300]}: {error}", error.advice) from error


def _anywhere(clue: str) -> str:
    """The name of a base that stands on a CLUE, whatever the current folder is."""
    of_package = clue in registered() or locate(clue) == EMBEDDED
    return SAM + (clue if of_package else str(Path(clue).absolute()))


def _sam_tower(name: str, device: str, dtype: torch.dtype) -> SamTower:
    if name in registered():
        base = find(name)
        if "sam" not in base.parts:
            raise BasesError(f"{name} has no SAM")
        clue = with_bases(base.preset, base, device, dtype, "sam")
    else:
        clue = load_clue(inspect(name), device, dtype)
    if "sam" not in clue.networks:
        raise BasesError(f"{name} has no SAM")
    return SamTower(clue.preset, cast("SamNetwork", clue.networks["sam"]), clue.view).to(device)


def _transformers_tower(base: FolderBase, device: str, dtype: torch.dtype) -> TransformersTower:
    if base.model_type not in CLASSES:
        raise BasesError(
            f"{base.folder} is a model of the type {base.model_type}; expected a vision transformer of one of the "
            f"types {', '.join(CLASSES)}"
        )
    mean, std = _normalization(Path(base.folder))
    network = load_transformers(base, CLASSES[base.model_type], dtype, device)
    return TransformersTower(network, mean, std).to(device)


def _normalization(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, of the folder's image processor.

    Raises:
        BasesError: there is none, or its numbers are no such numbers.
    """
    path = folder / "preprocessor_config.json"
    if path.is_file():
        config = read_json(path)
    else:
        path = folder / "processor_config.json"
        if not path.is_file():
            raise BasesError(f"{folder} has no preprocessor_config.json, which says how pixels are normalized")
        config = read_json(path).get("image_processor", {})
    if not isinstance(config, dict):
        raise BasesError(f"{path} is damaged: image_processor is no object")
    if config.get("do_normalize") is False:
        return [0.0] * 3, [1.0] * 3
    return _three(config, "image_mean", path), _three(config, "image_std", path)


def _three(config: dict[str, Any], key: str, path: Path) -> list[float]:
    values = config.get(key)
    if isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values):
        numbers = [float(value) for value in values]
        if all(map(math.isfinite, numbers)) and (key != "image_std" or min(numbers) > 0):
            return numbers
    raise BasesError(f"{path}: {key} is {str(values)[:80]}; expected three numbers")
