"""The spatial-semantic branch: segment_anything's image encoder, on the pixels or on the early forensic view."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model import tensor_files
from model.branches.inference import inferring, product
from model.branches.network import BranchNetwork, Files, FusedQKV
from model.branches.sam_block import SamAttention, SamBlock, encode_in_windows
from model.branches.submodule import submodule
from model.preset import LoraSpec, Preset, SamSpec, SvdSpec
from model.registry import Base, BasesError

if TYPE_CHECKING:
    from segment_anything.modeling.image_encoder import ImageEncoderViT

PREFIX = "image_encoder."
"""What segment_anything puts before the names of the encoder's tensors."""
UNUSED = ("prompt_encoder.", "mask_decoder.", "pixel_mean", "pixel_std")
_NAMES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
"""segment_anything's encoders by the width of their tokens."""

# segment_anything's build_sam.py, on the 0–255 scale there
PIXEL_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
PIXEL_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


def build_encoder(spec: SamSpec, in_chans: int) -> ImageEncoderViT:
    """ImageEncoderViT as segment_anything's builders make it, at the size of the spec.

    On pixels it has `SamAttention`; the small windows on the early view stay as they are.
    """
    made = submodule("segment_anything.modeling.image_encoder").ImageEncoderViT
    encoder: ImageEncoderViT = made(
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
    for block in encoder.blocks:
        block.__class__ = SamBlock  # the same parts and names
    if spec.input == "pixels":
        replace_attention(encoder)
    return encoder


class SamNetwork(BranchNetwork):
    """B×C×H×W → F_sam, B×out_chans×H/patch×W/patch."""

    adapted = "encoder"
    mean: Tensor
    std: Tensor

    def __init__(self, spec: SamSpec, in_chans: int = 3) -> None:
        super().__init__()
        self.spec, self.sees_view = spec, spec.input == "view"
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

    def forward(self, x: Tensor, noise: Tensor | None = None, view: Tensor | None = None) -> Tensor:
        """x: the image, B×3×H×W in [0, 1]; view: the early view, which the encoder sees instead if its spec says so.

        With absolute positions the encoder knows nothing beyond its own size. A smaller picture has the positions of
        the upper left corner, where SAM's own preprocessing puts it, and costs what its own size costs.

        Raises:
            ValueError: the input is larger than the encoder's img_size and it has absolute positions.
        """
        if view is not None and self.sees_view:
            x = view
        else:
            x = ((x - self.mean) / self.std).to(self.encoder.patch_embed.proj.weight.dtype)
        height, width = x.shape[-2:]
        if self.spec.use_abs_pos and max(height, width) > self.spec.img_size:
            raise ValueError(f"{width}×{height} is larger than this encoder's {self.spec.img_size}²")
        return encode(self.encoder, x)

    def blocks(self) -> list[nn.Module]:
        """The encoder's blocks."""
        return list(self.encoder.blocks)

    def add_adapters(self, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool = False) -> None:
        """q, k and v get adapters of their own: the fused projection is split for as long as there are any."""
        for block in self.encoder.blocks:
            block.attn.qkv = FusedQKV(block.attn.qkv)
        super().add_adapters(spec, targets, empty=empty)

    def examine(
        self, preset: Preset, places: Mapping[str, Path], known: Collection[Preset] = ()
    ) -> tuple[Files, list[str]]:
        """`sam`: a checkpoint of segment_anything's, .pth or safetensors."""
        path = places["sam"]
        shapes = {name: list(t.shape) for name, t in tensor_files.pickled_tensors(path, "meta", None)}
        if not any(name.startswith(PREFIX) for name in shapes):
            example = next(iter(shapes), "nothing")
            raise BasesError(
                f"{path} is not a checkpoint of SAM as segment_anything writes it: no tensor begins with {PREFIX} "
                f"(there is {example[:80]!r})"
            )
        width = shapes.get(f"{PREFIX}patch_embed.proj.weight", [0])[0]
        if width != self.spec.embed_dim and width in _NAMES:
            fitting = [other.name for other in known if other.sam.embed_dim == width]
            wanted = _NAMES.get(self.spec.embed_dim, f"an encoder of width {self.spec.embed_dim}")
            raise BasesError(
                f"{path} is SAM {_NAMES[width]}, and {preset.name} has {wanted}"
                + (f"; with {_NAMES[width]} there is {' or '.join(fitting)}" if fitting else "")
            )
        ours = {name.removeprefix(PREFIX): shape for name, shape in shapes.items() if not name.startswith(UNUSED)}
        return {"sam": (path,)}, tensor_files.differences("sam", ours, self.encoder)

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        """The encoder; prompt encoder and mask decoder stay in the file."""
        tensors = tensor_files.pickled_tensors(base.paths("sam")[0], device, dtype)
        tensor_files.fill(
            self.encoder, "sam", ((n.removeprefix(PREFIX), t) for n, t in tensors if n.startswith(PREFIX))
        )


def replace_attention(encoder: ImageEncoderViT) -> None:
    """Give every block this attention, in place; names and weights stay."""
    for block in encoder.blocks:
        block.attn = SamAttention(block.attn)


def encode(encoder: ImageEncoderViT, x: Tensor) -> Tensor:
    """The encoder's forward with its absolute positions cropped: B×3×H×W → B×out_chans×H/patch×W/patch."""
    projection = encoder.patch_embed.proj
    fused = inferring(encoder, x) and all(isinstance(block, SamBlock) for block in encoder.blocks)
    if fused and projection.kernel_size == (1, 1):
        weight = projection.weight
        cells = product(projection, (weight,), x.permute(0, 2, 3, 1), weight.flatten(1), projection.bias)
    else:
        cells = encoder.patch_embed(x)  # B×h×w×C
    if encoder.pos_embed is not None:
        cells = cells + encoder.pos_embed[:, : cells.shape[1], : cells.shape[2]]
    if fused:
        return encode_in_windows(encoder, cells)
    for block in encoder.blocks:
        cells = block(cells)
    features: Tensor = encoder.neck(cells.permute(0, 3, 1, 2))
    return features
