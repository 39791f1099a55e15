"""From a training run to the embedded model: fit the calibration on held-out photos, measure it, write the files.

    python scripts/finish_mini.py --run runs/first --data DATA --out model/weights/mini

The pictures are made from photos that training never saw; half of those photos fit the calibration, the other half
measure it. Forged and authentic ones have the same sizes and go through the same histories.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.calibration import Calibration, fit_logistic, image_score, reliability
from model.clue import build
from model.data.forge import KINDS, Forgery, forge
from model.data.photo_bank import Cutout, PhotoBank, bank_of
from model.prediction import Prediction
from model.predictor import Predictor
from model.presets import PRESETS
from model.storage import save

SIZES = ((256, 384), (384, 256), (320, 320), (480, 640), (768, 1024))
FALSE_POSITIVE_RATE = 0.05
REGIONS = (("under 1 %", 0.0, 0.01), ("1 to 10 %", 0.01, 0.1), ("over 10 %", 0.1, 1.0))


def halves(bank: PhotoBank, cache: Path) -> list[PhotoBank]:
    """Two banks that share no photo."""
    banks = []
    for half in (0, 1):
        paths = [path for path in bank.paths if hashlib.sha256(path.name.encode()).digest()[31] % 2 == half]
        index = {path: number for number, path in enumerate(paths)}
        cutouts = [Cutout(index[bank.paths[c.photo]], c.path) for c in bank.cutouts if bank.paths[c.photo] in index]
        banks.append(PhotoBank(paths, cutouts, cache / str(half)))
        banks[-1].prepare()
    return banks


def samples(banks: list[PhotoBank], seed: int, count: int) -> Iterator[tuple[tuple[int, Forgery], NDArray[np.uint8]]]:
    """((half, sample), pixels): of each half and each size as many authentic as forged ones, of every kind."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        forged, half, size = index % 2 == 1, index // 2 % 2, SIZES[index // 4 % len(SIZES)]
        kind = str(rng.choice(KINDS[1:], p=[0.45, 0.25, 0.15, 0.15])) if forged else "authentic"
        sample = forge(banks[half], rng, *size, kind)
        yield (half, sample), sample.pixels


def auc(forged: NDArray[np.float64], authentic: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a forged picture scores above an authentic one."""
    above = (forged[:, None] > authentic[None]).mean()
    return float(above + 0.5 * (forged[:, None] == authentic[None]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600)
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
    bank = bank_of(folders, mask_folders, args.run / "cache-calibration", share=0.08, validation=True)
    banks = halves(bank, args.run / "cache-calibration")

    defaults = Calibration()
    rows = []
    for result in predictor.predict(samples(banks, seed=77, count=args.count)):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        half, sample = result.key
        mask = result.heatmap > defaults.pixel_threshold
        f1 = 2 * (mask & sample.mask).sum() / max(1, mask.sum() + sample.mask.sum())
        score = image_score(result.heatmap, defaults.score_cells)
        rows.append((score, sample.kind, half, mask.size, float(sample.mask.mean()), float(f1), float(mask.mean())))
    score = np.array([row[0] for row in rows])
    kinds = np.array([row[1] for row in rows])
    fit = np.array([row[2] == 0 for row in rows])
    pixels, region, f1s, marked = (np.array([row[column] for row in rows]) for column in (3, 4, 5, 6))
    truth = kinds != "authentic"
    slope, intercept = fit_logistic(score[fit], truth[fit])
    even = 1 / (1 + np.exp(intercept / slope))  # the score at which P(forged) is one half
    strict = max(even, float(np.quantile(score[fit & ~truth], 1 - FALSE_POSITIVE_RATE)))
    calibration = Calibration(
        name="mini-held-out-forgeries",
        score_threshold=round(float(strict), 6),
        no_evidence_below=round(float(even), 6),
        slope=slope,
        intercept=intercept,
        fitted_on=f"{int(fit.sum())} made pictures from held-out photos, {float(truth[fit].mean()):.0%} of them forged",
        fitted_megapixels=(round(float(pixels.min()) / 1e6, 3), round(float(pixels.max()) / 1e6, 3)),
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
