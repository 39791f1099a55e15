"""`scripts/parts_off.py`: what is switched off says nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.clue import CLUE, build
from tests.base_layouts import SMALL
from tests.scripts.conftest import modules_of_scripts

with modules_of_scripts("parts_off") as scripts:
    OFF = {"sd3": scripts.parts_off.no_sd3, "sam": scripts.parts_off.no_sam}


@pytest.mark.parametrize(("name", "switch_off"), OFF.items())
def test_a_branch_that_is_off_changes_nothing(name: str, switch_off: Callable[[CLUE], list[Any]]) -> None:
    torch.manual_seed(0)
    model = build(SMALL).eval().requires_grad_(False)
    channels = {other: model.fusion.get_parameter(f"{other}.0.weight").shape[1] for other in ("sd3", "sam")}
    features = {other: torch.randn(1, count, 8, 8) for other, count in channels.items()}
    changed = {**features, name: torch.randn_like(features[name])}
    with torch.inference_mode():
        assert not torch.equal(model.fusion(features, (8, 8)), model.fusion(changed, (8, 8)))
        handles = switch_off(model)
        assert torch.equal(model.fusion(features, (8, 8)), model.fusion(changed, (8, 8)))
        for handle in handles:
            handle.remove()
        assert not torch.equal(model.fusion(features, (8, 8)), model.fusion(changed, (8, 8)))
