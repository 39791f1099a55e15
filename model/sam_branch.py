"""The spatial-semantic branch: segment_anything's image encoder, on the pixels or on the early forensic view."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling.image_encoder import ImageEncoderViT
from torch import Tensor, nn

from model.presets.spec import SamSpec
from model.sam_attention import encode, replace_attention

# segment_anything's build_sam.py, on the 0–255 scale there
PIXEL_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
PIXEL_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


def build_encoder(spec: SamSpec, in_chans: int) -> ImageEncoderViT:
    """ImageEncoderViT as segment_anything's builders make it, at the size of the spec.

    On pixels it has `model.sam_attention`; the small windows on the early view stay as they are.
    """
    encoder = ImageEncoderViT(
        img_size=spec.img_size,
        patch_size=spec.patch_size,
        in_chans=in_chans,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.num_heads,
        mlp_ratio=4.0,
        out_chans=spec.out_chans,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_abs_pos=spec.use_abs_pos,
        use_rel_pos=True,
        window_size=spec.window_size,
        global_attn_indexes=spec.global_attn_indexes,
    )
    if spec.input == "pixels":
        replace_attention(encoder)
    return encoder


class SamBranch(nn.Module):
    """B×C×H×W → F_sam, B×out_chans×H/patch×W/patch."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SamSpec, in_chans: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = build_encoder(spec, in_chans)
        self.place_constants()

    def place_constants(self, device: str | None = None) -> None:
        """Compute what is not saved; again where the branch was built on the meta device."""
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN, device=device).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD, device=device).reshape(1, 3, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """Channels of F_sam."""
        return self.spec.out_chans

    def forward(self, x: Tensor) -> Tensor:
        """x: the image in [0, 1], or the early view, as the spec says.

        With absolute positions the encoder knows nothing beyond its own size. A smaller picture has the positions of
        the upper left corner, where SAM's own preprocessing puts it, and costs what its own size costs.

        Raises:
            ValueError: the input is larger than the encoder's img_size and it has absolute positions.
        """
        if self.spec.input == "pixels":
            x = ((x - self.mean) / self.std).to(self.encoder.patch_embed.proj.weight.dtype)
        height, width = x.shape[-2:]
        if self.spec.use_abs_pos and max(height, width) > self.spec.img_size:
            raise ValueError(f"{width}×{height} is larger than this encoder's {self.spec.img_size}²")
        return encode(self.encoder, x)
