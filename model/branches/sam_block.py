"""SAM's block: its attention without the score matrix, and its form in inference, in the order of the windows.

segment_anything cuts the cells into windows before each attention and puts them back behind it: two copies a block,
four where a window juts out. Here the cells lie in the order of the windows from the first block to the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.branches.inference import constant, linear, plain, product
from model.branches.submodule import submodule

if TYPE_CHECKING:
    from segment_anything.modeling.common import LayerNorm2d
    from segment_anything.modeling.image_encoder import Attention, Block, ImageEncoderViT, get_rel_pos
else:
    _STOCK = submodule("segment_anything.modeling.image_encoder")
    Attention, Block, get_rel_pos = _STOCK.Attention, _STOCK.Block, _STOCK.get_rel_pos

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


OF_PAIRS = 64
"""Cells up to which a table has the sum of both distances of each pair: the bias is one batched product then."""


class Layout(NamedTuple):
    """Where the cells of a picture lie while the blocks run; indexes are int64.

    Attributes:
        height, width: cells of the picture.
        window: side of a window; 0: there are none, and the cells lie row by row.
        cells: in all windows, those beyond the picture too.
        order: the cell's number, counted row by row, at each place; None: they are the same.
        rank: the opposite of `order`: the place of each cell.
        inside: the place of each cell among those of all windows; None: no window juts out.
    """

    height: int
    width: int
    window: int
    cells: int
    order: Tensor | None
    rank: Tensor | None
    inside: Tensor | None


def layout(height: int, width: int, window: int, device: torch.device) -> Layout:
    """The layout of height × width cells in windows of this side."""
    if not window:
        return Layout(height, width, 0, height * width, None, None, None)
    rows, columns = -(-height // window), -(-width // window)
    cells = rows * columns * window**2
    whole = torch.full((rows * window, columns * window), -1, device=device)
    whole[:height, :width] = torch.arange(height * width, device=device).reshape(height, width)
    placed = whole.reshape(rows, window, columns, window).transpose(1, 2).flatten()
    inside = (placed >= 0).nonzero()[:, 0]
    order = placed[inside]
    return Layout(height, width, window, cells, order, order.argsort(), inside if cells > height * width else None)


class SamBlock(Block):  # type: ignore[misc]
    """The block with a second way to compute its output, on cells in a layout; names and weights are the same."""

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """x: B×H×W×C as in segment_anything; in a layout, B×H·W×C."""
        if layout is None:
            cells: Tensor = super().forward(x)
            return cells
        normed = self.norm1(x)
        if self.window_size and layout.inside is not None:
            mixed = self._in_padded_windows(normed, layout)
        elif self.window_size:
            side = self.window_size
            qkv = linear(self.attn.qkv, normed).reshape(-1, side * side, 3 * x.shape[-1])
            mixed = attended(self.attn, qkv, side, side).reshape(x.shape)
        else:
            row_by_row = normed if layout.rank is None else normed.index_select(1, layout.rank)
            mixed = attended(self.attn, linear(self.attn.qkv, row_by_row), layout.height, layout.width)
            mixed = mixed if layout.order is None else mixed.index_select(1, layout.order)
        x = linear(self.attn.proj, mixed).add_(x)
        inner = linear(self.mlp.lin1, self.norm2(x), "none")
        return linear(self.mlp.lin2, inner).add_(x)

    def _in_padded_windows(self, normed: Tensor, layout: Layout) -> Tensor:
        """Cells beyond the picture are zeros before q, k and v: keys and values are the bias there."""
        batch, side, layer = len(normed), self.window_size, self.attn.qkv
        assert layout.inside is not None
        beyond = layer.bias if plain(layer) else layer(normed.new_zeros(1, normed.shape[-1]))[0]
        whole = beyond.repeat(batch, layout.cells, 1)
        whole.index_copy_(1, layout.inside, linear(layer, normed))
        mixed = attended(self.attn, whole.reshape(-1, side * side, whole.shape[-1]), side, side)
        return mixed.reshape(batch, layout.cells, -1).index_select(1, layout.inside)


def attended(attn: SamAttention | Attention, qkv: Tensor, height: int, width: int) -> Tensor:
    """B×H·W×3C → B×H·W×C, by the attention's relative positions, without its projections."""
    heads, scale = attn.num_heads, attn.scale
    q, k, v = qkv.view(*qkv.shape[:-1], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if not isinstance(attn, SamAttention) and not attn.use_rel_pos:
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2)

    of = distances if isinstance(attn, SamAttention) else _stock_distances
    # A table for each side, not for each size: of a photo of every size, one for each of those would fill the memory.
    of_rows = constant(attn, ("rows", height), (attn.rel_pos_h,), lambda: of(attn.rel_pos_h, height))
    of_columns = constant(attn, ("columns", width), (attn.rel_pos_w,), lambda: of(attn.rel_pos_w, width))
    if height * width <= OF_PAIRS:

        def pairs() -> Tensor:
            both = of_rows[:, None, :, None] + of_columns[None, :, None, :]  # height×width×height×width×d
            return both.flatten(2, 3).flatten(0, 1).transpose(1, 2).contiguous()

        table = constant(attn, (height, width), (attn.rel_pos_h, attn.rel_pos_w), pairs)
        by_cell = q.permute(2, 0, 1, 3)
        bias = torch.bmm(by_cell.flatten(1, 2), table).view(*by_cell.shape[:3], -1).permute(1, 2, 0, 3)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale).transpose(1, 2).flatten(2)
    grid = q.reshape(*q.shape[:2], height, width, -1)
    rows = torch.einsum("bnhwc,hkc->bnhwk", grid, of_rows)
    columns = torch.einsum("bnhwc,wkc->bnhwk", grid, of_columns)
    attend = _written_out if height * width <= WRITTEN_OUT else _widened
    return attend(q, k, v, rows, columns, scale).transpose(1, 2).flatten(2)


def _stock_distances(table: Tensor, length: int) -> Tensor:
    found: Tensor = get_rel_pos(length, length, table)
    return found


def encode_in_windows(encoder: ImageEncoderViT, cells: Tensor) -> Tensor:
    """Blocks and neck in inference: B×H×W×C → B×out_chans×H×W."""
    _, height, width, _ = cells.shape
    window = max(block.window_size for block in encoder.blocks)
    place = constant(encoder, (height, width, cells.device), (), lambda: layout(height, width, window, cells.device))
    x = cells.flatten(1, 2)
    if place.order is not None:
        x = x.index_select(1, place.order)
    for block in encoder.blocks:
        x = block(x, place)
    narrow, first, spread, second = encoder.neck
    x = _normed(first, product(narrow, (narrow.weight,), x, narrow.weight.flatten(1), None))
    if place.rank is not None:
        x = x.index_select(1, place.rank)
    x = spread(x.view(len(x), height, width, -1).permute(0, 3, 1, 2))
    return _normed(second, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _normed(norm: LayerNorm2d, x: Tensor) -> Tensor:
    """segment_anything's LayerNorm2d with the channels last."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
