"""The operating point of a model: what is added to all logits, and which weaker regions of a picture are marked.

Both are fitted on untouched pictures of every kind and on forgeries of many, from photos that were neither trained nor
validated on, so that `> 0.5` marks as much of forgeries as it can with little on any kind of authentic picture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from model.calibration import proportion_interval
from model.clue import CLUE
from model.data.made_pictures import Made
from model.data.making import Finish
from model.data.mix import place
from model.postprocess import complete
from model.predictor import Prediction, Predictor
from model.preset import EdgeSpec, RegionSpec
from model.score import SCREEN, image_features, kind_of
from model.training.calibrate import FOLDS, NoCalibrationError, Scored, auc, fitted, scores, verdicts

ALIKE = {"native": "camera", "recompressed": "web"}
"""Groups that count as one for the thresholds, which 1 in 100 of few pictures cannot set."""

Heatmap = NDArray[np.float32]


@dataclass(slots=True)
class Looked:
    """What the network found in one picture, before any shift: logits H×W float16; and whether that is not changed."""

    made: Made
    logits: NDArray[np.float16]
    as_found: bool

    def heatmap(self, shift: float) -> Heatmap:
        """What it gives with that added to all logits."""
        found: Heatmap = expit(self.logits.astype(np.float32) + np.float32(shift))
        return found


def look_at_made(model: CLUE, pictures: Iterable[Made], stop: threading.Event) -> list[Looked]:
    """Run a model over pictures; neither drawn along edges nor weaker regions lowered. Fewer if `stop` is set."""
    preset, model.preset = model.preset, replace(model.preset, regions=RegionSpec(), edges=EdgeSpec())

    def until_stopped() -> Iterator[tuple[Made, NDArray[np.uint8]]]:
        for made in pictures:
            if stop.is_set():
                return
            yield made, made.pixels

    looked: list[Looked] = []
    try:
        for result in Predictor(model).predict(until_stopped()):
            if isinstance(result, Prediction):
                logits = logit(result.heatmap.clip(1e-6, 1 - 1e-6)).astype(np.float16)
                screen = kind_of(result.features) == SCREEN
                looked.append(Looked(result.key, logits, preset.screens_as_found and screen))
    finally:
        model.preset = preset
    return looked


def table(looked: Sequence[Looked], shift: float, regions: RegionSpec, edges: EdgeSpec) -> dict[str, float]:
    """Mean F1 of each group of forgeries, mean area marked of each of authentic pictures, and the mean F1 of groups."""
    f1: dict[str, list[float]] = {}
    area: dict[str, list[float]] = {}
    for one in looked:
        heatmap = one.heatmap(shift)
        if not one.as_found:
            complete(heatmap, one.made.pixels, edges, regions)
        marked, mask = heatmap > 0.5, one.made.mask
        if one.made.forged:
            both = 2 * float((marked & mask).sum()) / float(marked.sum() + mask.sum())
            f1.setdefault(one.made.group, []).append(both)
        else:
            area.setdefault(one.made.group, []).append(float(marked.mean()))
    out = {f"f1 {group}": float(np.mean(values)) for group, values in f1.items()}
    out |= {f"marked {group}": float(np.mean(values)) for group, values in area.items()}
    out["f1"] = float(np.mean([np.mean(values) for values in f1.values()]))
    out["marked"] = max(float(np.mean(values)) for values in area.values())
    return out


def chosen(
    looked: Sequence[Looked], finish: Finish, usual: RegionSpec, edges: EdgeSpec
) -> tuple[float, RegionSpec, dict[str, float]]:
    """The shift and the constants with the best F1 that mark little enough on every group of authentic pictures.

    Shifts are tried with the constants of the preset, by halves and then by quarters, on every third picture; then the
    constants, with the best shift. Returns what they give on all pictures, too.

    Raises:
        NoCalibrationError: no picture is forged, or none is authentic.
    """
    if len({one.made.forged for one in looked}) < 2:
        raise NoCalibrationError("the pictures to choose an operating point on are all of one kind")
    some = looked[:: 3 if len(looked) > 300 else 1]
    tried: dict[tuple[float, RegionSpec], dict[str, float]] = {}

    def best(shifts: Sequence[float], regions: Sequence[RegionSpec]) -> tuple[float, RegionSpec]:
        for pair in ((shift, one) for one in regions for shift in shifts):
            if pair not in tried:
                tried[pair] = table(some, *pair, edges)
        allowed = [pair for pair, found in tried.items() if found["marked"] <= finish.marked]
        fewest = min(tried, key=lambda pair: tried[pair]["marked"])
        return max(allowed, key=lambda pair: tried[pair]["f1"]) if allowed else fewest

    shift, _ = best(finish.shifts, [usual])
    shift, _ = best([shift - 0.25, shift + 0.25], [usual])
    shift, found = best([shift], [RegionSpec(*pair) for pair in finish.regions])
    return shift, found, table(looked, shift, found, edges)


def shifted(model: CLUE, shift: float, regions: RegionSpec) -> None:
    """Give a model its operating point, in place; its bias is rounded as it is stored."""
    bias = model.localization.head[-1].get_parameter("bias")
    bias.data = (bias.data + shift).half().float()
    model.preset = replace(model.preset, regions=regions)


def scored_at(looked: Sequence[Looked], shift: float) -> tuple[Scored, NDArray[np.str_]]:
    """What the score is fitted on, and the group of each picture, n."""
    groups = np.array([one.made.group for one in looked])
    scored = Scored(
        features=np.array([image_features(one.heatmap(shift), one.made.pixels) for one in looked]),
        forged=np.array([one.made.forged for one in looked]),
        measures=np.array([one.made.half == 1 for one in looked]),
        megapixels=np.array([one.logits.size / 1e6 for one in looked]),
        groups=np.array([ALIKE.get(group, group) for group in groups]),
        folds=np.array([int(place(f"fold {one.made.source}") * FOLDS) for one in looked]),
    )
    return scored, groups


def across_halves(scored: Scored, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Verdicts on each half by what was fitted on the other: of each group, forged and inconclusive; and AUC.

    Raises:
        NoCalibrationError: a half gives none.
    """
    found = np.zeros(len(groups), np.int64)
    score = np.zeros(len(groups))
    for own, other in ((scored.measures, ~scored.measures), (~scored.measures, scored.measures)):
        one = fitted(scored.part(other))
        score[own] = scores(one, scored.features[own])
        found[own] = verdicts(one, scored.features[own], score[own])
    out: dict[str, Any] = {}
    for group in np.unique(groups):
        for forged in (False, True):
            which = (groups == group) & (scored.forged == forged)
            if which.any():
                name = f"{group} {'forged' if forged else 'untouched'}"
                out[name] = {"forged": share(found[which] == 2), "inconclusive": share(found[which] == 1)}
        areas = [
            auc(score[own & scored.forged], score[own & ~scored.forged])
            for own in ((groups == group) & half for half in (scored.measures, ~scored.measures))
            if scored.forged[own].any() and not scored.forged[own].all()
        ]
        if areas:
            out[f"{group} auc"] = round(float(np.mean(areas)), 4)
    return out


def share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """A proportion with its exact interval."""
    low, high = proportion_interval(int(hits.sum()), len(hits))
    return {"n": len(hits), "share": round(float(hits.mean()), 4), "interval": [round(low, 4), round(high, 4)]}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """For the log."""
    return {name: round(value, 4) for name, value in values.items()}
