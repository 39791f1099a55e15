"""A branch's network as the rest of the program sees it, and its adapters: peft's LoRA, and `model.branches.svd`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from model.branches.inference import forget
from model.branches.recomputation import Keeps, recompute, spread
from model.branches.svd import inject_svd
from model.preset import LoraSpec, Preset, SvdSpec
from model.registry import Base

if TYPE_CHECKING:
    from peft import LoraConfig


Files = dict[str, tuple[Path, ...]]
"""The files of each part of registered weights."""
Prompts = tuple[Tensor, Tensor]
"""Embeddings of a prompt for each sample: B×N×D for the joint attention, B×P for the modulation."""


class BranchNetwork(nn.Module):
    """Image → feature map, B×channels×h×w at any stride.

    Attributes:
        adapted: name of the module inside that gets adapters.
        sees_view: whether it needs the early forensic view.
        takes_prompts: whether its `forward` has a further argument, `prompts`, and `take_prompt` works.
    """

    adapted: ClassVar[str]
    sees_view: bool = False
    takes_prompts: bool = False

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the feature map."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, view: Tensor | None = None) -> Tensor:
        """From the image, B×3×H×W float32 in [0, 1], noise, B×`Branch.noise_shape`, and the view if it `sees_view`."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The repeated blocks: what is compiled, and computed twice to save memory."""

    def add_adapters(self, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool = False) -> None:
        """Freeze it and put adapters on the targets, in place; `empty` leaves the adapters on the meta device."""
        freeze(self)
        inject(self.get_submodule(self.adapted), spec, targets, empty=empty)

    def keep_less(self, keeps: Keeps = "nothing", share: float = 1.0) -> None:
        """Gradient checkpointing of a share of the blocks, in place; `keeps`: of each, beside its inputs."""
        for block in spread(self.blocks(), share):
            recompute(block, keeps)

    def train(self, mode: bool = True) -> Self:
        """Weights that learn have no constants: neither fused optimizers nor CUDA graphs count their changes."""
        if mode:
            forget(self)
        return super().train(mode)

    def arrange(self) -> None:
        """Lay together in memory, in place, what inference reads in one product; values and names stay."""

    def place_constants(self, device: str | None = None) -> None:
        """Compute the buffers that are not saved; again where it was built on the meta device."""

    def examine(
        self, preset: Preset, places: Mapping[str, Path], known: Collection[Preset] = ()
    ) -> tuple[Files, list[str]]:
        """The files of each part, and each of their tensors that is missing, unexpected or of another shape.

        Args:
            preset: what they should be.
            places: under the branch's name its file or folder; under the name of a part one that was chosen for it.
            known: presets to name where the weights fit one of them instead.

        Raises:
            BasesError: damaged, or of another model altogether.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretrained weights")

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        """Put registered weights in `dtype`, and constants in `rest`, into this network, which is on the meta device.

        Raises:
            BasesError: a file is damaged or does not fit, or a value in it does not fit the number format.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretrained weights")

    def take_prompt(self, path: Path, device: str, dtype: torch.dtype) -> None:
        """Put stored embeddings of a prompt in the place of its own.

        Raises:
            BasesError: they are damaged or do not fit, or a value does not fit the number format.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prompt")


ADAPTER = "clue"
PARTS = (".lora_", ".svd_")
"""In the names of an adapter's tensors, between the layer's name and their own."""
Convert = Callable[[str, Tensor, torch.dtype], Tensor]
Replaced = tuple[str, nn.Module]


class FusedQKV(nn.Module):
    """SAM's fused `qkv` projection seen as three linear layers, so that LoRA on q, k and v has its own rank for each.

    Computes exactly what the fused layer computes: the three weights are its thirds. Only for adapters: three products
    take up to twice as long as one, and give other last bits of the gradient.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        inputs, width = fused.in_features, fused.out_features // 3
        device, dtype = fused.weight.device, fused.weight.dtype
        parts = [nn.Linear(inputs, width, device=device, dtype=dtype) for _ in range(3)]
        with torch.no_grad():
            for index, part in enumerate(parts):
                rows = slice(index * width, (index + 1) * width)
                part.weight.copy_(fused.weight[rows])
                part.bias.copy_(fused.bias[rows])
        self.q, self.k, self.v = parts

    def forward(self, x: Tensor) -> Tensor:
        """x: …×C → …×3C, in the order q, k, v."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)

    def fused(self) -> nn.Linear:
        """The one layer that computes the same; q, k and v have no adapters any more."""
        parts = (self.q, self.k, self.v)
        return _linear(torch.cat([p.weight.data for p in parts]), torch.cat([p.bias.data for p in parts]))


def adapters_in(network: nn.Module) -> dict[str, Tensor]:
    """All tensors of its adapters by name, among them what is stored of them and does not learn."""
    return {
        name: tensor
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
        if any(part in name for part in PARTS)
    }


@torch.no_grad()
def merge_adapters(
    model: nn.Module, convert: Convert = lambda name, merged, dtype: merged.to(dtype)
) -> Iterator[Replaced]:
    """Take the adapters out of a model, in place, and q, k, v are fused again.

    Each W becomes W + (alpha / rank)·B·A, or W + U·S·V - U₀·S₀·V₀.

    Args:
        convert: gives the merged weight of a layer, float32, its number format.

    Yields:
        The name and the former module of each layer, right after its replacement.
    """
    for name, module in list(model.named_modules()):
        if hasattr(module, "get_delta_weight"):  # a layer of peft, or an `SvdLinear`
            base = cast(nn.Linear, module.base_layer)
            merged = base.weight.float() + module.get_delta_weight(ADAPTER)
            model.set_submodule(name, _linear(convert(name, merged, base.weight.dtype), base.bias))
            yield name, module
    for name, module in list(model.named_modules()):
        if isinstance(module, FusedQKV):
            model.set_submodule(name, module.fused())
            yield name, module


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same model after `merge_adapters`; the model itself is left as it is.

    Tensors without an adapter are its own, not copies.
    """
    replaced = list(merge_adapters(model))
    try:
        return dict(model.state_dict())
    finally:
        for name, module in reversed(replaced):
            model.set_submodule(name, module)


def freeze(module: nn.Module) -> None:
    """No gradient for any parameter of the module."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def lora_config(spec: LoraSpec, targets: tuple[str, ...]) -> LoraConfig:
    """peft's description of the adapters."""
    from peft import LoraConfig  # seconds to import, and a scan with mini has no adapters

    return LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=list(targets), bias="none"
    )


def inject(module: nn.Module, spec: LoraSpec | SvdSpec, targets: tuple[str, ...], *, empty: bool = False) -> None:
    """Put adapters on the linear layers whose names end so, in place.

    Args:
        module: the network.
        spec: rank, alpha, dropout of LoRA; or the rank of the residual of an SVD.
        targets: ends of names.
        empty: leave the adapters on the meta device; their values come from a file.

    Raises:
        ValueError: there is no such layer, or a residual's rank is too large for one.
    """
    if isinstance(spec, SvdSpec):
        inject_svd(module, spec, targets, empty=empty)
        return
    from peft import inject_adapter_in_model

    with _shown_in_float32(module):
        inject_adapter_in_model(lora_config(spec, targets), module, adapter_name=ADAPTER, low_cpu_mem_usage=empty)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer around tensors that are there already."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


@contextmanager
def _shown_in_float32(module: nn.Module) -> Iterator[None]:
    """Weights in half the precision look like float32 inside the block, and cost nothing more.

    peft makes adapters in float32, but rounds their first values to the number format of the weight they adapt.
    """
    held = [(p, p.data) for p in module.parameters() if p.dtype in (torch.bfloat16, torch.float16)]
    for parameter, weight in held:
        parameter.data = torch.zeros((), device=weight.device).expand(weight.shape)
    try:
        yield
    finally:
        for parameter, weight in held:
            parameter.data = weight
