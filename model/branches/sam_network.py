"""The spatial-semantic branch: segment_anything's image encoder, on the pixels or on the early forensic view."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import tensor_files
from model.branches.network import BranchNetwork, Files, FusedQKV
from model.branches.submodule import submodule
from model.preset import LoraSpec, Preset, SamSpec, SvdSpec
from model.registry import Base, BasesError

if TYPE_CHECKING:
    from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT

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


WRITTEN_OUT = 1024
"""Cells up to which the bias is a mask: below, the widening costs more than the mask holds."""


class SamAttention(nn.Module):
    """The attention of one block without its score matrix; the weights are segment_anything's, under the same names.

    segment_anything's Attention writes out softmax(q·kᵀ/√d + Rh + Rw) for all pairs of cells: at 1024² sixteen times
    4096×4096 numbers in each of the four global blocks. Here torch's scaled_dot_product_attention computes the same.

    The decomposed relative positions are a sum of two scalar products: of q with the embedding of the vertical
    distance, and of q with that of the horizontal one. So they are columns: q is widened by its products with all rows
    and all columns, k by the one-hot row and column it stands in, and the wider scalar product is the biased score.
    Nothing of N×N is ever written. Inside the windows, which are small, the bias is written out as a mask: cheaper.
    """

    def __init__(self, stock: Attention) -> None:
        super().__init__()
        self.num_heads, self.scale = stock.num_heads, stock.scale
        self.qkv, self.proj = stock.qkv, stock.proj
        self.rel_pos_h, self.rel_pos_w = stock.rel_pos_h, stock.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """x: B×H×W×C → B×H×W×C."""
        batch, height, width, channels = x.shape
        heads = self.num_heads
        # q, k, v: B×heads×H·W×d
        qkv = self.qkv(x).reshape(batch, height * width, 3, heads, channels // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # q·Rh and q·Rw: B×heads×H×W×H, and ×W; not scaled, as in segment_anything
        grid = q.reshape(batch, heads, height, width, -1)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, distances(self.rel_pos_h, height))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, distances(self.rel_pos_w, width))
        attend = _written_out if height * width <= WRITTEN_OUT else _widened
        attended = attend(q, k, v, rows, columns, self.scale)
        joined: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, height, width, channels))
        return joined


def distances(table: Tensor, length: int) -> Tensor:
    """Embeddings of the distance between each two of `length` cells, length×length×d.

    Args:
        table: (2·size - 1)×d, the distances from 1 - size to size - 1. More cells than `size` get it interpolated, as
            in segment_anything.
        length: cells along this axis.
    """
    size = (table.shape[0] + 1) // 2
    if length > size:
        stretched = F.interpolate(table.T[None].float(), size=2 * length - 1, mode="linear")[0].T
        table, size = stretched.to(table.dtype), length
    cells = torch.arange(length, device=table.device)
    return table[cells[:, None] - cells[None, :] + size - 1]


def _written_out(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    bias = (rows[..., :, None] + columns[..., None, :]).reshape(*q.shape[:3], -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def _widened(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    count, depth = q.shape[2], q.shape[3]
    height, width = rows.shape[-1], columns.shape[-1]
    padding = -(depth + height + width) % 8  # the fused kernels want multiples of eight
    wide_q = torch.cat([q * scale, rows.flatten(2, 3), columns.flatten(2, 3), q.new_zeros(*q.shape[:3], padding)], -1)
    cells = torch.arange(count, device=q.device)
    one_hot = torch.cat([F.one_hot(cells // width, height), F.one_hot(cells % width, width + padding)], -1).to(q.dtype)
    wide_k = torch.cat([k, one_hot.expand(*k.shape[:2], -1, -1)], -1)
    wide_v = F.pad(v, (0, wide_k.shape[-1] - depth))  # flash attention wants one width for all three
    return F.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=1.0)[..., :depth]


def replace_attention(encoder: ImageEncoderViT) -> None:
    """Give every block this attention, in place; names and weights stay."""
    for block in encoder.blocks:
        block.attn = SamAttention(block.attn)


def encode(encoder: ImageEncoderViT, x: Tensor) -> Tensor:
    """The encoder's forward with its absolute positions cropped: B×3×H×W → B×out_chans×H/patch×W/patch."""
    cells: Tensor = encoder.patch_embed(x)  # B×h×w×C
    if encoder.pos_embed is not None:
        cells = cells + encoder.pos_embed[:, : cells.shape[1], : cells.shape[2]]
    for block in encoder.blocks:
        cells = block(cells)
    features: Tensor = encoder.neck(cells.permute(0, 3, 1, 2))
    return features
