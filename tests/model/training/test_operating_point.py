"""The operating point: what is added to all logits, which regions are marked, and how groups of pictures fare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.clue import build
from model.data.made_pictures import Made
from model.preset import Preset, RegionSpec
from model.presets.mini import MINI
from model.score import FEATURES
from model.training.calibrate import NoCalibrationError, Scored
from model.training.finish import Looked, across_halves, chosen, shifted, table
from model.training.options import read_options
from tests.drawn_pictures import noise
from tests.tiny_model import TINY

_mini = read_options("mini", steps=1).finish
assert _mini is not None
FINISH = _mini


def looked(group: str, forged: bool, inside: float, outside: float) -> Any:
    """What a network says of one square, as log-odds."""
    pixels, mask = noise(64, 96), np.zeros((64, 96), bool)
    mask[16:48, 16:48] = True
    logits = np.where(mask, inside, outside).astype(np.float16)
    made = Made(pixels, mask & forged, group, "splice" if forged else "authentic", "source")
    return Looked(made, logits, as_found=False)


@pytest.mark.parametrize(
    ("peak", "marked_from", "shift"),
    [
        (0.25, 9.0, 0.25),
        (-0.5, 9.0, -0.5),
        (1.0, 0.3, 0.25),  # more would mark too much of authentic pictures
        (1.0, -9.0, -1.25),  # nothing is little enough: as little as can be
    ],
)
def test_the_operating_point_marks_what_it_can(
    monkeypatch: pytest.MonkeyPatch, peak: float, marked_from: float, shift: float
) -> None:
    """F1 falls off on both sides of a peak, and from some shift on too much is marked; one pair of constants helps."""
    usual, looked_at = MINI.regions, list[int]()
    better = next(one for one in (RegionSpec(*pair) for pair in FINISH.regions) if one != usual)

    def table(some: list[Any], shift: float, regions: RegionSpec, _: Preset) -> dict[str, float]:
        looked_at.append(len(some))
        too_much = 0.5 + shift / 10 if shift > marked_from else 0.01
        return {"f1": 0.6 - abs(shift - peak) / 10 + (0.01 if regions == better else 0), "marked": too_much}

    monkeypatch.setattr("model.training.finish.table", table)
    both: list[Any] = [looked("camera", number == 0, 0, 0) for number in range(301)]
    found, regions, _ = chosen(both, FINISH, MINI)
    assert found == shift
    assert regions == (better if marked_from > -9 else usual)
    assert set(looked_at) == {101, 301} and len(looked_at) < 21


def test_the_table_is_by_group() -> None:
    found = table(
        [
            looked("camera", True, 3, -4),
            looked("splices", True, -3, -4),
            looked("camera", False, -3, -4),
            looked("screen", False, 3, 3),
        ],
        0.0,
        RegionSpec(),
        MINI,
    )
    assert found["f1 camera"] > 0.8 and found["f1 splices"] == 0
    assert found["f1"] == pytest.approx(found["f1 camera"] / 2)
    assert (found["marked camera"], found["marked screen"], found["marked"]) == (0, 1, 1)


def features_of_two_groups(count: int = 160) -> tuple[Scored, NDArray[np.str_]]:
    """Features of two groups, of which only the first can be separated; photographs all."""
    rng = np.random.default_rng(0)
    forged = np.arange(count) % 2 == 1
    groups = np.where(np.arange(count) < count // 2, "camera", "lamps")
    features = rng.normal(0, 1, (count, len(FEATURES)))
    features[:, 0] += 6 * (forged & (groups == "camera"))
    features[:, FEATURES.index("colours")] += 20
    return Scored(features, forged, np.arange(count) // 2 % 2 == 1, np.ones(count), groups), groups


def test_each_half_is_judged_by_the_other() -> None:
    scored, groups = features_of_two_groups()
    found = across_halves(scored, groups)
    assert set(found) == {"camera forged", "camera untouched", "camera auc"} | {
        "lamps forged", "lamps untouched", "lamps auc"
    }  # fmt: skip
    assert found["camera auc"] > 0.95 and 0.2 < found["lamps auc"] < 0.8
    assert found["camera forged"]["forged"]["n"] == 40 and found["camera forged"]["forged"]["share"] > 0.3
    assert found["camera untouched"]["forged"]["share"] < 0.1 > found["lamps untouched"]["forged"]["share"]
    low, high = found["camera untouched"]["forged"]["interval"]
    assert low <= found["camera untouched"]["forged"]["share"] <= high


def test_pictures_of_one_kind_give_none() -> None:
    with pytest.raises(NoCalibrationError, match="all of one kind"):
        chosen([looked("camera", True, 3, -4)], FINISH, MINI)


def test_a_model_is_shifted_and_back() -> None:
    torch.manual_seed(0)
    model = build(TINY)
    bias = model.localization.head[-1].get_parameter("bias")
    before = bias.data.half().float()
    shifted(model, 0.75, RegionSpec(1.0, 9.0))
    assert torch.allclose(bias.data, before + 0.75, atol=1e-3) and model.preset.regions == RegionSpec(1.0, 9.0)
    shifted(model, -0.75, TINY.regions)
    assert torch.allclose(bias.data, before, atol=1e-3) and model.preset == TINY
