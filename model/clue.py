"""CLUE: Capture Latent Uncovered Evidence (arXiv 2508.07413). The paper's forward pass on one page.

x ─┬─ VAE encoder ── z0 ── rectified-flow noise, several levels ── MM-DiT + LoRA ── F_sd3 ─┐
   │                                                                                       ├─ fusion ── head ── M
   └─ SAM image encoder + LoRA on q, k, v ──────────────────────────────────────── F_sam ──┘
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.branches import BRANCHES, branches_of, noise_shape
from model.branches.inference import pointwise
from model.branches.network import BranchNetwork, Prompts, freeze
from model.forensic_view import ForensicView
from model.preset import Adapt, HeadSpec, Preset
from model.registry import Base


class CLUE(nn.Module):
    """Image and noise → logits of the mask.

    Args:
        preset: the sizes of everything.
        branches: `both`, or one of them alone for the ablation.
    """

    def __init__(self, preset: Preset, branches: str = "both") -> None:
        super().__init__()
        self.preset, self.branches = preset, branches
        self.base: Base | None = None  # whose weights it stands on; set by `model.storage.with_bases`
        self.view = ForensicView(preset.view) if preset.view.channels else None
        for name in preset.backbones:
            self.add_module(name, None)
        for branch in branches_of(preset, branches):
            self.add_module(branch.name, branch.build(preset))
        self.fusion = FeatureFusion(preset.head, {name: network.channels for name, network in self.networks.items()})
        self.localization = Localization(preset.head.channels)

    @property
    def networks(self) -> dict[str, BranchNetwork]:
        """The branches by name; those that are left out are not among them."""
        found = ((name, self._modules[name]) for name in self.preset.backbones)
        return {name: cast(BranchNetwork, network) for name, network in found if network is not None}

    def forward(
        self, x: Tensor, noise: Tensor, matches: Tensor | None = None, prompts: Prompts | None = None
    ) -> Tensor:
        """Logits of the mask, B×1×H×W float32; sigmoid gives M.

        Args:
            x: B×3×H×W in [0, 1], float32 whatever the network's dtype: eight bits of grey need more than bfloat16
                has. H and W are multiples of `preset.tile.multiple`.
            noise: ε ~ N(0, I), B×16×H/8×W/8 (`latent_shape`).
            matches: maps of self-similarity of the whole picture, cut to this tile, B×C×H/8×W/8, for presets whose
                early view has them (`model.self_match`); None: nothing matches.
            prompts: embeddings of a prompt for each sample; None: the network's own for all.
        """
        size = (x.shape[-2], x.shape[-1])
        view = None
        if self.view is not None and any(network.sees_view for network in self.networks.values()):
            view = self.view(x, matches)
        features = {
            name: network(x, noise, view)
            if prompts is None or not network.takes_prompts
            else network(x, noise, view, prompts)
            for name, network in self.networks.items()
        }
        stride = self.preset.head.stride
        fused = self.fusion(features, (size[0] // stride, size[1] // stride))
        logits: Tensor = self.localization(fused, size)
        return logits

    @property
    def kept_as_adapters(self) -> bool:
        """Whether a checkpoint of it holds what was learned on a registered base, and nothing of that base."""
        return self.base is not None and "full" not in map(self.preset.adapt, self.preset.backbones)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the noise for an input of height × width pixels."""
        return noise_shape(self.preset, height, width)


def build(preset: Preset, device: str = "cpu", branches: str = "both") -> CLUE:
    """A CLUE of the preset's sizes with random weights, on `device` (`meta` allocates nothing)."""
    with torch.device(device):
        return CLUE(preset, branches)


def place_constants(model: CLUE, device: str) -> None:
    """Give a network from the meta device the constants that are computed and not saved.

    Raises:
        RuntimeError: something else is still without values: a defect.
    """
    for network in model.networks.values():
        network.place_constants(device)
    if model.view is not None:
        model.view.place_constants(device)
    empty = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        raise RuntimeError(f"{empty[0]} has no values ({len(empty)} in all)")


def adapt(model: CLUE, how: Adapt | Mapping[str, Adapt] | None = None) -> None:
    """Freeze what does not learn, and add adapters, in place.

    Fusion, localization and the early view always learn.

    Args:
        model: without adapters.
        how: one for all branches, or by branch; None: as the preset says.
    """
    for name, network in model.networks.items():
        mode = model.preset.adapt(name) if how is None else how if isinstance(how, str) else how[name]
        if mode in ("lora", "svd"):
            spec = model.preset.lora if mode == "lora" else model.preset.svd
            network.add_adapters(spec, BRANCHES[name].lora_targets(model.preset))
        elif mode == "frozen":
            freeze(network)


def projection(inputs: int, spec: HeadSpec) -> nn.Sequential:
    """1×1 convolution and GroupNorm: B×inputs×h×w → B×channels×h×w."""
    return nn.Sequential(nn.Conv2d(inputs, spec.channels, 1), nn.GroupNorm(spec.groups, spec.channels))


class FeatureFusion(nn.Module):
    """Feature Fusion Module: feature maps of the branches → fused map, B×channels×H/stride×W/stride.

    A projection with GroupNorm for each branch, then conv → GroupNorm → SiLU → conv on all of them.

    Args:
        spec: widths.
        inputs: channels of each branch's feature map, by its name.
    """

    def __init__(self, spec: HeadSpec, inputs: Mapping[str, int]) -> None:
        super().__init__()
        if not inputs:
            raise ValueError("at least one branch is needed")
        for name, channels in inputs.items():
            self.add_module(name, projection(channels, spec))
        width = spec.channels * len(inputs)
        self.mix = nn.Sequential(
            nn.Conv2d(width, spec.channels, 3, padding=1),
            nn.GroupNorm(spec.groups, spec.channels),
            nn.SiLU(),
            nn.Conv2d(spec.channels, spec.channels, 3, padding=1),
        )

    def forward(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps of any stride, brought to `size` cells (rows, columns) by bilinear interpolation."""
        projected = [_to_size(self._project(name, found), size) for name, found in features.items()]
        fused: Tensor = self.mix(torch.cat(projected, 1))
        return fused

    def _project(self, name: str, found: Tensor) -> Tensor:
        narrow, norm = cast(nn.Sequential, self.get_submodule(name))
        projected: Tensor = norm(pointwise(cast(nn.Conv2d, narrow), found))
        return projected


def _to_size(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


class Localization(nn.Module):
    """Localization Module: fused map B×C×h×w → logits B×1×H×W, float32; sigmoid(logits) is the mask probability M.

    Conv → ReLU → conv to one channel, then bilinear to the size of the image (equation 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1), nn.ReLU(), nn.Conv2d(channels // 2, 1, 1)
        )

    def forward(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        """`size` is (H, W) of the image in pixels, a fixed multiple of the fused map's."""
        return F.interpolate(self.head(fused).float(), size=size, mode="bilinear", align_corners=False)
