"""CLUE: Capture Latent Uncovered Evidence (arXiv 2508.07413). The paper's forward pass on one page.

x ─┬─ VAE encoder ── z0 ── rectified-flow noise, several levels ── MM-DiT + LoRA ── F_sd3 ─┐
   │                                                                                       ├─ fusion ── head ── M
   └─ SAM image encoder + LoRA on q, k, v ──────────────────────────────────────── F_sam ──┘
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model import lora
from model.forensic_view import ForensicView
from model.fusion import FeatureFusion
from model.localization import Localization
from model.presets.spec import Adapt, Preset
from model.registry import Base
from model.sam_branch import SamBranch
from model.sd3_branch import SD3Branch


class CLUE(nn.Module):
    """Image and noise → logits of the mask.

    Args:
        preset: the sizes of everything.
        branches: `both`, or one of them alone for the ablation.
    """

    def __init__(self, preset: Preset, branches: str = "both") -> None:
        super().__init__()
        self.preset, self.branches = preset, branches
        self.base: Base | None = None  # whose weights it stands on; set by `model.bases.with_bases`
        self.view = ForensicView(preset.view) if preset.view.channels else None
        self.sd3 = SD3Branch(preset.vae, preset.transformer, preset.noise) if branches in ("both", "sd3") else None
        in_chans = preset.view.channels if preset.sam.input == "view" else 3
        self.sam = SamBranch(preset.sam, in_chans) if branches in ("both", "sam") else None
        self.fusion = FeatureFusion(
            preset.head, self.sd3.channels if self.sd3 else None, self.sam.channels if self.sam else None
        )
        self.localization = Localization(preset.head.channels)

    def forward(self, x: Tensor, noise: Tensor, matches: Tensor | None = None) -> Tensor:
        """Logits of the mask, B×1×H×W float32; sigmoid gives M.

        Args:
            x: B×3×H×W in [0, 1], float32 whatever the network's dtype: eight bits of grey need more than bfloat16
                has. H and W are multiples of `preset.tile.multiple`.
            noise: ε ~ N(0, I), B×16×H/8×W/8 (`latent_shape`).
            matches: maps of self-similarity of the whole picture, cut to this tile, B×C×H/8×W/8, for presets whose
                early view has them (`model.self_match`); None: nothing matches.
        """
        size = (x.shape[-2], x.shape[-1])
        f_sd3 = self.sd3(x, noise) if self.sd3 is not None else None
        f_sam = None
        if self.sam is not None:
            f_sam = self.sam(self.view(x, matches) if self.view is not None else x)
        stride = self.preset.head.stride
        fused = self.fusion(f_sd3, f_sam, (size[0] // stride, size[1] // stride))
        logits: Tensor = self.localization(fused, size)
        return logits

    @property
    def kept_as_adapters(self) -> bool:
        """Whether a checkpoint of it holds what was learned on a registered base, and nothing of that base."""
        return self.base is not None and "full" not in (self.preset.adapt_sd3, self.preset.adapt_sam)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the noise for an input of height × width pixels."""
        stride = self.preset.vae.stride
        return self.preset.vae.latent_channels, height // stride, width // stride


def build(preset: Preset, device: str = "cpu", branches: str = "both") -> CLUE:
    """A CLUE of the preset's sizes with random weights, on `device` (`meta` allocates nothing)."""
    with torch.device(device):
        return CLUE(preset, branches)


def place_constants(model: CLUE, device: str) -> None:
    """Give a network from the meta device the constants that are computed and not saved.

    Raises:
        RuntimeError: something else is still without values: a defect.
    """
    if model.sam is not None:
        model.sam.place_constants(device)
    if model.view is not None:
        model.view.place_constants(device)
    empty = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        raise RuntimeError(f"{empty[0]} has no values ({len(empty)} in all)")


def adapt(model: CLUE, sd3: Adapt, sam: Adapt) -> None:
    """Say what learns, in place. Fusion, localization and the early view always do; the VAE only in `full`."""
    if model.sd3 is not None:
        if sd3 == "lora":
            lora.freeze(model.sd3)
            lora.adapt_sd3(model.sd3.transformer, model.preset.lora)
        elif sd3 == "frozen":
            lora.freeze(model.sd3)
    if model.sam is not None:
        if sam == "lora":
            lora.adapt_sam(model.sam.encoder, model.preset.lora)
        elif sam == "frozen":
            lora.freeze(model.sam)
