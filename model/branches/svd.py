"""Adapters in the residual of a singular value decomposition: Effort, orthogonal subspace decomposition (2411.15633).

A layer's weight is W = U·S·Vᵀ. The components with the largest singular values, the principal part, are frozen and keep
what the network knows; the `rank` components with the smallest, the residual, learn as factors U, S and V. In the 24
attention blocks of CLIP ViT-L/14, a residual of one component in each of the four projections has 196,704 parameters.

What is computed is W·x + (U·S·V - U₀·S₀·V₀)·x with the residual's first values U₀, S₀, V₀: before the first step it is
the original's output to the bit, and W is stored once, in its own number format.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.preset import SvdSpec

FACTORS = ("svd_u", "svd_s", "svd_v")
"""Names of the residual's factors, which learn; with a 0 behind them, of their first values, which do not."""


class SvdLinear(nn.Module):
    """A linear layer whose residual learns.

    Args:
        base_layer: the layer, out×in; it is frozen.
        spec: rank of the residual, and the weights of its constraints.
        empty: leave the factors on the meta device; their values come from a file.

    Attributes:
        svd_u, svd_s, svd_v: factors of the residual, float32: out×rank, rank, rank×in.

    Raises:
        ValueError: the rank leaves no principal part.
    """

    svd_u: nn.Parameter
    svd_s: nn.Parameter
    svd_v: nn.Parameter
    svd_u0: Tensor
    svd_s0: Tensor
    svd_v0: Tensor

    def __init__(self, base_layer: nn.Linear, spec: SvdSpec, *, empty: bool = False) -> None:
        super().__init__()
        self.base_layer, self.spec = base_layer, spec
        weight = base_layer.weight
        outputs, inputs = weight.shape
        if spec.rank >= min(outputs, inputs):
            raise ValueError(f"a residual of rank {spec.rank} leaves nothing of a layer of {outputs}×{inputs} to keep")
        for parameter in base_layer.parameters():
            parameter.requires_grad_(False)
        if empty or weight.is_meta:
            shapes = ((outputs, spec.rank), (spec.rank,), (spec.rank, inputs))
            first = [torch.empty(shape, device="meta") for shape in shapes]
        else:
            u, s, v = torch.linalg.svd(weight.detach().float(), full_matrices=False)
            first = [part.clone() for part in (u[:, -spec.rank :], s[-spec.rank :], v[-spec.rank :])]
        for name, value in zip(FACTORS, first, strict=True):
            self.register_parameter(name, nn.Parameter(value))
            self.register_buffer(f"{name}0", value.clone())

    def forward(self, x: Tensor) -> Tensor:
        """x: …×in → …×out."""
        known: Tensor = self.base_layer(x)
        inner = x if torch.is_autocast_enabled(x.device.type) else x.to(self.svd_u.dtype)
        now = F.linear(F.linear(inner, self.svd_v) * self.svd_s, self.svd_u)
        first = F.linear(F.linear(inner, self.svd_v0) * self.svd_s0, self.svd_u0)
        return known + (now - first).to(known.dtype)

    def get_delta_weight(self, _adapter: str = "") -> Tensor:
        """What was learned, added to the original's weight: out×in float32. peft's adapters have the same method."""
        now = self.svd_u * self.svd_s @ self.svd_v
        return now - self.svd_u0 * self.svd_s0 @ self.svd_v0

    def principal(self) -> Tensor:
        """The part that is kept, out×in float32: the original's weight without its residual."""
        return self.base_layer.weight.float() - self.svd_u0 * self.svd_s0 @ self.svd_v0

    def orthogonality(self) -> Tensor:
        """‖[U_r U]ᵀ[U_r U] - I‖² + ‖[V_r V]ᵀ[V_r V] - I‖² with the kept U_r and V_r; 0: all components are orthogonal.

        U_r is not needed for it: what of U does not lie in the space of U₀ lies in that of U_r. On the longer side of a
        layer that is not square, it may also lie in neither, and counts all the same.
        """
        loss = self.svd_s.new_zeros(())
        for now, first in ((self.svd_u, self.svd_u0), (self.svd_v.T, self.svd_v0.T)):
            unit = torch.eye(self.spec.rank, device=now.device, dtype=now.dtype)
            outside = now - first @ (first.T @ now)
            loss = loss + (now.T @ now - unit).square().sum() + 2 * outside.square().sum()
        return loss

    def norm_change(self) -> Tensor:
        """|‖W'‖² - ‖W‖²| in the Frobenius norm, W' being the weight as it is now."""
        u, s, v = self.svd_u, self.svd_s, self.svd_v
        cross = (u.T @ self.base_layer.weight.to(u.dtype) * v).sum(1)  # uᵀWv of each component
        cross = cross - ((u.T @ self.svd_u0) * self.svd_s0 * (v @ self.svd_v0.T)).sum(1)
        squared = (s[:, None] * s * (u.T @ u) * (v @ v.T)).sum()
        return (2 * (s * cross).sum() + squared - self.svd_s0.square().sum()).abs()


def inject_svd(module: nn.Module, spec: SvdSpec, targets: Iterable[str], *, empty: bool = False) -> None:
    """Put adapters on the linear layers whose names end so, in place.

    Args:
        module: the network.
        spec: rank of the residual, and the weights of its constraints.
        targets: ends of names.
        empty: as of `SvdLinear`.

    Raises:
        ValueError: there is no such layer, or its rank is too small.
    """
    ends = tuple(f".{target}" for target in targets)
    found = [name for name, part in module.named_modules() if isinstance(part, nn.Linear) and f".{name}".endswith(ends)]
    if not found:
        raise ValueError(f"the network has no linear layer whose name ends with {' or '.join(targets)}")
    for name in found:
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        module.set_submodule(name, SvdLinear(layer, spec, empty=empty))


def svd_layers(network: nn.Module) -> list[SvdLinear]:
    """The layers with such an adapter."""
    return [module for module in network.modules() if isinstance(module, SvdLinear)]


def constraint(layers: list[SvdLinear]) -> Tensor:
    """What is added to a loss to keep the residual orthogonal and of its norm: the mean over one layer or more."""
    device: torch.device = layers[0].svd_s.device
    with torch.autocast(device.type, enabled=False):
        losses = [
            layer.spec.orthogonality * layer.orthogonality() + layer.spec.norm * layer.norm_change() for layer in layers
        ]
        return torch.stack(losses).mean()
