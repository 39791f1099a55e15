"""The encoder of SD3's autoencoder (diffusers' AutoencoderKL): same parameters, names and results.

Where nothing learns, sums are written in place, maps are freed as soon as the next one is made, and on a GPU what lies
between two convolutions is Triton's (`vae_kernels`). Where something learns, or torch.compile or the
export to ONNX traces it, it is the same in PyTorch's own operations; Inductor joins them by itself.

On paper, `sd3-medium`, one tile of 1024² (a batch of four takes four times that), bfloat16, H100: 3.35 TB/s, and 450 to
600 TFLOP/s in convolutions, where a plain matrix product reaches 780. A map is one activation. Between the convolutions
of a residual block lie 8 maps of memory traffic here (statistics twice 1, norm with SiLU twice 2, sum 2) and 27 in
diffusers, where GroupNorm's copies to channels-first and back, bias, SiLU, sum and a division by 1 are passes:

    level, residual blocks        map MB   TFLOP   convolutions ms   between ms: here   diffusers
    1024², 128 channels, 2           268    1.31        2.2 to 2.9                1.3         4.3
    512², 256, 2                     134    1.18        2.0 to 2.6                 .6         2.2
    256², 512, 2                      67    1.18        2.0 to 2.6                 .3         1.1
    128², 512, 4, and conv_out        17     .62        1.0 to 1.4                 .2          .5
    attention at 128²                 17     .58                                  2.5     5 to 11
    sum                                     4.88        7.2 to 9.5                 5     13 to 19

12 to 15 ms a tile are expected. Of the 56 that diffusers' forward was measured to take (batch 4) this explains 20 to
29; the rest only a profile can tell. At most three maps are in memory at a time, 3.2 GB at batch 4. Strips with halos
would read each map once more for the statistics and save memory only above 4096² pixels (13 GB); tiles are not that
large. None of it has run on a card. The kernels are tested with Triton's interpreter, and compile for sm_80 and sm_90
to loads of 128 bits without spilled registers.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.branches.inference import captured_as_graph, pointwise
from model.branches.sd3_vae import EPS, DownEncoderBlock2D, Downsample2D, ResnetBlock2D, UNetMidBlock2D
from model.device import ran_out_of_memory
from model.preset import VaeSpec

SCORES = 2**25
"""Scores of the attention, in float32, that are in memory at a time: 128 MiB, and 192 more for their softmax."""
WIDE = 256
"""Channels of a head up to which a GPU has attention that is fast and keeps no scores."""
RECURRING = 128
"""Square maps whose sides are multiples of this are tiles that large photos are cut into (512² folded by 4, 1024²)."""


class EncoderAlone(nn.Module):
    """AutoencoderKL without its decoder."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        self.encoder = VaeEncoder(spec)


class VaeEncoder(nn.Module):
    """B×C×H×W → B×2·latent×H/f×W/f, mean and log-variance of the posterior; f is the stride without the unshuffling."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        widths, groups, folded = spec.block_out_channels, spec.norm_num_groups, spec.pixel_unshuffle**2
        self.conv_in = nn.Conv2d(3 * folded + (folded if spec.residual else 0), widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownEncoderBlock2D(before, width, spec.layers_per_block, groups, halves=place < len(widths) - 1)
            for place, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.mid_block = UNetMidBlock2D(widths[-1], groups, attention=spec.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * spec.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: sides are multiples of f. Channels-last is fastest."""
        if captured_as_graph() or self._learns(x):
            return self._run(x, _Steps(functional=True))
        with _timed_algorithms(x):
            return self._run(x, _Steps(functional=False))

    def _run(self, x: Tensor, steps: _Steps) -> Tensor:
        if steps.fused(x, self.conv_norm_out):
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x)
        for block in cast(Iterable[DownEncoderBlock2D], self.down_blocks):
            *before, last = cast(Iterable[ResnetBlock2D], block.resnets)
            for resnet in before:
                x = steps.residual(x, resnet)
            down = cast(Iterable[Downsample2D], block.downsamplers or ())
            x = steps.residual(x, last, padded=bool(down))
            for layer in down:
                x = layer.conv(x)
        first, last = cast(Iterable[ResnetBlock2D], self.mid_block.resnets)
        x = steps.residual(x, first)
        for attention in self.mid_block.attentions:
            x = steps.attention(x, attention)
        x = steps.residual(x, last)
        made: Tensor = self.conv_out(steps.norm(x, self.conv_norm_out))
        return made

    def _learns(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))


class _Steps:
    """What lies between two convolutions.

    Args:
        functional: nothing is written in place, and only PyTorch's operations are used.
    """

    def __init__(self, *, functional: bool) -> None:
        self.functional = functional

    def fused(self, x: Tensor, norm: nn.GroupNorm) -> ModuleType | None:
        """The kernels, where they may be used."""
        if self.functional or not x.is_cuda:
            return None
        return kernels() if fused_norm_works(x.device, x.dtype, norm.num_channels, norm.num_groups) else None

    def norm(
        self, x: Tensor, norm: nn.GroupNorm, bias: Tensor | None = None, *, silu: bool = True, own: bool = False
    ) -> Tensor:
        """GroupNorm of x + bias and SiLU of it; `own`: x may be overwritten."""
        if (fused := self.fused(x, norm)) is not None:
            made: Tensor
            with _on(x.device):
                out = x if own else None
                made = fused.norm(x, norm.weight, norm.bias, norm.num_groups, norm.eps, bias, silu=silu, out=out)
            return made
        x = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return F.silu(x, inplace=not self.functional) if silu else x

    def residual(self, x: Tensor, block: ResnetBlock2D, *, padded: bool = False) -> Tensor:
        """x + f(x); `padded` with zeros as `_add` does. The kernels add what the convolutions leave out, their bias."""
        if (fused := self.fused(x, block.norm1)) is not None:
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.norm(x, block.norm1)
        h = _convolved(h, block.conv1, biased=fused is None)
        h = self.norm(h, block.norm2, None if fused is None else block.conv1.bias, own=True)
        h = _convolved(h, block.conv2, biased=fused is None)
        biases: list[Any] = [block.conv2.bias]
        if (shortcut := block.conv_shortcut) is not None:
            x = _convolved(x, shortcut, biased=fused is None)
            biases.append(shortcut.bias)
        if fused is not None:
            bias = sum(biases)
            with _on(x.device):
                made: Tensor = fused.add(h, x, bias, zero_edges(h) if padded else h)
            return made
        return self._add(h, x, padded=padded)

    def _add(self, h: Tensor, x: Tensor, *, padded: bool) -> Tensor:
        """h + x; h may be overwritten. With a row of zeros below and a column on the right, where `padded`."""
        if not padded:
            return h + x if self.functional else h.add_(x)
        if self.functional:
            return F.pad(h + x, (0, 1, 0, 1))
        out = zero_edges(h)
        torch.add(h, x, out=out[:, :, :-1, :-1])
        return out

    def attention(self, x: Tensor, layer: Any) -> Tensor:
        """x + attention over all places of the map, in one or more heads."""
        batch, channels, height, width = x.shape
        tokens = self.norm(x, layer.group_norm, silu=False).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        # No comprehension: the compiler cannot delete what one of these closes over.
        q = _by_head(layer.to_q(tokens), layer.heads)
        k = _by_head(layer.to_k(tokens), layer.heads)
        v = _by_head(layer.to_v(tokens), layer.heads)
        if not self.functional and q.is_cuda and q.shape[-1] > WIDE and chunks_work(q.device, q.dtype):
            found = chunked_attention(q, k, v)
        else:
            found = F.scaled_dot_product_attention(q, k, v)
        del q, k, v, tokens
        found = layer.to_out[0](found.transpose(1, 2).flatten(2))
        return self._add(found.unflatten(1, (height, width)).permute(0, 3, 1, 2), x, padded=False)


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _by_head(projected: Tensor, heads: int) -> Tensor:
    """B×N×C → B×heads×N×C/heads."""
    return projected.view(*projected.shape[:2], heads, -1).transpose(1, 2)


def _convolved(x: Tensor, layer: nn.Conv2d, *, biased: bool) -> Tensor:
    if biased:
        whole: Tensor = pointwise(layer, x) if layer.kernel_size == (1, 1) else layer(x)
        return whole
    made = F.conv2d(x, layer.weight, None, layer.stride, layer.padding)
    return made.contiguous(memory_format=torch.channels_last)


def zero_edges(x: Tensor) -> Tensor:
    """Memory for a map with one row more below and one column more on the right, which are zero: B×C×(H+1)×(W+1)."""
    batch, channels, height, width = x.shape
    last = x.is_contiguous(memory_format=torch.channels_last)
    out = torch.empty(
        (batch, channels, height + 1, width + 1),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    out[:, :, -1].zero_()
    out[:, :, :, -1].zero_()
    return out


def chunked_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v with at most `SCORES` scores in memory at a time, which are float32.

    For heads of more than `WIDE` channels. There PyTorch has one kernel without scores on a GPU, the memory-efficient
    one, which keeps its sums in global memory and does not use Hopper's instructions: 5 to 11 ms are expected for 128²
    places of 512 channels (.55 TFLOP at 50 to 100 TFLOP/s), and 2.5 here (.9 for the products, 1.6 for 20 bytes a
    score). Not measured.

    Args:
        q, k, v: B×heads×N×d.

    Returns:
        B×heads×N×d.
    """
    shape = q.shape
    q, k, v = (q * shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1).mT, v.flatten(0, 1)
    rows = max(1, SCORES // (len(q) * shape[2]))
    found = torch.empty_like(q)
    for first in range(0, shape[2], rows):
        part = q[:, first : first + rows]
        if q.is_cuda and q.dtype != torch.float32:
            scores = torch.bmm(part, k, out_dtype=torch.float32)
        else:
            scores = torch.bmm(part.float(), k.float())
        found[:, first : first + rows] = torch.bmm(scores.softmax(-1).to(v.dtype), v)
    return found.view(shape)


@functools.cache
def kernels() -> ModuleType | None:
    """`vae_kernels`; None where there is no Triton, or none that loads."""
    try:
        return importlib.import_module("model.branches.vae_kernels")
    except Exception as error:
        _refuse(FUSED, error)
        return None


FUSED, CHUNKED = "the fused norm of the VAE", "the chunked attention of the VAE"
_refused: set[str] = set()


@functools.cache
def fused_norm_works(device: torch.device, dtype: torch.dtype, channels: int, groups: int) -> bool:
    """Whether the kernels compute on this device what PyTorch does, which is tried once."""
    if dtype not in (torch.float32, torch.bfloat16, torch.float16) or (fused := kernels()) is None:
        return False

    def ours() -> Tensor:
        with _on(device):
            made = fused.norm(x.clone(), scale, scale, groups, 1e-6, scale)
            joined: Tensor = fused.add(x.clone(), made, scale, zero_edges(x))
            return joined

    def theirs() -> Tensor:
        made = F.silu(F.group_norm(x + scale[:, None, None], groups, scale, scale, 1e-6))
        return F.pad(x + made + scale[:, None, None], (0, 1, 0, 1))

    with torch.no_grad():
        x = _waves(device, dtype, 2, 24, 40, channels).permute(0, 3, 1, 2)
        scale = _waves(device, dtype, channels)
        return _agree(FUSED, ours, theirs)


@functools.cache
def chunks_work(device: torch.device, dtype: torch.dtype) -> bool:
    """The same for `chunked_attention`."""
    with torch.no_grad():
        q, k, v = _waves(device, dtype, 3, 1, 1, 64, 2 * WIDE)
        return _agree(CHUNKED, lambda: chunked_attention(q, k, v), lambda: F.scaled_dot_product_attention(q, k, v))


def _waves(device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
    """Values between -1 and 1 that no random generator is asked for."""
    return torch.arange(math.prod(shape), device=device, dtype=torch.float32).square().sin().reshape(shape).to(dtype)


def _agree(what: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> bool:
    if what in _refused:
        return False
    try:
        made, expected = ours(), theirs()
        close = 1e-4 if made.dtype == torch.float32 else 3e-2
        if torch.allclose(made.float(), expected.float(), atol=close, rtol=close):
            return True
        _refuse(what, ArithmeticError("its results are wrong"))
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        _refuse(what, error)
    return False


def _refuse(what: str, error: Exception) -> None:
    _refused.add(what)
    reason = next(iter(str(error).splitlines()), "")[:200]
    text = f"{what} does not run here ({type(error).__name__}: {reason}). PyTorch's own operations are used."
    warnings.warn(text, RuntimeWarning, stacklevel=2)


@contextmanager
def _timed_algorithms(x: Tensor) -> Iterator[None]:
    """cuDNN times its algorithms once for each shape, on a GPU and in inference.

    Only for square maps whose sides are multiples of `RECURRING`: for small pictures of all sizes the timing would take
    longer than what it saves.
    """
    height, width = x.shape[-2:]
    if not (x.is_cuda and torch.is_inference_mode_enabled() and height == width and height % RECURRING == 0):
        yield  # the setting is the whole process's: threads on a CPU leave it alone
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
