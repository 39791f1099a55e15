"""The bars of the embedded model: CASIA v1, forgeries made from held-out photos, trivial and classical baselines.

    python scripts/measure_mini.py BENCH/CASIA1 --data DATA --json mini.json

BENCH/CASIA1 holds `Tp/` (forged), `Gt/` (masks of the same stem, `.png`, white = forged) and `Au/` (authentic). F1 and
IoU are per image, at full size, at `> 0.5` on float maps, averaged over the forged images, with a bootstrap 95 %
interval over images. The image-level AUC is measured after both classes were re-encoded alike as JPEG 90: as shipped,
the quantization tables alone tell the classes apart. DATA/photos/scenes gives photos of 1,000 pixels and more, of which
those that training never saw are forged in regions under 1 % of the area (left out without --data).
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.hooks import RemovableHandle

from model.checkpoint import inspect
from model.clue import CLUE
from model.data.forge import Forgery, forge
from model.data.photo_bank import bank_of
from model.device import resolve
from model.evaluation.classical.error_level_analysis import error_level_analysis
from model.evaluation.classical.jpeg_ghosts import jpeg_ghosts
from model.evaluation.classical.noise_inconsistency import noise_inconsistency
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


def all_forged(pixels: Pixels) -> Map:
    return np.ones(pixels.shape[:2], np.float32)


def centre_box(pixels: Pixels) -> Map:
    """The middle half of each side: a quarter of the area."""
    height, width = pixels.shape[:2]
    out = np.zeros((height, width), np.float32)
    out[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return out


CLASSICAL = {
    "error level analysis": error_level_analysis,
    "JPEG ghosts": jpeg_ghosts,
    "noise inconsistency": noise_inconsistency,
}


def judged(
    method: Callable[[Pixels], Map], pairs: list[tuple[Path, NDArray[np.bool_]]]
) -> Iterator[tuple[Map, NDArray[np.bool_]]]:
    """A method's map of each picture, beside the truth."""
    for path, truth in pairs:
        yield method(read(path)), truth


def scores_of(marked: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 and IoU of one forged image."""
    both = float((marked & truth).sum())
    return 2 * both / float(marked.sum() + truth.sum()), both / float((marked | truth).sum())


def interval(values: list[float], seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    array = np.array(values)
    means = [float(rng.choice(array, array.size).mean()) for _ in range(2000)]
    return [round(float(v), 4) for v in np.quantile(means, [0.025, 0.975])]


def small_forgeries(data: Path, count: int, cache: Path) -> Iterator[tuple[Forgery, Pixels]]:
    """Forgeries of 1024×768 pixels with regions under 1 %, made from large photos that training never saw."""
    mask_folders = [(data / "photos" / "coco_instances", "train2017_"), (data / "photos" / "people_masks", "")]
    bank = bank_of([data / "photos" / "scenes"], mask_folders, cache, share=0.08, validation=True)
    bank.prepare()
    for index in range(count):
        rng = np.random.default_rng([91, index])
        while True:
            kind = str(rng.choice(["splice", "copy_move", "removal", "local_edit"], p=[0.45, 0.25, 0.15, 0.15]))
            sample = forge(bank, rng, 768, 1024, kind)
            if 0 < sample.mask.mean() < 0.01:
                yield sample, sample.pixels
                break


def small_regions(data: Path, predictor: Predictor, count: int = 80) -> dict[str, object]:
    """F1 of the embedded model on them, by kind."""
    f1: list[float] = []
    kinds: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        for result in predictor.predict(small_forgeries(data, count, Path(cache))):
            if not isinstance(result, Prediction):
                raise SystemExit(result.message)
            f1.append(scores_of(result.heatmap > 0.5, result.key.mask)[0])
            kinds.append(result.key.kind)
    by_kind = {
        k: round(float(np.mean([v for v, own in zip(f1, kinds, strict=True) if own == k])), 4) for k in set(kinds)
    }
    return {"n": len(f1), "f1": round(float(np.mean(f1)), 4), "f1_interval": interval(f1), "f1 by kind": by_kind}


def no_noise(model: CLUE) -> list[RemovableHandle]:
    """ε = 0, the level as it is: z_t = (1 - t)·z0."""
    assert model.sd3 is not None
    return [model.sd3.register_forward_pre_hook(lambda _, inputs: (inputs[0], torch.zeros_like(inputs[1])))]


def no_matches(model: CLUE) -> list[RemovableHandle]:
    """Nothing in the image resembles anything else of it."""
    assert model.view is not None
    return [model.view.register_forward_pre_hook(lambda _, inputs: (inputs[0], None))]


def no_sd3(model: CLUE) -> list[RemovableHandle]:
    """The branch's projection at its mean, which GroupNorm puts at its bias."""
    return [_constant(model.fusion.sd3)]


def no_sam(model: CLUE) -> list[RemovableHandle]:
    """The same for the other branch, and with it the early view."""
    return [_constant(model.fusion.sam)]


def _constant(projection: nn.Sequential | None) -> RemovableHandle:
    assert projection is not None
    bias = projection[1].get_parameter("bias")
    return projection.register_forward_hook(lambda _, __, output: bias[None, :, None, None].expand_as(output))


PARTS: dict[str, Callable[[CLUE], list[RemovableHandle]]] = {
    "as it is": lambda _: [],
    "without noise": no_noise,
    "without the maps of self-similarity": no_matches,
    "without the SD3 branch": no_sd3,
    "without the SAM branch and the early view": no_sam,
}


def parts(predictor: Predictor, pairs: list[tuple[Path, NDArray[np.bool_]]]) -> dict[str, object]:
    """F1 of the network with one part after the other switched off."""
    out: dict[str, object] = {"n": len(pairs)}
    for name, switch_off in PARTS.items():
        handles = switch_off(predictor.model)
        f1 = []
        for (_, truth), result in zip(pairs, predictor.predict((p, read(p)) for p, _ in pairs), strict=True):
            if not isinstance(result, Prediction):
                raise SystemExit(result.message)
            f1.append(scores_of(result.heatmap > 0.5, truth)[0])
        for handle in handles:
            handle.remove()
        out[name] = {"f1": round(float(np.mean(f1)), 4), "f1_interval": interval(f1)}
        print(name, out[name], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--data", type=Path, help="holds photos/scenes, for small regions in large photos")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--parts", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    checkpoint = inspect(args.model)
    predictor = Predictor(load(checkpoint, *resolve("cpu", args.dtype)))
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
    for name, method in (CLASSICAL | {"all forged": all_forged, "centre box": centre_box}).items():
        maps[name] = (heatmap for heatmap, _ in judged(method, pairs))

    # A classical map has no calibrated 0.5: each also gets the best threshold on this very set.
    levels = np.linspace(0.02, 0.98, 49)
    results: dict[str, object] = {"model_digest": checkpoint.digest, "problems": problems}
    for name, method in CLASSICAL.items():
        best = np.mean([[scores_of(m > t, truth)[0] for t in levels] for m, truth in judged(method, pairs)], 0)
        results[f"{name}, threshold chosen on this set"] = {
            "n": len(pairs),
            "f1": round(float(best.max()), 4),
            "threshold": round(float(levels[best.argmax()]), 2),
        }
    if args.parts:
        results[f"parts switched off, every {args.parts}. forged image"] = parts(predictor, pairs[:: args.parts])
    if args.data:
        results["held-out photos of 1,000 pixels and more, regions under 1 %"] = small_regions(args.data, predictor)
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

    score = checkpoint.calibration.score
    scores = {}
    for kind, paths in (("forged", forged_paths), ("authentic", authentic)):
        scores[kind] = np.array([score(m) for m in network(paths, lambda pixels: reencoded(pixels, 90))])
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
