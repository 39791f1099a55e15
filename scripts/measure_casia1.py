"""F1 of the embedded model and of trivial baselines on a folder in the layout of CASIA v1.

    python scripts/measure_casia1.py BENCH/CASIA1 --json casia1.json

BENCH/CASIA1 holds `Tp/` (forged), `Gt/` (masks of the same stem, `.png`, white = forged) and `Au/` (authentic). F1 and
IoU are per image, at full size, at `> 0.5` on float maps, averaged over the forged images, with a bootstrap 95 %
interval over images. The image-level AUC is measured after both classes were re-encoded alike as JPEG 90: as shipped,
the quantization tables alone tell the classes apart.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.calibration import image_score
from model.checkpoint import inspect
from model.prediction import Prediction
from model.predictor import Predictor
from model.storage import load

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def reencoded(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def truth_of(path: Path, root: Path) -> NDArray[np.bool_] | None:
    mask = root / "Gt" / f"{path.stem}.png"
    if not mask.is_file():
        return None
    with Image.open(mask) as image:
        return np.asarray(image.convert("L")) > 127


def error_level_analysis(pixels: Pixels) -> Map:
    """Krawetz 2007: recompress at quality 90; where the difference is large, the history may differ."""
    difference = np.abs(pixels.astype(np.int16) - reencoded(pixels, 90)).max(2).astype(np.float32)
    return difference / max(float(difference.max()), 1.0)


def all_forged(pixels: Pixels) -> Map:
    return np.ones(pixels.shape[:2], np.float32)


def centre_box(pixels: Pixels) -> Map:
    """The middle half of each side: a quarter of the area."""
    height, width = pixels.shape[:2]
    out = np.zeros((height, width), np.float32)
    out[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return out


def scores_of(marked: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 and IoU of one forged image."""
    both = float((marked & truth).sum())
    return 2 * both / float(marked.sum() + truth.sum()), both / float((marked | truth).sum())


def interval(values: list[float], seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    array = np.array(values)
    means = [float(rng.choice(array, array.size).mean()) for _ in range(2000)]
    return [round(float(v), 4) for v in np.quantile(means, [0.025, 0.975])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    checkpoint = inspect(args.model)
    predictor = Predictor(load(checkpoint, "cpu", torch.float32))
    problems: list[str] = []
    pairs: list[tuple[Path, NDArray[np.bool_]]] = []
    for path in sorted((args.root / "Tp").iterdir()):
        truth = truth_of(path, args.root)
        if truth is None or not truth.any() or truth.shape != read(path).shape[:2]:
            problems.append(f"{path.name}: mask missing, empty or of another size")
        else:
            pairs.append((path, truth))
    authentic = sorted((args.root / "Au").iterdir())

    def network(paths: list[Path], change: Callable[[Pixels], Pixels]) -> Iterator[Map]:
        for result in predictor.predict((path, change(read(path))) for path in paths):
            if not isinstance(result, Prediction):
                raise SystemExit(f"{result.key}: {result.message}")
            yield result.heatmap

    forged_paths = [path for path, _ in pairs]
    maps: dict[str, Iterator[Map]] = {
        "mini": network(forged_paths, lambda pixels: pixels),
        "mini after JPEG 70": network(forged_paths, lambda pixels: reencoded(pixels, 70)),
    }
    for name, method in (
        ("error level analysis", error_level_analysis),
        ("all forged", all_forged),
        ("centre box", centre_box),
    ):
        maps[name] = map(method, map(read, forged_paths))

    # At 0.5 of its own maximum ELA marks next to nothing: it also gets its best threshold on this very set.
    levels = np.linspace(0.02, 0.5, 25)
    ela = [
        [scores_of(m > level, truth)[0] for level in levels]
        for m, truth in ((error_level_analysis(read(path)), truth) for path, truth in pairs)
    ]
    best = np.array(ela).mean(0)

    results: dict[str, object] = {"model_digest": checkpoint.digest, "problems": problems}
    results["error level analysis, threshold chosen on this set"] = {
        "n": len(ela),
        "f1": round(float(best.max()), 4),
        "threshold": round(float(levels[best.argmax()]), 2),
    }
    for name, heatmaps in maps.items():
        pairs_of = [scores_of(m > 0.5, truth) for m, (_, truth) in zip(heatmaps, pairs, strict=True)]
        f1, iou = [v[0] for v in pairs_of], [v[1] for v in pairs_of]
        row = {"n": len(f1), "f1": round(float(np.mean(f1)), 4), "f1_interval": interval(f1)}
        if name == "mini":
            for kind, prefix in (("splice", "Sp_D"), ("copy-move", "Sp_S")):
                part = [v for v, path in zip(f1, forged_paths, strict=True) if path.name.startswith(prefix)]
                row[f"f1 {kind}"] = round(float(np.mean(part)), 4) if part else float("nan")
        results[name] = row | {"iou": round(float(np.mean(iou)), 4), "iou_interval": interval(iou)}
        print(name, results[name], flush=True)

    cells = checkpoint.calibration.score_cells
    scores = {}
    for kind, paths in (("forged", forged_paths), ("authentic", authentic)):
        scores[kind] = np.array([image_score(m, cells) for m in network(paths, lambda pixels: reencoded(pixels, 90))])
    areas = [float((m > 0.5).mean()) for m in network(authentic, lambda pixels: pixels)]
    above = scores["forged"][:, None] - scores["authentic"][None]
    results["image level, both classes re-encoded as JPEG 90"] = {
        "n": [len(scores["forged"]), len(scores["authentic"])],
        "auc": round(float((above > 0).mean() + 0.5 * (above == 0).mean()), 4),
    }
    results["authentic, original files"] = {"n": len(areas), "mean_marked_area": round(float(np.mean(areas)), 4)}
    print(json.dumps(results, indent=1))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
