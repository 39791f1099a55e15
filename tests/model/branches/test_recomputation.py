"""Gradient checkpointing: the same gradients, and what is computed twice for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.branches.recomputation import recompute, spread
from model.clue import CLUE, adapt, build
from model.training.network import keep_less
from tests.base_layouts import SMALL


class Computed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts attention and matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if "backward" not in name:
            self.calls["attention" if "attention" in name else "products" if "mm" in name else "rest"] += 1
        return func(*args, **(kwargs or {}))


def network(keeps: Any, share: float = 1.0) -> CLUE:
    torch.manual_seed(0)
    model = build(SMALL).train()
    adapt(model, "lora")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    if keeps is not None:
        keep_less(model, keeps, share)
    return model


def gradients(model: CLUE) -> tuple[dict[str, torch.Tensor], Counter[str]]:
    torch.manual_seed(1)
    x, noise = torch.rand(1, 3, 64, 64), torch.randn(1, *model.latent_shape(64, 64))
    with Computed() as computed:
        model(x, noise).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, computed.calls


def test_gradients_are_the_same_and_attention_is_computed_once() -> None:
    plain, once = gradients(network(None))
    twice: dict[str, Counter[str]] = {}
    for keeps in ("nothing", "attention"):
        found, twice[keeps] = gradients(network(keeps))
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert twice["nothing"]["attention"] > twice["attention"]["attention"] >= once["attention"] > 0
    assert twice["nothing"]["products"] == twice["attention"]["products"] > once["products"]
    half, some = gradients(network("attention", 0.5))
    assert all(torch.equal(half[name], plain[name]) for name in plain)
    assert once["products"] < some["products"] < twice["attention"]["products"]


def test_compiled_with_it_the_gradients_are_the_same() -> None:
    torch.compiler.reset()  # other tests compile the same functions, and their number is limited
    plain, _ = gradients(network(None))
    model = network("attention")
    for block in (block for branch in model.networks.values() for block in branch.blocks()):
        block.compile(backend="aot_eager", fullgraph=True)
    torch.manual_seed(1)
    model(torch.rand(1, 3, 64, 64), torch.randn(1, *model.latent_shape(64, 64))).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name in plain:
            torch.testing.assert_close(parameter.grad, plain[name], atol=1e-5, rtol=1e-4)


def test_a_share_is_spread_evenly() -> None:
    blocks: list[nn.Module] = [nn.Linear(1, 1) for _ in range(8)]
    assert [blocks.index(block) for block in spread(blocks, 0.25)] == [3, 7]
    assert spread(blocks, 1) == blocks
    assert spread(blocks, 0) == []


def test_dropout_is_drawn_again_as_it_was() -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.GELU())
    recompute(block, "attention")
    x = torch.ones(4, 8, requires_grad=True)
    torch.manual_seed(0)
    block(x).sum().backward()
    again = torch.ones(4, 8, requires_grad=True)
    torch.manual_seed(0)
    block[2](block[1](block[0](again))).sum().backward()
    assert x.grad is not None and again.grad is not None
    assert torch.equal(x.grad, again.grad)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of nothing, attention"):
        recompute(nn.Linear(1, 1), "everything")  # type: ignore[arg-type]
