"""Triton kernels of the VAE's encoder: what lies between two convolutions, in channels-last, with float32 sums.

A map of N bytes is read once for its statistics, and read and written once to be normalized; torch's own GroupNorm
copies it to channels-first on a GPU, and bias, SiLU and the sum of a residual block read and write it again each.

Nothing depends on the size of the batch: a sample's result is that of the sample alone. Importing this needs Triton;
`vae_encoder` asks whether a device runs them. With TRITON_INTERPRET=1 they run on the CPU.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNKS = 128
"""Parts of a sample whose statistics are computed apart, at most."""
ELEMENTS = 8192
"""Values that a program holds at a time."""


@triton.jit
def _moments(x, found, rows, per, channels: tl.constexpr, C: tl.constexpr, R: tl.constexpr):
    """Mean of each channel over `per` rows, and the sum of squared deviations from it: found, B×chunks×2×channels.

    Tiles are joined as Chan et al. (1979) do, so that a mean far from zero costs no digits.
    """
    chunk, sample = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, C)
    base = x + sample.to(tl.int64) * rows * channels
    end = tl.minimum(rows, (chunk + 1) * per)
    mean = tl.zeros((C,), tl.float32)
    squares = tl.zeros((C,), tl.float32)
    for first in range(chunk * per, end, R):
        r = first + tl.arange(0, R)
        inside = (r < end)[:, None] & (c < channels)[None, :]
        value = tl.load(base + r.to(tl.int64)[:, None] * channels + c[None, :], inside, 0.0).to(tl.float32)
        here = tl.minimum(R, end - first).to(tl.float32)
        middle = tl.sum(value, 0) / here
        apart = tl.where(inside, value - middle[None, :], 0.0)
        shift = middle - mean
        count = (first - chunk * per).to(tl.float32)
        total = count + here
        mean += shift * (here / total)
        squares += tl.sum(apart * apart, 0) + shift * shift * (count * here / total)
    place = found + (sample.to(tl.int64) * tl.num_programs(0) + chunk) * 2 * channels + c
    tl.store(place, mean, c < channels)
    tl.store(place + channels, squares, c < channels)


@triton.jit
def _affine(
    found, bias, weight, offset, made, rows, per, chunks, eps, channels: tl.constexpr, G: tl.constexpr, K: tl.constexpr
):
    """The norm of one group of one sample as y = x·scale + shift: made, B×2×channels. `bias` is added to x before."""
    group, sample = tl.program_id(0), tl.program_id(1)
    size = channels // tl.num_programs(0)
    g, k = tl.arange(0, G), tl.arange(0, K)
    c = group * size + g
    inside = (k < chunks)[:, None] & (g < size)[None, :]
    place = found + (sample.to(tl.int64) * chunks + k)[:, None] * 2 * channels + c[None, :]
    added = tl.load(bias + c, g < size, 0.0).to(tl.float32)
    means = tl.load(place, inside, 0.0) + added[None, :]
    count = tl.where(inside, tl.minimum(per, rows - k * per).to(tl.float32)[:, None], 0.0)
    total = tl.sum(count)
    mean = tl.sum(means * count) / total
    apart = means - mean
    variance = tl.sum(tl.load(place + channels, inside, 0.0) + apart * apart * count) / total
    scale = tl.load(weight + c, g < size, 0.0).to(tl.float32) / tl.sqrt(variance + eps)
    shift = tl.load(offset + c, g < size, 0.0).to(tl.float32) + (added - mean) * scale
    tl.store(made + sample * 2 * channels + c, scale, g < size)
    tl.store(made + (sample * 2 + 1) * channels + c, shift, g < size)


@triton.jit
def _normalize(x, made, out, rows, channels: tl.constexpr, SILU: tl.constexpr, C: tl.constexpr, R: tl.constexpr):
    sample = tl.program_id(1)
    c = tl.arange(0, C)
    r = tl.program_id(0) * R + tl.arange(0, R)
    inside = (r < rows)[:, None] & (c < channels)[None, :]
    place = sample.to(tl.int64) * rows * channels + r.to(tl.int64)[:, None] * channels + c[None, :]
    scale = tl.load(made + sample * 2 * channels + c, c < channels, 0.0)
    shift = tl.load(made + (sample * 2 + 1) * channels + c, c < channels, 0.0)
    value = tl.load(x + place, inside, 0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(out + place, value.to(out.dtype.element_ty), inside)


@triton.jit
def _add(x, y, bias, out, rows, width, channels: tl.constexpr, PADDED: tl.constexpr, C: tl.constexpr, R: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, C)
    r = tl.program_id(0) * R + tl.arange(0, R)
    inside = (r < rows)[:, None] & (c < channels)[None, :]
    place = sample * rows * channels + r.to(tl.int64)[:, None] * channels + c[None, :]
    value = tl.load(x + place, inside, 0.0).to(tl.float32) + tl.load(y + place, inside, 0.0).to(tl.float32)
    value += tl.load(bias + c, c < channels, 0.0).to(tl.float32)[None, :]
    if PADDED:
        there = sample * (rows // width + 1) * (width + 1) + r + r // width
        place = there.to(tl.int64)[:, None] * channels + c[None, :]
    tl.store(out + place, value.to(out.dtype.element_ty), inside)


def norm(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    groups: int,
    eps: float,
    bias: Tensor | None = None,
    *,
    silu: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """GroupNorm of x + bias, and SiLU of it.

    Args:
        x: B×C×H×W, channels-last.
        weight, offset: of the norm, C.
        groups: of channels; each has the same size.
        eps: of the norm.
        bias: C, such as that of the convolution which made x; None: 0.
        silu: without it the norm alone.
        out: where the result goes, such as x itself; None: new memory.

    Returns:
        B×C×H×W, channels-last, in the number format of x.
    """
    batch, channels, height, width = x.shape
    rows, (c, r) = height * width, _tile(channels)
    per = r * triton.cdiv(rows, r * CHUNKS)
    chunks = triton.cdiv(rows, per)
    found = torch.empty(batch, chunks, 2, channels, dtype=torch.float32, device=x.device)
    made = torch.empty(batch, 2, channels, dtype=torch.float32, device=x.device)
    bias = torch.zeros_like(offset) if bias is None else bias
    out = torch.empty_like(x) if out is None else out
    _moments[chunks, batch](x, found, rows, per, channels, c, r, num_warps=8)
    sizes = triton.next_power_of_2(channels // groups), triton.next_power_of_2(chunks)
    _affine[groups, batch](found, bias, weight, offset, made, rows, per, chunks, eps, channels, *sizes)
    _normalize[triton.cdiv(rows, r), batch](x, made, out, rows, channels, silu, c, r, num_warps=8)
    return out


def add(x: Tensor, y: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """x + y + bias.

    Args:
        x, y: B×C×H×W, channels-last, of one number format.
        bias: C.
        out: x itself, or B×C×(H+1)×(W+1), whose last row and column are left as they are.

    Returns:
        out.
    """
    batch, channels, height, width = x.shape
    rows, padded, (c, r) = height * width, out.shape != x.shape, _tile(channels)
    _add[triton.cdiv(rows, r), batch](x, y, bias, out, rows, width, channels, padded, c, r, num_warps=8)
    return out


def _tile(channels: int) -> tuple[int, int]:
    """Channels and rows that a program holds at a time, both powers of two."""
    c = triton.next_power_of_2(channels)
    return c, max(1, ELEMENTS // c)
