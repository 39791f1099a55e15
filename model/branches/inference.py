"""What the transformer blocks of both branches share in inference: constants of the weights, and fused linear layers.

Training computes with the modules themselves. Without gradients, in evaluation mode, the same parameters give the same
numbers with fewer passes over memory: up to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Literal, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import int8

T = TypeVar("T")
Gelu = Literal["none", "tanh"]
"""Exact or approximated, as `approximate` of torch's."""

_Stamp = tuple[tuple[int, int], ...]
_KEPT: WeakKeyDictionary[nn.Module, dict[Hashable, tuple[_Stamp, list[Tensor], object]]] = WeakKeyDictionary()
_LOCK = Lock()


def inferring(module: nn.Module, x: Tensor) -> bool:
    """Whether the fused forms may be used: no gradients, no autocast, nobody traces, and not on the meta device."""
    if module.training or torch.is_grad_enabled() or captured_as_graph() or x.is_meta:
        return False
    return not torch.is_autocast_enabled(x.device.type)


def captured_as_graph() -> bool:
    """Whether torch's compiler, or the tracer behind the export to ONNX, records what is computed."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def constant(owner: nn.Module, key: Hashable, sources: Sequence[Tensor], make: Callable[[], T]) -> T:
    """What `make` gives, computed again when a source was changed in place or replaced.

    Computed each time where sources are tensors of inference mode, which do not count their changes, and in a block
    that torch.compile traces, which a look into the store would cut into pieces.

    The sources stay in memory for as long as the result, so that no new tensor can take the address of an old one.

    Args:
        owner: the module it is kept for; it is dropped with the module.
        key: names it among the owner's.
        sources: all tensors it depends on.
        make: computes it.
    """
    if torch.compiler.is_compiling():
        return make()
    if any(t.is_inference() for t in sources):
        with torch.no_grad():
            return make()
    stamp = tuple((t.data_ptr(), t._version) for t in sources)
    with _LOCK:
        kept = _KEPT.get(owner, {}).get(key)
    if kept is not None and kept[0] == stamp:
        return cast(T, kept[2])
    with torch.no_grad():
        made = make()
    with _LOCK:
        _KEPT.setdefault(owner, {})[key] = stamp, [t.detach() for t in sources], made
    return made


def forget(owner: nn.Module) -> None:
    """Drop the constants of a module and of all modules inside."""
    with _LOCK:
        for module in owner.modules():
            _KEPT.pop(module, None)


def tensors_of(*modules: nn.Module | None) -> list[Tensor]:
    """All parameters and buffers of modules, for `constant`."""
    return [t for module in modules if module is not None for t in (*module.parameters(), *module.buffers())]


def plain(*layers: nn.Module | None) -> bool:
    """Whether all of them are linear layers with a bias and without an adapter."""
    return all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)


def lay_together(layers: Sequence[nn.Linear]) -> None:
    """Let the weights and biases of layers with one input be parts of one tensor each, in place: see `joined`."""
    for name in ("weight", "bias"):
        parameters = [getattr(layer, name) for layer in layers]
        whole = torch.cat([p.data for p in parameters])
        for parameter, part in zip(parameters, torch.split(whole, [len(p) for p in parameters]), strict=True):
            parameter.data = part


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The tensors one below the other; a view of them if `lay_together` has put them so, else a copy."""
    first, place = parts[0].detach(), parts[0].storage_offset()
    if not first.is_meta:
        for part in parts:
            if (
                part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
                or part.storage_offset() != place
                or not part.is_contiguous()
            ):
                break
            place += part.numel()
        else:
            return first.as_strided((sum(len(part) for part in parts), *first.shape[1:]), first.stride())
    return torch.cat([part.detach() for part in parts])


def linear(layer: nn.Module, x: Tensor, gelu: Gelu | None = None) -> Tensor:
    """A linear layer, with or without adapters, and the activation behind it."""
    if plain(layer):
        weight = cast(Tensor, layer.weight)
        return product(layer, (weight,), x, weight, cast(Tensor, layer.bias), gelu)
    y: Tensor = layer(x)
    return y if gelu is None else F.gelu(y, approximate=gelu)


def pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1×1 convolution with a bias: B×in×H×W → B×out×H×W.

    On one core of a CPU torch copies a map in float32 first, and multiplies slowly. Here the result is channels-last:
    a convolution behind it wants it so.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or not inferring(layer, x):
        made: Tensor = layer(x)
        return made
    weight, bias = layer.weight, cast(Tensor, layer.bias)
    if x.is_contiguous():
        cells = torch.baddbmm(bias, x.flatten(2).mT, weight.flatten(1).T.expand(len(x), -1, -1))
        return cells.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    return product(layer, (weight,), x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def product(
    owner: nn.Module,
    sources: Sequence[Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gelu: Gelu | None = None,
    key: str = "",
) -> Tensor:
    """x·Wᵀ + b, and the activation: …×in → …×out.

    On a CPU oneDNN adds and activates while it writes, and small weights are packed for it once. As they are, each call
    packs them again.

    Args:
        owner: keeps the packed weight, see `constant`.
        sources: the parameters that the weight is made of, each of which counts its own changes.
        x: the input.
        weight: out×in.
        bias: out.
        gelu: the activation.
        key: names the weight among the owner's.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not _onednn_serves(x.dtype):
        y = F.linear(x, weight, bias)
        return y if gelu is None else F.gelu(y, approximate=gelu)
    if (levels := getattr(owner, int8.INT8, 0)) and x[0].numel() >= int8.ROWS * x.shape[-1]:
        rounded = constant(owner, ("int8", key), sources, lambda: int8.packed_linear(weight))
        return int8.product(x, rounded, bias, gelu, levels)
    if weight.numel() <= PACKED:
        weight = constant(owner, ("packed", key), sources, lambda: _pack(weight))
    return _onednn(x, weight, bias, gelu)


PACKED = 1 << 20
"""Numbers in a weight of which a packed copy is kept: below the weights of SD3 and SAM as published."""
_ROWS = 1024
"""For which oneDNN packs. Any number of rows can be multiplied then."""


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
    return packed


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: Gelu | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], gelu or "")
    return y


@lru_cache
def _onednn_serves(dtype: torch.dtype) -> bool:
    """Whether torch's own name for the fused layer, which its compiler calls, exists here and computes the same."""
    with torch.inference_mode():
        x, weight = torch.linspace(-2, 2, 96).reshape(4, 24).to(dtype), torch.linspace(-1, 1, 192).reshape(8, 24)
        bias = torch.linspace(-1, 1, 8).to(dtype)
        close = 1e-5 if dtype == torch.float32 else 5e-2
        try:
            for gelu in cast(tuple[Gelu, ...], ("none", "tanh")):
                ours = _onednn(x, _pack(weight.to(dtype)), bias, gelu)
                theirs = F.gelu(F.linear(x, weight.to(dtype), bias), approximate=gelu)
                if not torch.allclose(ours, theirs, rtol=close, atol=close):
                    return False
        except (RuntimeError, AttributeError, NotImplementedError):
            return False
    return True
