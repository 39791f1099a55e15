"""From a training run to the embedded model: fit the calibration on held-out photos, measure it, write the files.

    python scripts/finish_mini.py --run runs/first --data DATA --out model/weights/mini

The pictures are made from photos that training never saw; half of them fit the calibration, the other half measure it.
Forged and authentic ones go through the same histories, so that compression alone tells nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.calibration import Calibration, fit_logistic, image_score, reliability
from model.clue import build
from model.data.forge import Forgery, forge
from model.data.photo_bank import PhotoBank, bank_of
from model.prediction import Prediction
from model.predictor import Predictor
from model.presets import PRESETS
from model.storage import save

SIZES = ((256, 384), (384, 256), (480, 640), (320, 320))
FALSE_POSITIVE_RATE = 0.05


def samples(bank: PhotoBank, seed: int, count: int) -> Iterator[tuple[Forgery, NDArray[np.uint8]]]:
    """Half authentic, half forged, of several sizes."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        kind = "authentic" if index % 2 else str(rng.choice(["splice", "copy_move", "removal"], p=[0.5, 0.3, 0.2]))
        sample = forge(bank, rng, *SIZES[index % len(SIZES)], kind)
        yield sample, sample.pixels


def auc(forged: NDArray[np.float64], authentic: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a forged picture scores above an authentic one."""
    above = (forged[:, None] > authentic[None]).mean()
    return float(above + 0.5 * (forged[:, None] == authentic[None]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()
    cv2.setNumThreads(1)

    state = torch.load(args.run / "latest.pt", weights_only=True)
    model = build(PRESETS["mini"])
    model.load_state_dict(state["average"])
    # What is shipped is rounded to half precision: measure that, not what it was rounded from.
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    predictor = Predictor(model.eval())

    photos = args.data / "photos"
    folders = [photos / name for name in ("coco", "people", "web", "nature", "scenes")]
    mask_folders = [(photos / "coco_instances", "train2017_"), (photos / "people_masks", "")]
    bank = bank_of(folders, mask_folders, args.run / "cache-held-out", share=0.08, validation=True)
    bank.prepare()

    defaults = Calibration()
    scores, forged, f1, marked = [], [], [], []
    for result in predictor.predict(samples(bank, seed=77, count=args.count)):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        sample = result.key
        scores.append(image_score(result.heatmap, defaults.score_cells))
        forged.append(sample.kind != "authentic")
        mask = result.heatmap > defaults.pixel_threshold
        if sample.mask.any():
            f1.append(2 * (mask & sample.mask).sum() / (mask.sum() + sample.mask.sum()))
        else:
            marked.append(mask.mean())
    score, truth = np.array(scores), np.array(forged)
    fit = np.arange(len(score)) // 2 % 2 == 0
    slope, intercept = fit_logistic(score[fit], truth[fit])
    even = 1 / (1 + np.exp(intercept / slope))  # the score at which P(forged) is one half
    strict = max(even, float(np.quantile(score[fit & ~truth], 1 - FALSE_POSITIVE_RATE)))
    calibration = Calibration(
        name="mini-held-out-forgeries",
        score_threshold=round(float(strict), 6),
        no_evidence_below=round(float(even), 6),
        slope=slope,
        intercept=intercept,
        fitted_on=f"{int(fit.sum())} made pictures from held-out photos, half of them forged",
    )
    test = ~fit
    p = np.array([calibration.p_forged(s) for s in score[test]])
    figures = reliability(p, truth[test]) | {
        "auc": auc(score[test & truth], score[test & ~truth]),
        "forged_called_forged": float((score[test & truth] > strict).mean()),
        "authentic_called_forged": float((score[test & ~truth] > strict).mean()),
    }
    calibration = Calibration(**(calibration.to_dict() | {"figures": figures}))
    minutes = round(state["spent"] / 60)
    training = {"recipe": "scripts/train_mini_first.py", "steps": state["step"], "minutes": minutes}
    save(args.out, model, calibration, training)
    held_out = {"f1_held_out": float(np.mean(f1)), "n": len(f1), "marked_on_authentic": float(np.mean(marked))}
    print(json.dumps({"calibration": calibration.to_dict(), "training": training} | held_out, indent=1))


if __name__ == "__main__":
    main()
