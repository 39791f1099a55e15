"""From a training run to the embedded model: fit the calibration on held-out photos, measure it, write the files.

    python scripts/finish_mini.py --run runs/first --data DATA --out model/weights/mini

The pictures are made from photos that training never saw, in two halves; see `model.training.calibrate`. They also set
the operating point: what is added to all logits, so that `> 0.5` marks as much of forgeries as it can with little on
authentic pictures (`made_pictures.py`).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from made_pictures import SIZES, held_out_photos, samples
from numpy.typing import NDArray
from scipy.special import expit, logit

from model.calibration import Calibration, image_features
from model.clue import build
from model.completion import complete
from model.data.forge import KINDS, Forgery
from model.device import resolve
from model.prediction import Prediction
from model.predictor import Predictor
from model.presets import PRESETS
from model.presets.spec import EdgeSpec, RegionSpec
from model.storage import save
from model.training.calibrate import Scored, calibration_of

Logits = NDArray[np.float16]
SHIFTS = tuple(float(shift) for shift in np.arange(-1.0, 1.01, 0.25))
MARKED_ON_AUTHENTIC = 0.035
"""Share of the area that may be marked on authentic pictures on average, in the half where it is more."""
REGIONS = (("under 1 %", 0.0, 0.01), ("1 to 10 %", 0.01, 0.1), ("over 10 %", 0.1, 1.0))


def shifted(logits: Logits, shift: float) -> NDArray[np.float32]:
    """The heatmap that the network gives with that added to all logits."""
    heatmap: NDArray[np.float32] = expit(logits.astype(np.float32) + np.float32(shift))
    return heatmap


def completed(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the predictor makes of it, in place."""
    complete(heatmap, pixels, PRESETS["mini"].edges, PRESETS["mini"].regions)
    return heatmap


def operating_point(logits: list[Logits], forgeries: list[tuple[int, Forgery]]) -> float:
    """What to add to every logit, so that `> 0.5` gives the best mean F1 with little marked on authentic pictures.

    Args:
        logits: of the maps, H×W float16.
        forgeries: half and sample of each.

    Returns:
        One of SHIFTS: the smallest if none marks little enough in both halves.
    """
    best, chosen = -1.0, SHIFTS[0]
    for shift in SHIFTS:
        f1: list[float] = []
        area: dict[int, list[float]] = {0: [], 1: []}
        for z, (half, sample) in zip(logits, forgeries, strict=True):
            marked = completed(shifted(z, shift), sample.pixels) > 0.5
            if sample.mask.any():
                f1.append(2 * float((marked & sample.mask).sum()) / float(marked.sum() + sample.mask.sum()))
            else:
                area[half].append(float(marked.mean()))
        worse = max(float(np.mean(area[0])), float(np.mean(area[1])))
        print(f"shift {shift:+.2f}: F1 {np.mean(f1):.4f}, {worse:.2%} of authentic pictures", file=sys.stderr)
        if worse <= MARKED_ON_AUTHENTIC and np.mean(f1) > best:
            best, chosen = float(np.mean(f1)), shift
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--started-from", default="random weights", help="in words, for the training summary")
    parser.add_argument("--earlier", type=Path, help="another run, whose weights are averaged with those of --run")
    parser.add_argument("--earlier-share", type=float, default=0.3, help="how much of the average (%(default)s)")
    parser.add_argument("--count", type=int, default=600)
    args = parser.parse_args()
    cv2.setNumThreads(1)

    state = torch.load(args.run / "latest.pt", weights_only=True)
    model = build(PRESETS["mini"])
    weights = state["average"]
    if args.earlier:
        others, share = torch.load(args.earlier / "latest.pt", weights_only=True)["average"], args.earlier_share
        weights = {name: (1 - share) * tensor + share * others[name] for name, tensor in weights.items()}
    model.load_state_dict(weights)
    # What is shipped is rounded to half precision: measure that, not what it was rounded from.
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    as_it_is = copy.deepcopy(model)
    as_it_is.preset = dataclasses.replace(
        model.preset, regions=RegionSpec(), edges=EdgeSpec()
    )  # both depend on the shift
    predictor = Predictor(as_it_is.to(resolve("cpu", "auto")[1]).eval())

    bank = held_out_photos(args.data, args.run / "cache-calibration")

    forgeries: list[tuple[int, Forgery]] = []
    logits: list[Logits] = []
    for result in predictor.predict(samples(bank, seed=77, count=args.count)):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        forgeries.append(result.key)
        logits.append(logit(result.heatmap.clip(1e-6, 1 - 1e-6)).astype(np.float16))
    shift = operating_point(logits, forgeries)
    bias = model.localization.head[-1].get_parameter("bias")
    bias.data += shift
    bias.data = bias.data.half().float()

    rows, features = [], []
    for (half, sample), z in zip(forgeries, logits, strict=True):
        heatmap = shifted(z, shift)
        features.append(image_features(heatmap))
        mask = completed(heatmap, sample.pixels) > Calibration().pixel_threshold
        f1 = 2 * (mask & sample.mask).sum() / max(1, mask.sum() + sample.mask.sum())
        rows.append((sample.kind, half, mask.size, float(sample.mask.mean()), float(f1), float(mask.mean())))
    kinds = np.array([row[0] for row in rows])
    fit = np.array([row[1] == 0 for row in rows])
    pixels, region, f1s, marked = (np.array([row[column] for row in rows]) for column in (2, 3, 4, 5))
    truth, x = kinds != "authentic", np.array(features)
    scored = Scored(x, truth, ~fit, pixels / 1e6)
    calibration = calibration_of(scored, "mini-held-out-forgeries", "made pictures from held-out photos")
    minutes = round(state["spent"] / 60)
    training = {
        "recipe": "scripts/train_mini.py",
        "steps": state["step"],
        "minutes": minutes,
        "logit_shift": shift,
        "started_from": args.started_from,
    }
    save(args.out, model, calibration, training)
    held_out: dict[str, dict[str, float]] = {}
    groups = {kind: kinds == kind for kind in KINDS[1:]}
    groups |= {f"region {name}": truth & (region > low) & (region <= high) for name, low, high in REGIONS}
    groups |= {f"{height}×{width}": truth & (pixels == height * width) for height, width in SIZES[2:]}
    for name, group in ({"all forged": truth} | groups).items():
        held_out[name] = {"n": float(group.sum()), "f1": float(f1s[group].mean()) if group.any() else float("nan")}
    held_out["authentic"] = {"n": float((~truth).sum()), "marked_area": float(marked[~truth].mean())}
    print(json.dumps({"calibration": calibration.to_dict(), "training": training, "held_out": held_out}, indent=1))


if __name__ == "__main__":
    main()
