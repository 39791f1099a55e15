"""From a training run to the embedded model: operating point, score and thresholds, fitted on what it never saw.

    python scripts/finish_mini.py --run runs/next --data DATA --screens SCREENS --out model/weights/mini

The pictures are untouched ones of every kind and forgeries of many (`made_pictures.py`), in two halves that share no
photo, camera or template. They set what is added to all logits, so that `> 0.5` marks as much of forgeries as it can
with little on any kind of authentic picture; which of the weaker regions of a picture are marked; and the score, its
confidence, and a threshold that 1 in 100 of each kind exceed, of screens 1 in 200. The figures printed are those of
each half judged by what the other half gives.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from made_pictures import HeldOut, Made, chained
from mini_samples import digest
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.special import expit, logit
from torch import Tensor

from model.calibration import image_features, kind_of
from model.clue import build
from model.conformal import proportion_interval
from model.device import resolve
from model.picture import SCREEN
from model.prediction import Prediction
from model.predictor import Predictor, complete
from model.presets import PRESETS
from model.presets.spec import EdgeSpec, RegionSpec
from model.storage import save
from model.training.calibrate import FOLDS, Scored, auc, calibration_of, fitted, scores, verdicts

SEED = 77
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
MARKED_ON_AUTHENTIC = 0.025
"""Share of the area that may be marked on authentic pictures on average, in the group where it is most."""
ALIKE = {"native": "camera", "recompressed": "web"}
"""Groups that count as one for the thresholds, which 1 in 100 of few pictures cannot set."""
REGIONS = ((0.5, 8.0), (0.75, 9.0), (1.0, 8.0), (1.0, 9.0), (1.5, 6.0), (1.5, 8.0))
"""Pairs of `RegionSpec` that are tried."""

Heatmap = NDArray[np.float32]


def weights_of(path: Path) -> dict[str, Tensor]:
    """The mean weights of a run, or those of a file."""
    if path.suffix == ".safetensors":
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    average: dict[str, Tensor] = torch.load(path / "latest.pt", weights_only=True)["average"]
    return average


def averaged(one: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) of one and share of the other; what the view of `other` does not have counts as zero."""
    out = {}
    for name, tensor in one.items():
        theirs = other[name]
        if theirs.shape != tensor.shape:
            wide = torch.zeros_like(tensor)
            wide[:, : theirs.shape[1]] = theirs
            theirs = wide
        out[name] = (1 - share) * tensor + share * theirs
    return out


def pictures(held_out: HeldOut, seed: int, scale: float) -> list[Made]:
    """What is fitted on, or, with another seed, measured on."""
    counts = [round(count * scale) for count in (212, 480, 90, 110, 110)]
    makers = (held_out.native, held_out.web, held_out.copy_moves, held_out.splices, held_out.documents)
    parts = [make(seed, count) for make, count in zip(makers, counts, strict=True)]
    return list(chained([held_out.untouched(0 if seed == SEED else 1), *parts]))


def f1_of(marked: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Of one forged picture."""
    return 2 * float((marked & mask).sum()) / float(marked.sum() + mask.sum())


@dataclasses.dataclass
class Looked:
    """What the network found in one picture, before any shift: logits H×W float16; and whether it is a screen."""

    made: Made
    logits: NDArray[np.float16]
    screen: bool

    def heatmap(self, shift: float) -> Heatmap:
        """What it gives with that added to all logits."""
        found: Heatmap = expit(self.logits.astype(np.float32) + np.float32(shift))
        return found


def table(looked: list[Looked], shift: float, regions: RegionSpec) -> dict[str, float]:
    """Mean F1 of each group of forgeries, mean area marked of each of authentic pictures, and the mean F1 of groups."""
    f1: dict[str, list[float]] = {}
    area: dict[str, list[float]] = {}
    for one in looked:
        heatmap = one.heatmap(shift)
        if not one.screen:
            complete(heatmap, one.made.pixels, PRESETS["mini"].edges, regions)
        marked = heatmap > 0.5
        if one.made.forged:
            f1.setdefault(one.made.group, []).append(f1_of(marked, one.made.mask))
        else:
            area.setdefault(one.made.group, []).append(float(marked.mean()))
    out = {f"f1 {group}": float(np.mean(values)) for group, values in f1.items()}
    out |= {f"marked {group}": float(np.mean(values)) for group, values in area.items()}
    out["f1"] = float(np.mean([np.mean(values) for values in f1.values()]))
    out["marked"] = max(float(np.mean(values)) for values in area.values())
    return out


def chosen(looked: list[Looked]) -> tuple[float, RegionSpec]:
    """The shift and the constants with the best F1 that mark little enough on every group of authentic pictures.

    Shifts are tried with the constants of the preset, by halves and then by quarters, on every third picture; then the
    constants, with the best shift.
    """
    some = looked[:: 3 if len(looked) > 300 else 1]
    tried: dict[tuple[float, RegionSpec], dict[str, float]] = {}

    def best(shifts: Sequence[float], regions: Sequence[RegionSpec]) -> tuple[float, RegionSpec]:
        for pair in ((shift, one) for one in regions for shift in shifts):
            if pair not in tried:
                tried[pair] = table(some, *pair)
                print(f"{pair[1].weaker:g} {pair[1].certain:g} {pair[0]:+.2f} {rounded(tried[pair])}", file=sys.stderr)
        allowed = [pair for pair, found in tried.items() if found["marked"] <= MARKED_ON_AUTHENTIC]
        fewest = min(tried, key=lambda pair: tried[pair]["marked"])
        return max(allowed, key=lambda pair: tried[pair]["f1"]) if allowed else fewest

    usual = PRESETS["mini"].regions
    shift, _ = best(SHIFTS, [usual])
    shift, _ = best([shift - 0.25, shift + 0.25], [usual])
    return best([shift], [RegionSpec(weaker=weaker, certain=certain) for weaker, certain in REGIONS])


def rounded(values: dict[str, float]) -> dict[str, float]:
    """For printing."""
    return {name: round(value, 4) for name, value in values.items()}


def share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """A proportion with its exact interval."""
    low, high = proportion_interval(int(hits.sum()), len(hits)) if len(hits) else (0.0, 1.0)
    return {"n": len(hits), "share": round(float(hits.mean()), 4), "interval": [round(low, 4), round(high, 4)]}


def across_halves(scored: Scored, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Verdicts on each half by what was fitted on the other: of each group, forged and inconclusive; and AUC."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a training, or a file of weights")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--screens", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--started-from", default="random weights", help="in words, for the training summary")
    parser.add_argument("--earlier", type=Path, help="other weights, averaged with those of --run")
    parser.add_argument("--earlier-share", type=float, default=0.3, help="how much of the average (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of made pictures (%(default)s)")
    parser.add_argument("--shift", type=float, help="the operating point, where it is known")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    weights = weights_of(args.run)
    if args.earlier:
        weights = averaged(weights, weights_of(args.earlier), args.earlier_share)
    model = build(PRESETS["mini"])
    name = "view.project.weight"
    if weights[name].shape != model.state_dict()[name].shape:
        weights = averaged(model.state_dict(), weights, 1.0)
    # What is shipped is rounded to half precision: measure that, not what it was rounded from.
    model.load_state_dict({name: tensor.half().float() for name, tensor in weights.items()})
    as_it_is = copy.deepcopy(model)  # edges and regions depend on the shift
    as_it_is.preset = dataclasses.replace(model.preset, regions=RegionSpec(), edges=EdgeSpec())
    predictor = Predictor(as_it_is.to(resolve("cpu", "auto")[1]).eval())

    held_out = HeldOut(args.data, args.screens)
    looked: list[Looked] = []
    for result in predictor.predict((made, made.pixels) for made in pictures(held_out, SEED, args.scale)):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        logits = logit(result.heatmap.clip(1e-6, 1 - 1e-6)).astype(np.float16)
        looked.append(Looked(result.key, logits, kind_of(result.features) == SCREEN))
    print(f"{len(looked)} pictures", file=sys.stderr, flush=True)

    shift, regions = chosen(looked) if args.shift is None else (args.shift, PRESETS["mini"].regions)
    bias = model.localization.head[-1].get_parameter("bias")
    bias.data = (bias.data + shift).half().float()
    model.preset = dataclasses.replace(model.preset, regions=regions)

    groups = np.array([one.made.group for one in looked])
    scored = Scored(
        features=np.array([image_features(one.heatmap(shift), one.made.pixels) for one in looked]),
        forged=np.array([one.made.forged for one in looked]),
        measures=np.array([one.made.half == 1 for one in looked]),
        megapixels=np.array([one.logits.size / 1e6 for one in looked]),
        groups=np.array([ALIKE.get(group, group) for group in groups]),
        folds=np.array([digest(f"fold {one.made.source}") % FOLDS for one in looked]),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez(
        args.out / "scored.npz", **dataclasses.asdict(scored), sources=np.array([one.made.source for one in looked])
    )
    calibration = calibration_of(scored, "mini-held-out", "untouched and made pictures from held-out photos")
    state = torch.load(args.run / "latest.pt", weights_only=True) if args.run.is_dir() else {}
    training = {
        "recipe": "scripts/train_mini.py",
        "steps": state.get("step", 0),
        "minutes": round(state.get("spent", 0.0) / 60),
        "logit_shift": shift,
        "started_from": args.started_from,
    }
    save(args.out, model, calibration, training)
    print(
        json.dumps(
            {
                "calibration": calibration.to_dict(),
                "training": training,
                "regions": dataclasses.asdict(regions),
                "pixels": rounded(table(looked, shift, regions)),
                "across halves": across_halves(scored, groups),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
