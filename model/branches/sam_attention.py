"""SAM's attention without its score matrix, and its positions cropped to the size of the picture.

segment_anything's Attention writes out softmax(q·kᵀ/√d + Rh + Rw) for all pairs of cells: at 1024² sixteen times
4096×4096 numbers in each of the four global blocks. Here torch's scaled_dot_product_attention computes the same.

The decomposed relative positions are a sum of two scalar products: of q with the embedding of the vertical distance,
and of q with that of the horizontal one. So they are columns: q is widened by its products with all rows and all
columns, k by the one-hot row and column it stands in, and the wider scalar product is the biased score. Nothing of
N×N is ever written. Inside the windows, which are small, the bias is written out as a mask: cheaper there.

A picture smaller than the encoder's own size sees the positions of the upper left corner, where SAM's preprocessing
would put it, at its own cost; the distances between its cells are what they would be on the whole square.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT
from torch import Tensor, nn

WRITTEN_OUT = 1024
"""Cells up to which the bias is a mask: below, the widening costs more than the mask holds."""


class SamAttention(nn.Module):
    """The attention of one block: its weights are those of segment_anything's, under the same names."""

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


def stock_attention(fast: SamAttention) -> Attention:
    """segment_anything's own attention around the same weights: what ours is measured against."""
    width = fast.proj.in_features
    with torch.device("meta"):
        stock = Attention(width, fast.num_heads, use_rel_pos=True, input_size=(1, 1))
    stock.qkv, stock.proj = fast.qkv, fast.proj
    stock.rel_pos_h, stock.rel_pos_w = fast.rel_pos_h, fast.rel_pos_w
    return stock


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


def restore_attention(model: nn.Module) -> None:
    """Give every block of SAM in a model segment_anything's own attention again, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, SamAttention):
            model.set_submodule(name, stock_attention(module))


def encode(encoder: ImageEncoderViT, x: Tensor) -> Tensor:
    """The encoder's forward with its absolute positions cropped: B×3×H×W → B×out_chans×H/patch×W/patch."""
    cells: Tensor = encoder.patch_embed(x)  # B×h×w×C
    if encoder.pos_embed is not None:
        cells = cells + encoder.pos_embed[:, : cells.shape[1], : cells.shape[2]]
    for block in encoder.blocks:
        cells = block(cells)
    features: Tensor = encoder.neck(cells.permute(0, 3, 1, 2))
    return features
