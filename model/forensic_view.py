"""An early view of the pixels in which forensic traces are plain: block DCT on the 8×8 grid, high-pass residual.

JPEG rounds each DCT coefficient of each 8×8 block to a multiple of a step. A region that came from elsewhere has
another history of such roundings than its surroundings (Lin et al. 2009; Bianchi and Piva 2012). In pixels that
trace is far below what a small network picks up by itself, so it is laid open here: for the low frequencies,
cos(2π·c/q) is near 1 wherever a coefficient c is a multiple of the step q, and its local mean tells which steps a
place has gone through; and the histogram of each frequency over the whole tile, compared with smoother versions of
itself, tells how well each block's coefficients fit in with all the others, whatever the steps were. The learned
layers start after that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.branches.inference import pointwise
from model.preset import ViewSpec
from model.self_match import CHANNELS as MATCHES
from model.self_match import REPEATS

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JFIF prescribes


def dct_basis() -> Tensor:
    """The 64 orthonormal 8×8 DCT-II basis images, 64×1×8×8, frequency index 8·v + u."""
    n = torch.arange(8, dtype=torch.float64, device="cpu")
    rows = torch.cos((2 * n[None, :] + 1) * n[:, None] * math.pi / 16) * 0.5  # frequency × position
    rows[0] /= math.sqrt(2.0)
    return torch.einsum("vy,ux->vuyx", rows, rows).reshape(64, 1, 8, 8).float()


def zigzag() -> list[int]:
    """Frequency indexes 8·v + u in JPEG's zigzag order."""
    order = sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8))
    return order


def luma(x: Tensor) -> Tensor:
    """Luma of B×3×H×W in [0, 1], as B×1×H×W on the 0–255 scale, centred as JPEG does."""
    # Filled on the device: a tensor made of a list is copied there, and the copy waits for all that came before.
    weights = torch.cat([torch.full((1, 1, 1, 1), part, dtype=torch.float32, device=x.device) for part in LUMA], 1)
    # Channel by channel: a sum over a dimension of three takes twice as long.
    red, green, blue = (x[:, place : place + 1].float() * weights[:, place] for place in range(3))
    return red.add_(green).add_(blue).mul_(255.0).sub_(128.0)


def high_pass(y: Tensor) -> Tensor:
    """Second-order residual of the luma (Ker and Böhme 2008), B×1×H×W, compressed to about [-1, 1]."""
    height, width = y.shape[-2:]
    around = F.pad(y, (1, 1, 1, 1), mode="reflect")
    # The products are exact, and the order is a convolution's, which takes three times as long for a single channel.
    residual = torch.zeros_like(y)
    for top, row in enumerate(RESIDUAL):
        for left, factor in enumerate(row):
            residual.add_(around[..., top : top + height, left : left + width], alpha=factor)
    return torch.tanh(residual / 8.0)


RESIDUAL = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))
"""Second differences along rows and along columns, one after the other."""


BINS = 64
SMOOTHING = (1, 3, 7, 15, 31)
"""Widths, in grey levels, of the versions of a histogram that are compared; the first is the histogram itself."""


def histogram(bins: Tensor) -> Tensor:
    """Counts of each bin in each row: B×f×N int64 in [0, BINS) → B×f×BINS float32, exact to 2²⁴.

    On a CPU by `scatter_add_`, several times faster there. On a GPU its atomic additions would queue up, since most
    coefficients share a few bins: `histogram_by_products` counts without.
    """
    if bins.device.type == "cpu":
        ones = torch.ones(bins.shape, device=bins.device)
        return torch.zeros(*bins.shape[:2], BINS, device=bins.device).scatter_add_(2, bins, ones)
    return histogram_by_products(bins)


_AT_ONCE = 1 << 22
"""Coefficients that are counted at a time: their one-hot digits take 256 MiB."""


def histogram_by_products(bins: Tensor) -> Tensor:
    """The same without atomic additions: a bin is two digits of base 8, and the product of one-hot digits counts pairs.

    16 comparisons a coefficient, where a one-hot bin would take 64.
    """
    digits = torch.arange(8, device=bins.device)[:, None]
    counts = []
    for part in torch.split(bins, max(1, _AT_ONCE // (bins.shape[1] * bins.shape[2]))):
        high = (part[:, :, None] // 8 == digits).float()  # B×f×8×N
        low = (part[:, :, None] % 8 == digits).float()
        with torch.autocast(bins.device.type, enabled=False):  # half precision counts to 256
            counts.append((high @ low.mT).flatten(2))
    return torch.cat(counts)


def fit_to_histogram(c: Tensor) -> Tensor:
    """How common each coefficient's value is in its tile, against what the shape of the distribution would suggest.

    A second quantization leaves a periodic pattern of high and low counts in the histogram of what it found, and only
    there (Lin et al. 2009): blocks that share it sit on the high counts, blocks of another history do not. No step
    needs to be known for that.

    Args:
        c: coefficients, B×f×h×w float32.

    Returns:
        B×(4·f)×h×w: log-ratios of the histogram at successive widths of smoothing, at the coefficient's own bin.
    """
    shape = c.shape
    bins = c.abs().round().clamp(max=BINS - 1).long().flatten(2)  # B×f×N
    counts = histogram(bins)
    smooth = [F.avg_pool1d(counts, width, 1, width // 2, count_include_pad=False) for width in SMOOTHING]
    logs = [torch.log(version + 0.5) for version in smooth]
    ratios = [(sharp - blunt).clamp(-3, 3) / 2 for sharp, blunt in pairwise(logs)]
    return torch.cat([ratio.gather(2, bins).reshape(shape) for ratio in ratios], 1)


class ForensicView(nn.Module):
    """B×3×H×W in [0, 1] → B×channels×H/8×W/8. The grid of the blocks starts at the top left corner of the tile."""

    basis: Tensor
    steps: Tensor
    tested: Tensor

    def __init__(self, spec: ViewSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = 64 * 3 + spec.frequencies * (len(spec.steps) + len(SMOOTHING) - 1) + 3
        self.matches = (MATCHES if spec.repeats else MATCHES - REPEATS) if spec.matches else 0
        inputs += self.matches
        self.project = nn.Conv2d(inputs, spec.channels, 1)
        self.pool = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(spec.channels, spec.channels, 3, padding=1),
            nn.GroupNorm(8, spec.channels),
            nn.SiLU(),
        )
        self.place_constants(self.project.weight.device)

    def place_constants(self, device: torch.device | str) -> None:
        """Compute what is not saved, on the device where it is needed; again where the view was built on meta."""
        steps = torch.tensor(self.spec.steps, dtype=torch.float32, device="cpu")
        tested = torch.tensor(zigzag()[1 : 1 + self.spec.frequencies], device="cpu")
        for name, constant in (("basis", dct_basis()), ("steps", steps), ("tested", tested)):
            self.register_buffer(name, constant.to(device), persistent=False)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> ForensicView:
        """What `.to` calls: `.to(bfloat16)` would round the constants, and half a grey level is what all is about."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.place_constants(self.project.weight.device)
        return self

    @torch.no_grad()
    def traces(self, x: Tensor, *more: Tensor) -> Tensor:
        """The fixed part, float32: coefficients at three ranges, votes for each step, mean colour, fit to the tile.

        Args:
            x: B×3×H×W in [0, 1].
            more: maps that are put behind them.
        """
        # B×64×h×w; in full precision even where the caller runs under autocast
        with torch.autocast(x.device.type, enabled=False):
            c = F.conv2d(luma(x), self.basis, stride=8)
        low = c[:, self.tested]  # B×f×h×w
        # B×f×s×h×w; a coefficient below half a step is a multiple of it for trivial reasons: no vote.
        phase = low[:, :, None] / self.steps.reshape(1, 1, -1, 1, 1)
        counts = phase.abs().sub_(0.5).sign_().clamp_(min=0)  # in numbers: torch multiplies by truth values slowly
        votes = phase.mul_(2 * math.pi).cos_().mul_(counts)
        energy = torch.log1p(c.abs()) / 4.0
        colour = F.avg_pool2d(x.float(), 8) * 2 - 1
        ranges = [torch.tanh(c / 2), torch.tanh(c / 32), energy]
        behind = (maps.to(c) for maps in more)
        return torch.cat([*ranges, votes.flatten(1, 2), colour, fit_to_histogram(low), *behind], 1)

    def forward(self, x: Tensor, matches: Tensor | None = None) -> Tensor:
        """See the class. `matches`: B×CHANNELS×H/8×W/8 from `self_match`, where the spec asks for them."""
        if self.matches and matches is None:
            matches = x.new_zeros(x.shape[0], self.matches, x.shape[2] // 8, x.shape[3] // 8)
        more = [] if matches is None else [matches[:, : self.matches]]
        traces = self.traces(x, *more).to(self.project.weight.dtype)
        view: Tensor = self.pool(pointwise(self.project, traces))
        return view
